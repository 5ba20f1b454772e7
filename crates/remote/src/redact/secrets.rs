//! Keys, tokens and passwords of programs: by how their issuers begin them, and by what is said before them.

use std::ops::Range;

use regex::Regex;

use super::shapes::pattern;

/// Shapes that nothing else has. Sources: the issuers' pages about their tokens' forms.
const SHAPES: &[&str] = &[
    // Private keys, also those whose end is not there.
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s:,.\-]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s]*",
    // JSON web tokens.
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?(?:\.[A-Za-z0-9_-]*){0,2}",
    // OpenAI, Anthropic, OpenRouter and those who do as they do; Stripe.
    r"\b(?:sk|rk|pk|whsec)[-_][A-Za-z0-9_-]{16,}",
    // GitHub, GitLab.
    r"\bgh[opusr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bgl(?:pat|ptt|dt|rt|soat|cbt)-[A-Za-z0-9_.-]{16,}",
    // Amazon, Google, Azure.
    r"\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bya29\.[A-Za-z0-9_-]{20,}",
    r"\bGOCSPX-[A-Za-z0-9_-]{20,}",
    r"\b(?i:AccountKey)=[A-Za-z0-9+/=]{40,}",
    // Slack, Discord, Telegram, Twilio, SendGrid.
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\bxapp-[A-Za-z0-9-]{10,}",
    r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    r"\b[MNO][A-Za-z0-9]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
    r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}",
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"\b(?:SK|AC)[0-9a-f]{32}\b",
    // Hugging Face, npm, PyPI, DigitalOcean, Vault, age, Groq, xAI, Replicate, Databricks, Shopify, Linear, Notion, Atlassian.
    r"\bhf_[A-Za-z0-9]{20,}",
    r"\bnpm_[A-Za-z0-9]{30,}",
    r"\bpypi-[A-Za-z0-9_-]{40,}",
    r"\bdo[opr]_v1_[a-f0-9]{40,}",
    r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}",
    r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}",
    r"\b(?:gsk|xai|r8|lin_api|secret|ntn)_?-?[A-Za-z0-9]{30,}",
    r"\bdapi[a-f0-9]{32}",
    r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
    r"\bATATT3[A-Za-z0-9_=-]{50,}",
    // Ours.
    r"\btk-[A-Za-z0-9_-]{16,}",
];

/// What is said before a secret. The secret is the first group.
const SAID: &[&str] = &[
    // password = "...", "api_key": "...", --token=..., PASSWORD: ...
    r#"(?i:password|passwd|passwort|kennwort|passphrase|pwd|pass|secret|api[_\s-]?key|apikey|access[_\s-]?key(?:[_-]?id)?|account[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|bearer[_-]?token|token|client[_-]?secret|credentials?)\b["'`]?(?:\s*(?::=|=>|=|:)|\s+(?:is|ist)\s)\s*(?:"([^"\n]{4,})"|'([^'\n]{4,})'|`([^`\n]{4,})`|([^\s"'`,;<>(){}\[\]]{4,}))"#,
    // Authorization: Bearer ..., in any form of quoting
    r#"\b(?i:bearer|basic)\s+([A-Za-z0-9+/=_.~-]{12,})"#,
    // scheme://user:password@host
    r"\b(?i:[a-z][a-z0-9+.-]*)://[^\s/:@]*:([^\s/@]{1,})@",
];

/// A key whose value is a secret, as a whole.
const KEY: &str = r"(?i)(?:password|passwd|passwort|kennwort|passphrase|pwd|secret|api[_\s-]?key|access[_\s-]?key|account[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|token|credentials?|authorization)$";

/// What stands in a secret's place without being one.
const NO_SECRETS: &[&str] = &[
    "string",
    "bool",
    "boolean",
    "true",
    "false",
    "none",
    "null",
    "undefined",
    "optional",
    "required",
    "number",
    "object",
    "array",
    "bytes",
    "integer",
    "float",
    "text",
    "value",
    "password",
    "secret",
    "token",
    "redacted",
    "hidden",
    "option",
    "&str",
    "const",
    "self",
    "this",
    "input",
    "valid",
    "invalid",
    "expired",
    "missing",
    "wrong",
    "incorrect",
    "correct",
];

/// A secret that was found.
pub(super) struct Secret {
    pub(super) range: Range<usize>,
    /// Whether it is like no word, so that it is one wherever else it stands.
    pub(super) is_random: bool,
}

/// Finders of secrets.
#[derive(Debug)]
pub(super) struct Secrets {
    shapes: Regex,
    said: Regex,
    key: Regex,
}

impl Secrets {
    pub(super) fn new() -> Self {
        // One pass for all.
        let any = |texts: &[&str]| pattern(&format!("(?:{})", texts.join("|")));
        Self {
            shapes: any(SHAPES),
            said: any(SAID),
            key: pattern(KEY),
        }
    }

    /// Whether a text is a secret for being the value of this key.
    pub(super) fn is_secret_of(&self, key: &str, text: &str) -> bool {
        self.key.is_match(key) && text.chars().count() >= 4 && is_secret(text)
    }

    pub(super) fn find(&self, text: &str) -> Vec<Secret> {
        let shapes = self.shapes.find_iter(text);
        let mut found: Vec<_> = shapes
            .map(|it| Secret {
                range: it.range(),
                is_random: true,
            })
            .collect();
        for captures in self.said.captures_iter(text) {
            let Some(said) = captures.iter().skip(1).flatten().next() else {
                continue;
            };
            let value = said.as_str().trim_end_matches(['.', '!', '?', ':', '\\']);
            if is_secret(value) {
                found.push(Secret {
                    range: said.start()..said.start() + value.len(),
                    is_random: is_random(value),
                });
            }
        }
        found
    }
}

/// Whether what stands in a secret's place is one, and neither a type nor a reference to it.
fn is_secret(value: &str) -> bool {
    let plain = value.to_lowercase();
    let refers = [
        "${",
        "$(",
        "{{",
        "<",
        "process.env",
        "os.environ",
        "env.",
        "[secret_",
        "self.",
        "this.",
    ];
    let is_variable = value.strip_prefix('$').is_some_and(|name| {
        let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        !name.is_empty() && name.bytes().all(is_name)
    });
    let same = value
        .chars()
        .all(|c| c == '*' || c == '.' || c == 'x' || c == '•' || c == '-');
    !NO_SECRETS.contains(&&*plain)
        && !refers.iter().any(|it| plain.starts_with(it))
        && !is_variable
        && !same
        && !value.is_empty()
}

/// Whether no text has it by chance: long enough, and of letters with digits or signs among them.
pub(super) fn is_random(value: &str) -> bool {
    let has = |is: fn(&char) -> bool| value.chars().any(|c| is(&c));
    let kinds = [
        has(|c| c.is_alphabetic()),
        has(|c| c.is_numeric()),
        has(|c| !c.is_alphanumeric() && !c.is_whitespace()),
    ];
    value.chars().count() >= 6 && kinds.into_iter().filter(|it| *it).count() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut found: Vec<_> = Secrets::new()
            .find(text)
            .into_iter()
            .map(|it| it.range)
            .collect();
        found.sort_by_key(|range| (range.start, range.end));
        found.dedup();
        found.into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn secrets_are_found() {
        // Put together here, so that nobody takes them for real ones.
        let stripe = format!("sk_{}_4eC39HqLyjWDarjtT1zdp7dc", "live");
        let github = format!("ghp_{}", "a1B2".repeat(9));
        let slack = format!("xoxb-{}-abcdefghij", "1234567890");
        for (text, want) in [
            (format!("use {stripe}!"), vec![&*stripe]),
            (format!("token {github}, ok"), vec![&github]),
            (format!("{slack} "), vec![&slack]),
            (
                "AKIAIOSFODNN7EXAMPLE".to_owned(),
                vec!["AKIAIOSFODNN7EXAMPLE"],
            ),
            ("password=hunter2".to_owned(), vec!["hunter2"]),
            (
                r#"{"api_key": "abc def/42"}"#.to_owned(),
                vec!["abc def/42"],
            ),
            ("DB_PASSWORD: 's3cr et'".to_owned(), vec!["s3cr et"]),
            ("the password is swordfish.".to_owned(), vec!["swordfish"]),
            ("postgres://app:p4ss@db/x".to_owned(), vec!["p4ss"]),
            (
                "Authorization: Bearer abcdefghijklmnop".to_owned(),
                vec!["abcdefghijklmnop"],
            ),
            (
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl".to_owned(),
                vec!["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"],
            ),
        ] {
            assert_eq!(found(&text), want, "{text}");
        }
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\nAAAA==\n-----END RSA PRIVATE KEY-----";
        assert!(found(&format!("see {pem}, ok")).contains(&pem));
        let cut = "-----BEGIN PRIVATE KEY-----\nMIIBAAAA";
        assert!(found(cut).contains(&cut));
    }

    #[test]
    fn what_only_speaks_of_secrets_is_none() {
        for text in [
            "password: string",
            "token = os.environ['TOKEN']",
            "api_key=${API_KEY} password=$PASSWORD",
            "the token is valid, 5 tokens/s, tokens: many",
            "password: ********",
            "http://localhost:8080/a@b",
        ] {
            assert_eq!(found(text), Vec::<&str>::new(), "{text}");
        }
    }
}
