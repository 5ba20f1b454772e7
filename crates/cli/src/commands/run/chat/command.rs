//! Lines that begin with a slash.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use troika_base::ExtraSampling;
use troika_engine::GenerateOptions;
use troika_engine::chat::ChatMessage;
use troika_engine::sampler::SamplingParams;

pub(super) const HELP: &str = "\
/system TEXT      what the model is told before the conversation
/set NAME VALUE   change how it answers; /set alone shows what can be changed
/clear            begin anew
/save FILE        write the conversation to a new file: JSON if it ends in .json, else text
/bye              leave (so does Ctrl-D)
\"\"\"               begins and ends a message of several lines
Ctrl-C            stops an answer; what was said stays";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Clear,
    System(Option<String>),
    Settings,
    Set { name: String, value: String },
    Save(String),
    Bye,
}

impl Command {
    /// `None` if the line is no command, a complaint if it is one that nobody knows.
    pub(super) fn parse(line: &str) -> Option<Result<Self, String>> {
        let line = line.strip_prefix('/')?;
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let command = match (name, rest) {
            ("help" | "?", _) => Self::Help,
            ("clear", _) => Self::Clear,
            ("system", "") => Self::System(None),
            ("system", text) => Self::System(Some(text.to_owned())),
            ("set", "") => Self::Settings,
            ("set", rest) => match rest.split_once(char::is_whitespace) {
                Some((name, value)) => Self::Set {
                    name: name.to_owned(),
                    value: value.trim().to_owned(),
                },
                None => {
                    return Some(Err(format!(
                        "/set {rest} needs a value; /set alone shows what there is."
                    )));
                }
            },
            ("save", "") => return Some(Err("/save needs the name of a file.".to_owned())),
            ("save", path) => Self::Save(path.to_owned()),
            ("bye" | "exit" | "quit", _) => Self::Bye,
            _ => {
                return Some(Err(format!(
                    "There is no /{name}; /help tells what there is. A message may begin with a slash after a space."
                )));
            }
        };
        Some(Ok(command))
    }
}

/// What can be set, and how it stands.
pub(super) fn settings(options: &GenerateOptions) -> String {
    let params = &options.sampling;
    let seed = params.seed.map(|seed| seed.to_string());
    let max_tokens = options.max_tokens.map(|n| n.to_string());
    let mut all = vec![
        ("temperature", params.temperature.to_string()),
        ("top-k", params.top_k.to_string()),
        ("top-p", params.top_p.to_string()),
        ("min-p", params.min_p.to_string()),
        ("repeat-penalty", params.repeat_penalty.to_string()),
        ("presence-penalty", params.presence_penalty.to_string()),
        ("frequency-penalty", params.frequency_penalty.to_string()),
        ("seed", seed.unwrap_or_else(|| "random".to_owned())),
        (
            "max-tokens",
            max_tokens.unwrap_or_else(|| "unlimited".to_owned()),
        ),
    ];
    all.extend(extra_settings(params));
    let lines = all.iter().map(|(name, value)| format!("{name:<23}{value}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The samplers that few ask for, under the names of their flags.
fn extra_settings(params: &SamplingParams) -> [(&'static str, String); 13] {
    let SamplingParams {
        xtc, dry, dynatemp, ..
    } = params;
    let last_n = match dry.last_n {
        u32::MAX => "-1".to_owned(),
        tokens => tokens.to_string(),
    };
    let mirostat = params.mirostat.unwrap_or_default();
    let version = if params.mirostat.is_some() { "2" } else { "0" };
    [
        ("typical-p", params.typical_p.to_string()),
        ("xtc-probability", xtc.probability.to_string()),
        ("xtc-threshold", xtc.threshold.to_string()),
        ("dry-multiplier", dry.multiplier.to_string()),
        ("dry-base", dry.base.to_string()),
        ("dry-allowed-length", dry.allowed_length.to_string()),
        ("dry-penalty-last-n", last_n),
        (
            "dry-sequence-breakers",
            serde_json::json!(dry.breakers).to_string(),
        ),
        ("mirostat", version.to_owned()),
        ("mirostat-tau", mirostat.tau.to_string()),
        ("mirostat-eta", mirostat.eta.to_string()),
        ("dynatemp-range", dynatemp.range.to_string()),
        ("dynatemp-exponent", dynatemp.exponent.to_string()),
    ]
}

/// One of the samplers that few ask for, from the name of its flag and a value as JSON has it; `None` if there is none of
/// this name.
fn extra(name: &str, value: &str) -> Option<Result<ExtraSampling, String>> {
    let field = name.replace('-', "_");
    if !ExtraSampling::NAMES.contains(&&*field) {
        return None;
    }
    let value_of_it = serde_json::from_str::<serde_json::Value>(value);
    let extra = value_of_it.and_then(|value| {
        serde_json::from_value(serde_json::Value::Object(
            [(field, value)].into_iter().collect(),
        ))
    });
    Some(extra.map_err(|_| format!("{value:?} is no value for {name}.")))
}

/// Changes one setting.
///
/// # Errors
/// A complaint if there is no such setting, or the value is not one for it. Nothing was changed then.
pub(super) fn set(options: &mut GenerateOptions, name: &str, value: &str) -> Result<(), String> {
    let mut params = options.sampling.clone();
    let mut max_tokens = options.max_tokens;
    match name {
        "temperature" => params.temperature = parse(name, value)?,
        "top-k" => params.top_k = parse(name, value)?,
        "top-p" => params.top_p = parse(name, value)?,
        "min-p" => params.min_p = parse(name, value)?,
        "repeat-penalty" => params.repeat_penalty = parse(name, value)?,
        "presence-penalty" => params.presence_penalty = parse(name, value)?,
        "frequency-penalty" => params.frequency_penalty = parse(name, value)?,
        "seed" if value == "random" => params.seed = None,
        "seed" => params.seed = Some(parse(name, value)?),
        "max-tokens" if value == "unlimited" => max_tokens = None,
        "max-tokens" => max_tokens = Some(parse(name, value)?),
        "mirostat-tau" | "mirostat-eta" if params.mirostat.is_none() => {
            return Err(format!("{name} is for mirostat 2: set that before."));
        }
        _ => match extra(name, value) {
            Some(extra) => {
                let with = params.with(&extra?);
                params = with.map_err(|error| format!("Not set: {error}"))?;
            }
            None => {
                return Err(format!(
                    "There is no setting {name:?}; /set alone shows what there is."
                ));
            }
        },
    }
    params
        .validate()
        .map_err(|error| format!("Not set: {error}"))?;
    options.sampling = params;
    options.max_tokens = max_tokens;
    Ok(())
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{value:?} is no value for {name}."))
}

/// Writes the conversation to a file that is not there yet.
///
/// # Errors
/// If it is, or cannot be written.
pub(super) fn save(path: &str, messages: &[ChatMessage]) -> anyhow::Result<()> {
    let is_json = Path::new(path)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let text = if is_json {
        serde_json::to_string_pretty(messages).context("cannot write the conversation as JSON")?
            + "\n"
    } else {
        let turn = |message: &ChatMessage| {
            let text = message.content.as_text().unwrap_or_default();
            format!("## {}\n\n{text}\n", message.role)
        };
        messages.iter().map(turn).collect::<Vec<_>>().join("\n")
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot create {path}"))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_slash_are_commands() {
        let set = Command::Set {
            name: "top-p".to_owned(),
            value: "0.5".to_owned(),
        };
        for (line, want) in [
            ("hello", None),
            (" /help", None),
            ("/help", Some(Some(Command::Help))),
            ("/system", Some(Some(Command::System(None)))),
            (
                "/system  Be brief. ",
                Some(Some(Command::System(Some("Be brief.".to_owned())))),
            ),
            ("/set top-p  0.5", Some(Some(set))),
            ("/set top-p", Some(None)),
            ("/save", Some(None)),
            ("/etc/passwd", Some(None)),
            ("/", Some(None)),
            ("/quit", Some(Some(Command::Bye))),
        ] {
            assert_eq!(Command::parse(line).map(Result::ok), want, "{line}");
        }
    }

    #[test]
    fn settings_are_checked_before_they_change() {
        let mut options = GenerateOptions::default();
        for (name, value, is_good) in [
            ("temperature", "0", true),
            ("temperature", "warm", false),
            ("top-p", "2", false),
            ("seed", "7", true),
            ("max-tokens", "unlimited", true),
            ("colour", "blue", false),
            ("typical-p", "0.9", true),
            ("typical-p", "9", false),
            ("xtc-probability", "half", false),
            ("dry-multiplier", "0.8", true),
            ("dry-penalty-last-n", "-1", true),
            ("dry-penalty-last-n", "0.5", false),
            ("dry-sequence-breakers", r#"["\n", "."]"#, true),
            ("mirostat-tau", "3", false),
            ("mirostat", "2", true),
            ("mirostat-tau", "3", true),
            ("mirostat", "1", false),
            ("dynatemp-range", "0.3", true),
        ] {
            let was_set = set(&mut options, name, value);
            assert_eq!(was_set.is_ok(), is_good, "{name} {value}");
        }
        assert_eq!(
            (options.sampling.temperature, options.sampling.seed),
            (0.0, Some(7))
        );
        assert_eq!(options.sampling.top_p, SamplingParams::default().top_p);
        let shown = settings(&options);
        for (name, value) in [
            ("seed", "7"),
            ("typical-p", "0.9"),
            ("dry-multiplier", "0.8"),
            ("dry-sequence-breakers", r#"["\n","."]"#),
            ("mirostat", "2"),
            ("mirostat-tau", "3"),
            ("dynatemp-range", "0.3"),
        ] {
            let line = format!("{name:<23}{value}");
            assert!(
                shown.lines().any(|shown| shown == line),
                "{line} in {shown}"
            );
        }
    }

    #[test]
    fn conversations_are_saved_once() {
        let path = std::env::temp_dir().join(format!("troika-save-{}.json", std::process::id()));
        let path = path.to_str().expect("is text");
        let messages = [
            ChatMessage::new("user", "Hi"),
            ChatMessage::new("assistant", "Hello."),
        ];
        save(path, &messages).expect("is new");
        assert!(
            save(path, &messages).is_err(),
            "what is there is not overwritten"
        );
        let text = std::fs::read_to_string(path).expect("was written");
        let read: Vec<ChatMessage> = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(read, messages);
        std::fs::remove_file(path).expect("is there");
    }
}
