//! The workload by flags.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use troika_planner::catalogue::Destination;
use troika_planner::cost::Backend;
use troika_planner::plan::workload::{Acquire, Expenses, Form, Prefer, Privacy, Supply, Task};

/// What is to be done; the same names as in a file.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Workload")]
pub(super) struct WorkloadArgs {
    /// What the model is for [default: chat]
    #[arg(long, value_enum, value_name = "TASK")]
    task: Option<Word<Task>>,
    /// A name from the catalogue, an installed model, a .gguf file, or `best` [default: best]
    #[arg(short, long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// How weights are stored, such as Q4_K_M, or `best`: the most precise that is fast enough [default: Q4_K_M]
    #[arg(long, value_name = "NAME")]
    quantization: Option<String>,
    /// Tokens of context for each user [default: what prompt and answer take, at least 4096]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    ctx: Option<u32>,
    /// Bits of a value in the KV cache [default: 16]
    #[arg(long, value_name = "BITS", allow_negative_numbers = true)]
    kv_bits: Option<f64>,
    /// Requests that run side by side [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    users: Option<u32>,
    /// Requests of all users in a day [default: 100 for each user]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    requests_per_day: Option<f64>,
    /// Tokens of a prompt [default: by task]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    prompt_tokens: Option<u32>,
    /// Tokens of an answer [default: by task]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    gen_tokens: Option<u32>,
}

/// What is wanted of whoever does it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Wants and limits")]
pub(super) struct LimitArgs {
    /// Seconds to the first token, at most [default: by task]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    ttft: Option<f64>,
    /// Answer tokens a second for each user, at least [default: by task]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    tps: Option<f64>,
    /// Where the work may be done [default: any]
    #[arg(long, value_enum, value_name = "WHERE")]
    privacy: Option<Word<Privacy>>,
    /// Where the power comes from [default: mains]
    #[arg(long, value_enum, value_name = "SUPPLY")]
    power: Option<Word<Supply>>,
    /// Watts at work, at most
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    watts_max: Option<f64>,
    /// How hardware may be come by [default: any]
    #[arg(long, value_enum, value_name = "HOW")]
    acquire: Option<Word<Acquire>>,
    /// US dollars to spend at once, at most
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    budget: Option<f64>,
    /// US dollars a month, at most
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    budget_month: Option<f64>,
    /// Months until what is bought is replaced [default: 48]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    lifetime_months: Option<f64>,
    /// Share of its price that it is sold for then [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    residual: Option<f64>,
    /// Hours a day in which it is at hand [default: 8]
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true)]
    hours_per_day: Option<f64>,
    /// Hours a day in which all users come at once; in the others, half [default: a quarter of the hours]
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true)]
    peak_hours: Option<f64>,
    /// Country whose electricity is used, by name or code [default: US]
    #[arg(long, value_name = "COUNTRY")]
    country: Option<String>,
    /// Software that it has to run on
    #[arg(long, value_enum, value_name = "NAME")]
    ecosystem: Option<Word<Backend>>,
    /// What decides between those that do all that is wanted [default: cost]
    #[arg(long, value_enum, value_name = "WHAT")]
    prefer: Option<Word<Prefer>>,
}

/// What is paid beside hardware, rent and electricity.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Expenses")]
pub(super) struct ExpenseArgs {
    /// GB a month that leave the cloud, where one is rented
    #[arg(long, value_name = "GB", allow_negative_numbers = true, global = true)]
    egress_gb: Option<f64>,
    /// Where they go [default: internet]
    #[arg(long, value_enum, value_name = "WHERE", global = true)]
    egress_to: Option<Word<Destination>>,
    /// Hours a month that people spend on hardware of your own
    #[arg(
        long,
        value_name = "HOURS",
        allow_negative_numbers = true,
        global = true
    )]
    staff_hours: Option<f64>,
    /// US dollars that such an hour costs
    #[arg(long, value_name = "USD", allow_negative_numbers = true, global = true)]
    staff_usd_hour: Option<f64>,
    /// What the place of your hardware draws for each watt of it: 1.3 to 1.5 in many data centres [default: 1]
    #[arg(
        long,
        value_name = "RATIO",
        allow_negative_numbers = true,
        global = true
    )]
    pue: Option<f64>,
    /// US dollars of a training that comes before, wherever the model runs then
    #[arg(long, value_name = "USD", allow_negative_numbers = true, global = true)]
    training_usd: Option<f64>,
    /// Months until it is done again [default: never]
    #[arg(long, value_name = "N", allow_negative_numbers = true, global = true)]
    training_months: Option<f64>,
}

impl From<&ExpenseArgs> for Expenses {
    fn from(args: &ExpenseArgs) -> Self {
        Self {
            egress_gb_month: args.egress_gb,
            egress_to: word(args.egress_to),
            staff_hours_month: args.staff_hours,
            staff_usd_hour: args.staff_usd_hour,
            pue: args.pue,
            training_usd: args.training_usd,
            training_months: args.training_months,
        }
    }
}

/// What the flags say.
pub(super) fn form(workload: &WorkloadArgs, limits: &LimitArgs, expenses: &ExpenseArgs) -> Form {
    Form {
        task: word(workload.task),
        model: workload.model.clone(),
        quantization: workload.quantization.clone(),
        context: workload.ctx,
        kv_bits: workload.kv_bits,
        users: workload.users,
        requests_per_day: workload.requests_per_day,
        prompt_tokens: workload.prompt_tokens,
        gen_tokens: workload.gen_tokens,
        ttft_s: limits.ttft,
        tps: limits.tps,
        privacy: word(limits.privacy),
        supply: word(limits.power),
        watts_max: limits.watts_max,
        acquire: word(limits.acquire),
        budget_usd: limits.budget,
        budget_usd_month: limits.budget_month,
        lifetime_months: limits.lifetime_months,
        residual: limits.residual,
        hours_per_day: limits.hours_per_day,
        peak_hours: limits.peak_hours,
        country: limits.country.clone(),
        ecosystem: word(limits.ecosystem),
        prefer: word(limits.prefer),
        expenses: expenses.into(),
    }
}

fn word<T>(word: Option<Word<T>>) -> Option<T> {
    word.map(|word| word.0)
}

/// A planner's word on the command line. The planner knows nothing of command lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<T>(pub(super) T);

macro_rules! words {
    ($($type:ty { $($variant:ident => $name:literal,)* })*) => {$(
        impl ValueEnum for Word<$type> {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self(<$type>::$variant)),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                let name = match self.0 {
                    $(<$type>::$variant => $name,)*
                };
                Some(PossibleValue::new(name))
            }
        }
    )*};
}

words! {
    Task {
        Chat => "chat",
        Code => "code",
        Agent => "agent",
        Rag => "rag",
        Embed => "embed",
        Transcribe => "transcribe",
        Vision => "vision",
        Train => "train",
    }
    Privacy {
        LocalOnly => "local-only",
        Any => "any",
    }
    Supply {
        Mains => "mains",
        Battery => "battery",
    }
    Acquire {
        Any => "any",
        Own => "own",
        Buy => "buy",
        Rent => "rent",
    }
    Destination {
        Internet => "internet",
        Region => "region",
        Zone => "zone",
    }
    Prefer {
        Cost => "cost",
        Speed => "speed",
        Watts => "watts",
    }
    Backend {
        Cuda => "cuda",
        Rocm => "rocm",
        Metal => "metal",
        Vulkan => "vulkan",
        Sycl => "sycl",
        OpenVino => "openvino",
        Qnn => "qnn",
        VitisAi => "vitisai",
        CoreMl => "coreml",
        Cpu => "cpu",
    }
}
