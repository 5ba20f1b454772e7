//! Which hosts are asked, with which token, and how long they are waited for.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Uri};

use crate::Error;

const HUB: &str = "https://huggingface.co";
const REGISTRY: &str = "https://registry.ollama.ai";

/// Which hosts are asked.
#[derive(Clone)]
pub struct Sites {
    /// The hub, without a `/` at its end.
    pub(crate) hub: String,
    /// The registry, without a `/` at its end.
    pub(crate) registry: String,
    /// What tells the hub who asks. No other host is given it.
    pub(crate) token: Option<HeaderValue>,
    /// Whether plain HTTP may go beyond this machine.
    pub(crate) allow_plain_http: bool,
}

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is nobody's business.
        f.debug_struct("Sites")
            .field("hub", &self.hub)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Default for Sites {
    fn default() -> Self {
        Self {
            hub: HUB.to_owned(),
            registry: REGISTRY.to_owned(),
            token: None,
            allow_plain_http: false,
        }
    }
}

impl Sites {
    /// The hosts that variables name: `HF_ENDPOINT`, `HF_TOKEN`, `OLLAMA_REGISTRY`. `variable` gives the value of one.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if one is no address; [`Error::PlainHttp`] if one is not encrypted and not on this machine.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        allow_plain_http: bool,
    ) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let mut sites = Self {
            allow_plain_http,
            ..Self::default()
        };
        if let Some(hub) = set("HF_ENDPOINT") {
            sites.hub = base("HF_ENDPOINT", &hub, allow_plain_http)?;
        }
        if let Some(registry) = set("OLLAMA_REGISTRY") {
            sites.registry = base("OLLAMA_REGISTRY", &registry, allow_plain_http)?;
        }
        if let Some(token) = set("HF_TOKEN") {
            let header = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut header = header.map_err(|_| Error::BadSetting {
                setting: "HF_TOKEN",
                why: "it has characters that no token has".to_owned(),
            })?;
            header.set_sensitive(true);
            sites.token = Some(header);
        }
        Ok(sites)
    }
}

fn base(setting: &'static str, text: &str, allow_plain_http: bool) -> Result<String, Error> {
    let bad = |why: &str| Error::BadSetting {
        setting,
        why: format!("{why}; write `https://HOST`"),
    };
    let text = text.trim().trim_end_matches('/');
    let uri: Uri = text.parse().map_err(|_| bad("it is no address"))?;
    let (Some(_), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(bad("it is no whole address"));
    };
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(bad("it has more than a host and a path"));
    }
    permit(&uri, allow_plain_http)?;
    Ok(text.to_owned())
}

/// Whether an address may be asked: by https, or on this machine.
pub(crate) fn permit(uri: &Uri, allow_plain_http: bool) -> Result<(), Error> {
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_plain_http || is_loopback(uri) => Ok(()),
        Some("http") => Err(Error::PlainHttp { host: host(uri) }),
        _ => Err(Error::Redirected {
            host: host(uri),
            how: "to something that is no web address".to_owned(),
        }),
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// The host of an address, with its port if that is given.
pub(crate) fn host(uri: &Uri) -> String {
    uri.authority()
        .map_or_else(|| "nobody".to_owned(), |it| it.as_str().to_owned())
}

/// How long hosts are waited for, and how often they are asked again.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until the next byte.
    pub stall: Duration,
    /// Tries in a row that bring nothing, at most.
    pub tries: u32,
    /// Before the second try; doubled before each further one, up to ten seconds.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            tries: 8,
            pause: Duration::from_millis(500),
        }
    }
}

impl Patience {
    /// How long is waited after so many tries in a row that brought nothing.
    pub(crate) fn pause_after(&self, tries: u32) -> Duration {
        const LONGEST: Duration = Duration::from_secs(10);
        let doubled = 1u32 << tries.saturating_sub(1).min(16);
        self.pause.saturating_mul(doubled).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(name: &'static str, value: &'static str) -> Result<Sites, Error> {
        Sites::from_variables(|it| (it == name).then(|| value.to_owned()), false)
    }

    #[test]
    fn hosts_are_named_by_variables() {
        let set = sites("HF_ENDPOINT", "http://127.0.0.1:9/hub/").expect("is one");
        assert_eq!(set.hub, "http://127.0.0.1:9/hub");
        assert_eq!(sites("HF_ENDPOINT", " ").expect("is unset").hub, HUB);
        for value in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "https://user@example.com",
            "ftp://example.com",
            "example.com",
            "https://example.com?x",
        ] {
            assert!(sites("OLLAMA_REGISTRY", value).is_err(), "{value}");
        }
        let token = sites("HF_TOKEN", "hunter2").expect("is one");
        assert!(token.token.is_some() && !format!("{token:?}").contains("hunter2"));
        assert!(sites("HF_TOKEN", "a\nb").is_err());
    }

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience::default();
        let pauses: Vec<_> = [1, 2, 3, 40].map(|n| patience.pause_after(n)).into();
        let ms = Duration::from_millis;
        assert_eq!(pauses, [ms(500), ms(1000), ms(2000), ms(10_000)]);
    }
}
