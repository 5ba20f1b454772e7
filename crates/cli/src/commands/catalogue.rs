//! `troika catalogue`: what others publish about chips, models, prices and software, and a user's own rows.

mod found;
mod show;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use troika_planner::catalogue::{
    Block, Catalogue, Chip, Class, Date, Defect, Format, Kind, Memory, Rate, Source, Unit, add,
    chip_text, validate,
};

use self::found::Found;
use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{self, Console};

/// Look up chips, models, prices and what software runs them; add your own
///
/// Rows of your own stand in $TROIKA_HOME/catalogue/*.toml and win over built-in rows of the same name.
#[derive(Debug, Args)]
pub(crate) struct CatalogueArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the rows that have all of some words in their names, vendors or families
    Search(SearchArgs),
    /// Show everything that is known of a chip, a model, a machine or a country, with its source
    Show(ShowArgs),
    /// Add a chip, or the rows of a TOML file
    Add(Box<AddArgs>),
    /// Check all rows, yours too: units, ranges, names, sources, references
    Check,
}

/// A file of rows is some kilobytes.
const ROWS_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
struct SearchArgs {
    /// Words, such as `rtx 24gb`, `apple m4`, `qwen3`
    #[arg(required = true, value_name = "WORD")]
    words: Vec<String>,
    /// Rows of each kind to show at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// A name as you would write it: `rtx 4090`, `M4 Max 40-core`, `llama3.1:8b`, `DE`
    #[arg(required = true, value_name = "NAME")]
    name: Vec<String>,
}

/// Describes a chip, or names a file.
#[derive(Debug, Args)]
struct AddArgs {
    /// TOML file of rows, in the form of docs/formats/catalogue.md
    #[arg(value_name = "FILE", conflicts_with = "name")]
    file: Option<PathBuf>,
    /// Name of the chip
    #[arg(long, required_unless_present = "file")]
    name: Option<String>,
    /// Another name of it; may be given again
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Who makes it, in lower case
    #[arg(long, default_value = "unknown")]
    vendor: String,
    /// What it is
    #[arg(long, value_enum, default_value_t = KindArg::Gpu)]
    kind: KindArg,
    /// Where it is used
    #[arg(long, value_enum, default_value_t = ClassArg::Desktop)]
    class: ClassArg,
    /// Its generation, such as `ada` or `rdna3`: the cost model goes by it
    #[arg(long, default_value = "unknown")]
    family: String,
    /// Memory; of a soc, the size that yours has
    #[arg(long, value_name = "GB", allow_negative_numbers = true)]
    memory: Option<f64>,
    /// Bandwidth of its memory
    #[arg(long, value_name = "GB/S", allow_negative_numbers = true)]
    bandwidth: Option<f64>,
    /// Power limit
    #[arg(long, value_name = "WATTS", allow_negative_numbers = true)]
    tdp: Option<f64>,
    /// Dense rate on fp16 of what reads prompts on it; no time to the first token can be told without a rate
    #[arg(long, value_name = "TFLOPS", allow_negative_numbers = true)]
    fp16: Option<f64>,
    /// Dense rate on int8
    #[arg(long, value_name = "TOPS", allow_negative_numbers = true)]
    int8: Option<f64>,
    /// Where this is from
    #[arg(long, default_value = "stated by the user")]
    source: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Gpu,
    Npu,
    Cpu,
    Soc,
    Accelerator,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClassArg {
    Desktop,
    Laptop,
    Workstation,
    Datacentre,
    Phone,
    Embedded,
}

pub(crate) fn run(args: &CatalogueArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let directory = home.path().join("catalogue");
    if let Verb::Add(args) = &args.verb {
        return add_rows(args, &directory, console);
    }
    let catalogue = Catalogue::with_user_rows(&directory)?;
    match &args.verb {
        Verb::Search(args) => search(args, &catalogue, console),
        Verb::Show(args) => show::run(&args.name.join(" "), &catalogue, console),
        Verb::Check => check(&catalogue, console),
        Verb::Add(_) => unreachable!("done above"),
    }
}

fn search(args: &SearchArgs, catalogue: &Catalogue, console: &Console) -> anyhow::Result<()> {
    let words = args.words.join(" ");
    let found = Found::of(catalogue, &words);
    if found.is_empty() {
        let mut closest = catalogue.closest_chips(&words, 4);
        closest.extend(catalogue.closest_models(&words, 3));
        match closest.is_empty() {
            true => bail!("nothing in the catalogue has all of {words:?}"),
            false => bail!(
                "nothing in the catalogue has all of {words:?}; closest: {}",
                closest.join(", ")
            ),
        }
    }
    if console.json {
        return output::json(&found);
    }
    output::answer(found.text(args.limit))
}

fn add_rows(args: &AddArgs, directory: &Path, console: &Console) -> anyhow::Result<()> {
    let text = match (&args.file, &args.name) {
        (Some(file), _) => read(file).with_context(|| format!("cannot read {}", file.display()))?,
        (None, Some(name)) => chip_text(&args.chip(name)?),
        (None, None) => unreachable!("one of them is required"),
    };
    let file = add(directory, &text, Date::today())?;
    console.note(format_args!("added to {}", file.display()));
    if let Some(lacking) = args.lacking() {
        console.note(lacking);
    }
    match console.json {
        true => output::json(&serde_json::json!({ "file": file })),
        false => Ok(()),
    }
}

/// A file of rows; an endless one is not read to its end.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(ROWS_BYTES_MAX + 1);
    file.read_to_string(&mut text)?;
    match text.len() as u64 > ROWS_BYTES_MAX {
        true => Err(std::io::Error::other(format!(
            "it has more than {ROWS_BYTES_MAX} bytes"
        ))),
        false => Ok(text),
    }
}

impl AddArgs {
    /// What the plan will not be able to tell of the chip.
    fn lacking(&self) -> Option<&'static str> {
        self.name.as_ref()?;
        if self.memory.is_none() || self.bandwidth.is_none() {
            return Some("without --memory and --bandwidth, nothing can be forecast of it");
        }
        let has_rate = self.fp16.is_some() || self.int8.is_some();
        (!has_rate)
            .then_some("without --fp16 or --int8, its time to the first token cannot be forecast")
    }

    /// The row that the flags describe.
    fn chip(&self, name: &str) -> Result<Chip, WrongUse> {
        for (flag, value) in [
            ("--memory", self.memory),
            ("--bandwidth", self.bandwidth),
            ("--tdp", self.tdp),
            ("--fp16", self.fp16),
            ("--int8", self.int8),
        ] {
            if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
                return Err(WrongUse(format!("{flag} has to be above zero")));
            }
        }
        let kind = self.kind.into();
        let is_soc = kind == Kind::Soc;
        let shares = is_soc || kind == Kind::Cpu;
        let block = match kind {
            Kind::Cpu => Block::Cpu,
            Kind::Npu => Block::Npu,
            Kind::Gpu | Kind::Soc | Kind::Accelerator => Block::Gpu,
        };
        let unit = if kind == Kind::Cpu {
            Unit::Vector
        } else {
            Unit::Matrix
        };
        let rates = [(Format::Fp16, self.fp16), (Format::Int8, self.int8)];
        let rates = rates.into_iter().filter_map(|(format, dense)| {
            let dense = Some(dense?);
            Some(Rate {
                block,
                unit,
                format,
                dense,
                sparse: None,
                basis: None,
            })
        });
        Ok(Chip {
            name: name.to_owned(),
            aliases: self.alias.clone(),
            vendor: self.vendor.clone(),
            kind,
            class: self.class.into(),
            family: self.family.clone(),
            npu_family: None,
            announced: None,
            released: None,
            memory_gb: self.memory.filter(|_| !shares),
            memory_options_gb: self.memory.filter(|_| shares).into_iter().collect(),
            memory_kind: None,
            memory: if shares { Memory::Shared } else { Memory::Own },
            bandwidth_gbs: self.bandwidth,
            block_bandwidth_gbs: None,
            limits: None,
            tdp_w: self.tdp,
            idle_w: None,
            cores: None,
            boost_mhz: None,
            link: None,
            rates: rates.collect(),
            source: Source {
                url: self.source.clone(),
                date: Date::today(),
                note: None,
            },
        })
    }
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Gpu => Self::Gpu,
            KindArg::Npu => Self::Npu,
            KindArg::Cpu => Self::Cpu,
            KindArg::Soc => Self::Soc,
            KindArg::Accelerator => Self::Accelerator,
        }
    }
}

impl From<ClassArg> for Class {
    fn from(class: ClassArg) -> Self {
        match class {
            ClassArg::Desktop => Self::Desktop,
            ClassArg::Laptop => Self::Laptop,
            ClassArg::Workstation => Self::Workstation,
            ClassArg::Datacentre => Self::Datacentre,
            ClassArg::Phone => Self::Phone,
            ClassArg::Embedded => Self::Embedded,
        }
    }
}

/// What a check found, for programs.
#[derive(Serialize)]
struct Checked {
    rows: usize,
    defects: Vec<DefectRow>,
}

#[derive(Serialize)]
struct DefectRow {
    file: String,
    row: String,
    what: String,
}

fn check(catalogue: &Catalogue, console: &Console) -> anyhow::Result<()> {
    let counts = [
        ("chips", catalogue.chips().len()),
        ("models", catalogue.models().len()),
        ("offers", catalogue.offers().len()),
        ("egress prices", catalogue.egress().len()),
        ("prices", catalogue.prices().len()),
        ("parts", catalogue.parts().len()),
        ("countries", catalogue.countries().len()),
        ("rows on software", catalogue.support().len()),
    ];
    let rows = counts.iter().map(|(_, count)| count).sum();
    let defects = validate(catalogue, Date::today());
    if console.json {
        let row = |defect: &Defect| DefectRow {
            file: defect.file.clone(),
            row: defect.row.clone(),
            what: defect.what.clone(),
        };
        output::json(&Checked {
            rows,
            defects: defects.iter().map(row).collect(),
        })?;
    } else {
        let counts = counts.map(|(what, count)| format!("{count} {what}"));
        let mut text = format!("{}\n", counts.join(", "));
        for defect in &defects {
            text.push_str(&format!("{}\n", output::printable(&defect.to_string())));
        }
        output::answer(text)?;
    }
    match defects.len() {
        0 => Ok(()),
        1 => bail!("there is 1 defect"),
        count => bail!("there are {count} defects"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn parse(words: &[&str]) -> CatalogueArgs {
        let words = ["troika", "catalogue"].iter().chain(words);
        let args = Args::try_parse_from(words).expect("parses");
        match args.command {
            Some(Command::Catalogue(args)) => args,
            other => panic!("not the verb: {other:?}"),
        }
    }

    fn added(words: &[&str]) -> Box<AddArgs> {
        match parse(words).verb {
            Verb::Add(args) => args,
            other => panic!("not the verb: {other:?}"),
        }
    }

    #[test]
    fn flags_describe_a_chip() {
        let flags = [
            "add",
            "--name",
            "My Box",
            "--kind",
            "soc",
            "--memory",
            "64",
            "--bandwidth",
            "256",
        ];
        let chip = added(&flags).chip("My Box").expect("is a chip");
        assert_eq!((chip.memory, chip.memory_gb), (Memory::Shared, None));
        assert!(chip.has_memory(64.0) && chip.rates.is_empty());
        let rates = [&flags[..], &["--fp16", "50", "--int8=100"]].concat();
        let rated = added(&rates).chip("My Box").expect("is a chip");
        let dense = |rate: &Rate| (rate.block, rate.format, rate.dense);
        assert_eq!(
            rated.rates.iter().map(dense).collect::<Vec<_>>(),
            [
                (Block::Gpu, Format::Fp16, Some(50.0)),
                (Block::Gpu, Format::Int8, Some(100.0))
            ]
        );
        let directory = tempfile::tempdir().expect("a place to write");
        add(directory.path(), &chip_text(&chip), Date::today()).expect("is added");
        let catalogue = Catalogue::with_user_rows(directory.path()).expect("is read");
        let found = catalogue.chip("my box 64GB").expect("is there");
        assert_eq!(found.row.bandwidth_gbs, Some(256.0));
    }

    #[test]
    fn wrong_flags_are_wrong_use() {
        for value in ["0", "-1", "nan", "inf"] {
            let memory = format!("--memory={value}");
            let args = added(&["add", "--name", "x", &memory]);
            assert!(args.chip("x").is_err(), "{value}");
        }
        for words in [
            &["add"][..],
            &["add", "file.toml", "--name", "x"],
            &["search"],
            &["show"],
        ] {
            let words = ["troika", "catalogue"].iter().chain(words);
            assert!(Args::try_parse_from(words).is_err());
        }
    }
}
