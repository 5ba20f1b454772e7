//! What a remote and the numbers have to be, before anything is done with them.

use std::net::IpAddr;

use rust_decimal::Decimal;

use super::{Api, Config, ConfigError, Faults, Remote, error};

/// Characters of a name at most.
const NAME_MAX: usize = 64;

impl Config {
    /// Reads a text. Whether names refer to something, and patterns are some, is the rules' to say.
    ///
    /// # Errors
    /// If it is not TOML, or has fields and values that there are not; with line and field.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let parsed = toml::Deserializer::parse(text);
        let parsed = parsed.map_err(|wrong| error::of_parser(text, "", &wrong))?;
        serde_path_to_error::deserialize(parsed).map_err(|wrong| {
            let field = wrong.path().to_string();
            error::of_parser(text, &field, wrong.inner())
        })
    }

    /// Adds what is wrong with the remotes and the numbers.
    pub(crate) fn check(&self, faults: &mut Faults) {
        for (i, remote) in self.remote.iter().enumerate() {
            let field = |name: &str| format!("remote[{i}].{name}");
            if self.remote[..i]
                .iter()
                .any(|other| other.name == remote.name)
            {
                let message = format!("there is a remote `{}` already", remote.name);
                faults.add(field("name"), message);
            }
            check_remote(remote, field, faults);
        }
        let hybrid = &self.hybrid;
        let money = [
            ("budget_per_day", hybrid.budget_per_day),
            ("budget_per_month", hybrid.budget_per_month),
            ("second_worth", Some(hybrid.second_worth)),
            ("kwh_price", Some(hybrid.kwh_price)),
        ];
        for (name, value) in money {
            if value.is_some_and(|value| value < Decimal::ZERO) {
                faults.add(format!("hybrid.{name}"), "it is less than nothing");
            }
        }
        if !is_currency(&hybrid.currency) {
            let message = format!("{:?} is no currency; write it like `EUR`", hybrid.currency);
            faults.add("hybrid.currency", message);
        }
        if self.cascade.samples < 2 {
            faults.add("cascade.samples", "two answers at least can be compared");
        }
        for (model, threshold) in &self.cascade.thresholds {
            if !threshold.is_finite() {
                faults.add(format!("cascade.thresholds.{model}"), "it is no number");
            }
        }
    }
}

impl Remote {
    /// What the model is called there; `None` if it is not served.
    pub fn model(&self, name: &str) -> Option<&str> {
        let exact = self.models.get(name);
        let same = || {
            let name = model_name(name);
            let mut models = self.models.iter();
            models.find_map(|(here, there)| (model_name(here) == name).then_some(there))
        };
        exact.or_else(same).map(String::as_str)
    }
}

/// The one form of a model's name among those that find the same model: without `:latest` and `.gguf`, in small letters.
pub(crate) fn model_name(name: &str) -> String {
    let mut name = name.trim().to_lowercase();
    while let Some(shorter) = [":latest", ".gguf"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
    {
        name = shorter.to_owned();
    }
    name
}

/// Whether it can name something in logs and receipts: a few characters that can be seen, on one line.
pub(crate) fn is_name(name: &str) -> bool {
    !name.trim().is_empty()
        && name.chars().count() <= NAME_MAX
        && !name.chars().any(char::is_control)
}

fn check_remote(remote: &Remote, field: impl Fn(&str) -> String, faults: &mut Faults) {
    let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = &remote.name;
    if !(1..=NAME_MAX).contains(&name.len()) || !name.bytes().all(of_name) || name.starts_with('-')
    {
        let message =
            format!("{name:?} is no name; use small letters, digits and `-`, such as `example-eu`");
        faults.add(field("name"), message);
    }
    if let Err(message) = check_url(&remote.url, remote.allow_plain_http) {
        faults.add(field("url"), message);
    }
    if remote.api == Api::Anthropic && remote.key.is_none() && !is_here(&remote.url) {
        faults.add(
            field("key"),
            "Anthropic's interface takes no request without a key; name one, such as `env:ANTHROPIC_API_KEY`",
        );
    }
    if let Some(key) = &remote.key {
        let named = key.strip_prefix("env:").or(key.strip_prefix("keyring:"));
        let named = named.or(key.strip_prefix("file:"));
        let of_key = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        // It may be the key itself, so it is not quoted.
        if !named.is_some_and(|name| !name.is_empty() && name.chars().all(of_key)) {
            let message = "a key is not in this file but named by it: `env:NAME`, `keyring:NAME` or `file:PATH`";
            faults.add(field("key"), message);
        }
    }
    if remote.models.is_empty() {
        let message = "it serves no model; write `models = { \"here\" = \"there\" }`";
        faults.add(field("models"), message);
    }
    for (here, there) in &remote.models {
        if !is_name(here) || there.trim().is_empty() || there.chars().any(char::is_control) {
            faults.add(
                field("models"),
                format!("{here:?} = {there:?} names no model"),
            );
        }
    }
    if let Some(price) = &remote.price {
        let of_cache = price.cached.unwrap_or_default();
        for (name, value) in [
            ("input", price.input),
            ("cached", of_cache),
            ("output", price.output),
        ] {
            if value < Decimal::ZERO {
                faults.add(field(&format!("price.{name}")), "it is less than nothing");
            }
        }
    }
    let limits = &remote.limits;
    let none = [
        ("concurrent", limits.concurrent == Some(0)),
        ("requests_per_minute", limits.requests_per_minute == Some(0)),
        ("prompt_tokens", limits.prompt_tokens == Some(0)),
        ("answer_tokens", limits.answer_tokens == Some(0)),
        ("timeout_s", limits.timeout_s == Some(0)),
    ];
    for (name, _) in none.iter().filter(|(_, is_none)| *is_none) {
        let message = "nothing could ever go there; leave the limit out, or the remote";
        faults.add(field(&format!("limits.{name}")), message);
    }
}

/// An address that everybody reads the same way: nothing in it needs decoding, and nobody's name or key stands in it.
fn check_url(url: &str, plain_is_fine: bool) -> Result<(), String> {
    let example = "write it like `https://api.example.com/v1`";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("{url:?} is no address; {example}"));
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if rest.contains('@') {
        // It may be a key, so it is not quoted.
        return Err("an address here has no name and password; a key is named by `key`".to_owned());
    }
    let of_path = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let has_dots = path.split('/').any(|part| matches!(part, "." | ".."));
    if host_of(authority).is_none() || !path.chars().all(of_path) || has_dots {
        return Err(format!("{url:?} is no address; {example}"));
    }
    match scheme {
        "https" => Ok(()),
        "http" if plain_is_fine || is_here(url) => Ok(()),
        "http" => Err(
            "plain HTTP to another machine: whoever stands between reads everything; use https, or set \
             `allow_plain_http = true` if the way there is yours"
                .to_owned(),
        ),
        _ => Err(format!("`{scheme}` is not spoken here; {example}")),
    }
}

/// The host of `host`, `host:port` or `[v6]:port`, if it is one.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (host, "") => (host, None),
            (host, port) => (host, Some(port.strip_prefix(':')?)),
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let of_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let of_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_host = match authority.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => !host.is_empty() && host.chars().all(of_name),
    };
    (is_host && port.is_none_or(of_port)).then_some(host)
}

/// Whether what is sent to this address does not leave the machine.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    host_of(authority).is_some_and(|host| {
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}
