//! An endpoint's URL: what may be in one, and what its host tells.

use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    scheme: Scheme,
    authority: Authority,
    /// Without a `/` at its end.
    path: String,
}

impl Base {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, and what to do. It is not repeated: there may be a password in it.
    pub(crate) fn parse(url: &str, allow_plain_http: bool) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|_| "it is no URL; write `https://HOST/PATH`".to_owned())?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("it is no whole URL; write `https://HOST/PATH`".to_owned());
        };
        if authority.as_str().contains('@') {
            let what = "it has a user or a password in it; give the key by `key`";
            return Err(what.to_owned());
        }
        let path = parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err("it has a query (`?...`); leave that out".to_owned());
        }
        let base = Self {
            path: path.path().trim_end_matches('/').to_owned(),
            scheme,
            authority,
        };
        match base.scheme.as_str() {
            "https" => Ok(base),
            "http" if base.is_loopback() || allow_plain_http => Ok(base),
            "http" => Err(
                "plain HTTP to another machine lets everyone between read the prompts; use https, \
                           or set `allow_plain_http = true`"
                    .to_owned(),
            ),
            _ => Err("it is neither https nor http".to_owned()),
        }
    }

    /// The URL of `path`, which begins with `/`.
    pub(crate) fn join(&self, path: &str) -> Uri {
        let built = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.path))
            .build();
        built.expect("all parts were read from a URL, and paths are ours. This is a bug.")
    }

    /// The host, with the port if one is given: whom the bytes reach.
    pub(crate) fn host(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether the way there is encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether this is the service that defined OpenAI's interface, or its copy at Microsoft's.
    pub(crate) fn is_openais(&self) -> bool {
        let host = self.authority.host().to_ascii_lowercase();
        let of = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
        of("openai.com") || of("openai.azure.com")
    }

    fn is_loopback(&self) -> bool {
        let host = self.authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_joined() {
        for (url, want) in [
            ("https://api.example.com/v1", "https://api.example.com/v1/x"),
            (
                "https://api.example.com/v1/",
                "https://api.example.com/v1/x",
            ),
            ("https://api.example.com", "https://api.example.com/x"),
            ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/x"),
            ("http://[::1]:8000", "http://[::1]:8000/x"),
            ("http://localhost:1", "http://localhost:1/x"),
        ] {
            let base = Base::parse(url, false).unwrap();
            assert_eq!(base.join("/x").to_string(), want);
        }
    }

    #[test]
    fn what_may_not_be_is_refused_and_not_repeated() {
        for url in [
            "http://192.168.1.7:8000",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://[fe80::1]",
            "https://user:hunter2@example.com",
            "https://hunter2@example.com",
            "https://example.com/v1?key=hunter2",
            "ftp://example.com",
            "file:///etc/passwd",
            "example.com/v1",
            "/v1",
            "",
            "https://",
        ] {
            let error = Base::parse(url, false).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(Base::parse("http://192.168.1.7:8000", true).is_ok());
        assert!(Base::parse("https://user@example.com", true).is_err());
    }

    #[test]
    fn the_service_is_known_by_its_host() {
        let is = |url| Base::parse(url, false).unwrap().is_openais();
        assert!(is("https://api.openai.com/v1") && is("https://me.openai.azure.com/openai/v1"));
        assert!(!is("https://api.notopenai.com/v1") && !is("https://openai.com.example.org/v1"));
    }
}
