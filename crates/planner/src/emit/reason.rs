//! Why so many: the comments at the head of an emitted file.

use std::fmt::Write as _;

use super::{Serving, Target, bounds, simulation};
use crate::plan::replicas::{Bound, Crew, Replicas};
use crate::plan::spread;

/// Width of a comment.
const WIDTH: usize = 100;

pub(super) fn comment(target: Target, crew: &Crew, replicas: &Replicas) -> String {
    let mut out = String::new();
    let paragraphs = [
        vec![title(target, crew, replicas)],
        [bears(crew, replicas), counts(crew, replicas)].concat(),
        vec![autoscaler(crew, replicas)],
        node(crew, replicas),
        money(crew),
        before(target, crew, replicas),
    ];
    for (index, paragraph) in paragraphs
        .iter()
        .filter(|lines| !lines.is_empty())
        .enumerate()
    {
        if index > 0 {
            out.push_str("#\n");
        }
        for line in paragraph {
            wrap(&mut out, line);
        }
    }
    out
}

fn title(target: Target, crew: &Crew, replicas: &Replicas) -> String {
    let workload = &replicas.workload;
    format!(
        "`troika plan --emit {}` of {}: {} of {} for {} users at once of {} {}.",
        target.name(),
        replicas.today,
        plural(crew.replicas.high, "replica"),
        crew.name,
        workload.users,
        crew.verdict.model,
        crew.verdict.quantization,
    )
}

/// What one replica bears, and why not more.
fn bears(crew: &Crew, replicas: &Replicas) -> Vec<String> {
    let workload = &replicas.workload;
    let each = crew.users_each;
    let mut wants = Vec::new();
    if let Some(ttft) = workload.ttft_s {
        wants.push(format!("the first token within {ttft} s"));
    }
    if let Some(tps) = workload.tps {
        wants.push(format!("{tps} tokens a second"));
    }
    let wants = match wants.is_empty() {
        true => "nothing but to fit".to_owned(),
        false => wants.join(" and "),
    };
    let bound = match crew.bound {
        Bound::Ttft => "one more, and the first token would come too late",
        Bound::Speed => "one more, and each would be too slow",
        Bound::Memory => "one more, and the memory would not do",
        Bound::Users => "there are no more, or a server takes no more",
    };
    let interval = match each.low == each.high {
        true => "wherever in its interval the estimate lies".to_owned(),
        false => format!(
            "{} to {} by the estimate, {} in its middle",
            each.low, each.high, each.value
        ),
    };
    let mut lines = vec![format!(
        "Wanted: {wants}, for prompts of {} and answers of {} tokens. One replica serves {} users so ({interval}): {bound}.",
        workload.prompt_tokens, workload.gen_tokens, each.low
    )];
    let arrivals = crew.arrivals;
    let meeting = match workload.ttft_s {
        Some(want) => format!(
            ": 95 times of 100 no more than {} come within the same {want} s",
            plural(arrivals.meeting, "prompt")
        ),
        None => String::new(),
    };
    lines.push(format!(
        "Each of them asks every {:.0} s, which is what an answer takes at that speed{meeting}. Reading prompts takes {:.0} % \
         of the time.",
        arrivals.cycle_s,
        100.0 * arrivals.reading.high
    ));
    lines
}

/// How many replicas that makes, and how they are then.
fn counts(crew: &Crew, replicas: &Replicas) -> Vec<String> {
    let (workload, count) = (&replicas.workload, crew.replicas);
    let others = match count.low == count.high {
        true => String::new(),
        false => format!(
            ": {} if machines are as estimated, {} at best",
            count.value, count.low
        ),
    };
    let mut lines = vec![format!(
        "That makes {}{others}. Planned is with the worse end of the interval, in which eight of ten measurements are \
         meant to lie.",
        plural(count.high, "replica")
    )];
    if let Some(forecast) = &crew.verdict.forecast {
        let ttft = forecast.ttft_s.map_or_else(String::new, |ttft| {
            format!(", the first token after {} s", spread(ttft))
        });
        lines.push(format!(
            "With {} users on it, one writes {} tokens a second for each{ttft}.",
            crew.users_each.low,
            spread(forecast.decode_tps)
        ));
    }
    if let Some(busy) = crew.verdict.busy_hours {
        lines.push(format!(
            "A day's {} requests keep each busy for {} of {} hours.",
            workload.requests_per_day,
            spread(busy),
            workload.hours_per_day
        ));
    }
    lines
}

fn autoscaler(crew: &Crew, replicas: &Replicas) -> String {
    let (least, most) = bounds(crew);
    let alone = match crew.replicas.high {
        1 => " While the only one is replaced, nobody answers.",
        _ => "",
    };
    format!(
        "The autoscaler keeps {least} to {most}: for half of the {} users, as outside of the peak, and one more than all \
         need, for one that is being replaced. It adds one where a replica has more than {} jobs.{alone}",
        replicas.workload.users, crew.users_each.low
    )
}

/// What a node has to have, and what is not known of it.
fn node(crew: &Crew, replicas: &Replicas) -> Vec<String> {
    let serving = Serving::of(crew, replicas);
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let mut lines = Vec::new();
    if let Some(forecast) = &crew.verdict.forecast {
        let memory = &forecast.memory;
        let whose = match crew.node.computes_in_ram {
            true => "The node's memory holds it all.",
            false => {
                "That is the cards'; the weights pass through the node's memory while they are loaded."
            }
        };
        lines.push(format!(
            "Memory of one: {:.1} GB of weights, {:.1} GB of cache for {} contexts of {} tokens, {:.1} GB of buffers and \
             program. {whose}",
            gb(memory.weights),
            gb(memory.cache),
            serving.streams,
            serving.context,
            gb(memory.scratch + memory.runtime)
        ));
    }
    if serving.cores.is_none() {
        lines.push(
            "How many cores such a machine has is not known here, so none are requested: set the request of processors \
             and `threads` to what the nodes have."
                .to_owned(),
        );
    }
    lines
}

fn money(crew: &Crew) -> Vec<String> {
    let Some(month) = crew.usd_month else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "{} USD a month for {}, as {} would be come by: {}.",
        spread(month),
        match crew.replicas.high {
            1 => "it".to_owned(),
            n => format!("all {n}"),
        },
        match crew.replicas.high {
            1 => "it",
            _ => "they",
        },
        crew.place.name()
    )];
    lines.extend(
        crew.verdict
            .risks
            .iter()
            .map(|risk| format!("- {}", risk.what)),
    );
    lines
}

/// What to do before it is deployed.
fn before(target: Target, crew: &Crew, replicas: &Replicas) -> Vec<String> {
    let mut lines = Vec::new();
    match simulation(crew, replicas) {
        Some(command) => {
            lines.push(
                "Try it first. One replica with its share of the users stands for all, since they share nothing:".to_owned(),
            );
            // A command is copied, and so is not broken.
            lines.push(format!("\u{0}  {command}"));
        }
        None => lines.push(
            "`troika simulate` cannot play this: it does not know the machine or the model by a name of the catalogue.".to_owned(),
        ),
    }
    lines.push(match target {
        Target::Kubernetes => format!(
            "Before: the images, the secret `troika-keys`, and the model in the volume `troika-models` under the name \
             {:?}; see docs/guide/scale-kubernetes.md.",
            replicas.workload.model
        ),
        Target::Ray => format!(
            "Before: `troika`, the package of deploy/ray, the keys and the model {:?} on every node; see \
             docs/guide/scale-ray.md.",
            replicas.workload.model
        ),
    });
    lines
}

/// `1 replica`, `2 replicas`.
fn plural(count: u32, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// Writes a line as comments; one that begins with a zero is left whole.
fn wrap(out: &mut String, line: &str) {
    if let Some(whole) = line.strip_prefix('\u{0}') {
        let _ = writeln!(out, "# {whole}");
        return;
    }
    let indent = if line.starts_with("- ") { "  " } else { "" };
    let mut row = String::new();
    for word in line.split_whitespace() {
        if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "# {row}");
            row = indent.to_owned();
        }
        if !row.trim().is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    let _ = writeln!(out, "# {row}");
}
