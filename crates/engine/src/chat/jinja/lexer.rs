//! Source text to tokens, with the whitespace rules that chat templates are written for: `trim_blocks` and
//! `lstrip_blocks` on, one newline at the end of the source dropped.

use super::error::{Error, Fault};
use super::text::is_space;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Data(String),
    /// `{{`
    OutputStart,
    /// `}}`
    OutputEnd,
    /// `{%`
    BlockStart,
    /// `%}`
    BlockEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) token: Token,
    pub(super) line: u32,
}

/// Longest first, so that the first that fits is the right one.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

pub(super) fn tokenize(source: &str) -> Result<Vec<Located>, Error> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let lexer = Lexer {
        rest: &source,
        line: 1,
        at_line_start: true,
        tokens: Vec::new(),
    };
    lexer.run()
}

struct Lexer<'s> {
    rest: &'s str,
    line: u32,
    /// Whether what was consumed last ended with a newline.
    at_line_start: bool,
    tokens: Vec<Located>,
}

/// How a tag wants the whitespace beside it.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    /// `-`: removed.
    Strip,
    /// `+`: kept.
    Keep,
    Default,
}

impl Lexer<'_> {
    fn run(mut self) -> Result<Vec<Located>, Error> {
        while let Some((at, opener)) = next_opener(self.rest) {
            let data = &self.rest[..at];
            let after = &self.rest[at + 2..];
            let sign = match after.as_bytes().first() {
                Some(b'-') => Sign::Strip,
                Some(b'+') => Sign::Keep,
                _ => Sign::Default,
            };
            let kept = self.left_of_tag(data, sign, opener == "{{");
            self.push_data(kept);
            self.consume(at + 2 + usize::from(sign != Sign::Default));
            match opener {
                "{#" => self.comment()?,
                "{{" => self.tag(Token::OutputStart, Token::OutputEnd, "}}")?,
                _ => match raw_tag(self.rest, "raw") {
                    Some((len, strip)) => self.raw(len, strip)?,
                    None => self.tag(Token::BlockStart, Token::BlockEnd, "%}")?,
                },
            }
        }
        self.push_data(self.rest);
        self.consume(self.rest.len());
        self.push(Token::End);
        Ok(self.tokens)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Error> {
        Err(Error {
            line: self.line,
            fault: Fault::Failed(message.into()),
        })
    }

    fn push(&mut self, token: Token) {
        let line = self.line;
        self.tokens.push(Located { token, line });
    }

    fn push_data(&mut self, data: &str) {
        if !data.is_empty() {
            self.push(Token::Data(data.to_owned()));
        }
    }

    fn consume(&mut self, len: usize) {
        let (gone, rest) = self.rest.split_at(len);
        if let Some(last) = gone.bytes().last() {
            self.at_line_start = last == b'\n';
        }
        self.line += gone.bytes().filter(|&b| b == b'\n').count() as u32;
        self.rest = rest;
    }

    /// What is kept of the text to the left of a tag.
    fn left_of_tag<'d>(&self, data: &'d str, sign: Sign, is_output: bool) -> &'d str {
        match sign {
            Sign::Strip => data.trim_end_matches(is_space),
            Sign::Default if !is_output => {
                let line_start = data.rfind('\n').map_or(0, |at| at + 1);
                let blank = data[line_start..].chars().all(is_space);
                if blank && (line_start > 0 || self.at_line_start) {
                    &data[..line_start]
                } else {
                    data
                }
            }
            _ => data,
        }
    }

    /// Consumes the end of a tag with the whitespace that goes with it, if it stands here.
    fn tag_end(&mut self, closer: &str) -> bool {
        let (sign, after) = match self.rest.as_bytes().first() {
            Some(b'-') => (Sign::Strip, &self.rest[1..]),
            // `+}}` is an operator and then the end.
            Some(b'+') if closer != "}}" => (Sign::Keep, &self.rest[1..]),
            _ => (Sign::Default, self.rest),
        };
        let Some(after) = after.strip_prefix(closer) else {
            return false;
        };
        let after = match sign {
            Sign::Strip => after.trim_start_matches(is_space),
            Sign::Default if closer != "}}" => after.strip_prefix('\n').unwrap_or(after),
            _ => after,
        };
        self.consume(self.rest.len() - after.len());
        true
    }

    fn comment(&mut self) -> Result<(), Error> {
        let Some(at) = self.rest.find("#}") else {
            return self.fail("a comment is not closed: `#}` is missing");
        };
        let sign = matches!(self.rest[..at].bytes().last(), Some(b'-' | b'+'));
        self.consume(at - usize::from(sign));
        self.tag_end("#}");
        Ok(())
    }

    /// `{% raw %}`, of which `len` bytes are left, to `{% endraw %}`.
    fn raw(&mut self, len: usize, strip: bool) -> Result<(), Error> {
        self.consume(len);
        if strip {
            self.consume(self.rest.len() - self.rest.trim_start_matches(is_space).len());
        }
        for (at, _) in self.rest.match_indices("{%") {
            let after = &self.rest[at + 2..];
            let sign = match after.as_bytes().first() {
                Some(b'-') => Sign::Strip,
                Some(b'+') => Sign::Keep,
                _ => Sign::Default,
            };
            let after = &after[usize::from(sign != Sign::Default)..];
            let Some(name) = after.trim_start_matches(is_space).strip_prefix("endraw") else {
                continue;
            };
            let name = name.trim_start_matches(is_space);
            if !["%}", "-%}", "+%}"].iter().any(|end| name.starts_with(end)) {
                continue;
            }
            let kept = self.left_of_tag(&self.rest[..at], sign, false);
            self.push_data(kept);
            self.consume(self.rest.len() - name.len());
            self.tag_end("%}");
            return Ok(());
        }
        self.fail("`raw` is not closed: `{% endraw %}` is missing")
    }

    fn tag(&mut self, start: Token, end: Token, closer: &str) -> Result<(), Error> {
        self.push(start);
        // Brackets that are open. While any is, `}}` closes braces, not the tag.
        let mut open = Vec::new();
        loop {
            if open.is_empty() {
                let line = self.line;
                if self.tag_end(closer) {
                    self.tokens.push(Located { token: end, line });
                    return Ok(());
                }
            }
            let Some(c) = self.rest.chars().next() else {
                return self.fail(format!("a tag is not closed: `{closer}` is missing"));
            };
            match c {
                _ if is_space(c) => self.consume(c.len_utf8()),
                '0'..='9' => self.number()?,
                '"' | '\'' => self.string(c)?,
                _ if c == '_' || c.is_alphanumeric() => self.name(),
                _ => self.operator(&mut open)?,
            }
        }
    }

    fn name(&mut self) {
        let len = self
            .rest
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(self.rest.len());
        self.push(Token::Name(self.rest[..len].to_owned()));
        self.consume(len);
    }

    fn operator(&mut self, open: &mut Vec<char>) -> Result<(), Error> {
        let Some(operator) = OPERATORS.into_iter().find(|op| self.rest.starts_with(op)) else {
            let c = self.rest.chars().next().unwrap_or_default();
            return self.fail(format!("unexpected character {c:?}"));
        };
        match operator {
            "(" => open.push(')'),
            "[" => open.push(']'),
            "{" => open.push('}'),
            ")" | "]" | "}" => match open.pop() {
                Some(expected) if operator.starts_with(expected) => {}
                Some(expected) => {
                    return self.fail(format!("unexpected `{operator}`, expected `{expected}`"));
                }
                None => return self.fail(format!("unexpected `{operator}`")),
            },
            _ => {}
        }
        self.push(Token::Operator(operator));
        self.consume(operator.len());
        Ok(())
    }

    fn number(&mut self) -> Result<(), Error> {
        let radix = match self.rest.get(..2) {
            Some("0x" | "0X") => 16,
            Some("0o" | "0O") => 8,
            Some("0b" | "0B") => 2,
            _ => 10,
        };
        let (len, token) = if radix == 10 {
            let whole = digits(self.rest);
            // `x.0.1` holds two integers, not a float.
            let after_dot =
                matches!(self.tokens.last(), Some(last) if last.token == Token::Operator("."));
            let len = if after_dot {
                whole
            } else {
                float_len(self.rest, whole)
            };
            let text = self.rest[..len].replace('_', "");
            let token = if len == whole {
                text.parse().ok().map(Token::Int)
            } else {
                text.parse().ok().map(Token::Float)
            };
            (len, token)
        } else {
            let is_digit = |c: char| c == '_' || c.is_digit(radix);
            let digits = &self.rest[2..];
            let len = digits.find(|c| !is_digit(c)).unwrap_or(digits.len());
            let value = i128::from_str_radix(&digits[..len].replace('_', ""), radix);
            (2 + len, value.ok().map(Token::Int))
        };
        let Some(token) = token else {
            return self.fail("a number does not fit 127 bits");
        };
        self.push(token);
        self.consume(len);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<(), Error> {
        let mut escaped = false;
        let end = self.rest[1..].find(|c| match c {
            _ if escaped => {
                escaped = false;
                false
            }
            '\\' => {
                escaped = true;
                false
            }
            _ => c == quote,
        });
        let Some(len) = end else {
            return self.fail("a string is not closed");
        };
        match unescape(&self.rest[1..=len]) {
            Some(text) => self.push(Token::Text(text)),
            None => return self.fail("a string has an escape that stands for no character"),
        }
        self.consume(len + 2);
        Ok(())
    }
}

/// Where the next tag, output or comment opens.
fn next_opener(text: &str) -> Option<(usize, &'static str)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = text[from..].find('{').map(|at| from + at) {
        match bytes.get(at + 1) {
            Some(b'{') => return Some((at, "{{")),
            Some(b'%') => return Some((at, "{%")),
            Some(b'#') => return Some((at, "{#")),
            _ => from = at + 1,
        }
    }
    None
}

/// What is left of `{% raw %}` after its opener and sign: its length, and whether it strips what follows.
fn raw_tag(rest: &str, name: &str) -> Option<(usize, bool)> {
    let after = rest.trim_start_matches(is_space).strip_prefix(name)?;
    let after = after.trim_start_matches(is_space);
    let (after, strip) = match after.strip_prefix("-%}") {
        Some(after) => (after, true),
        None => (after.strip_prefix("%}")?, false),
    };
    Some((rest.len() - after.len(), strip))
}

/// Length of a run of decimal digits and underscores.
fn digits(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_ascii_digit())
        .unwrap_or(text.len())
}

/// Length of the number that begins with `whole` digits: longer if a fraction or an exponent follows.
fn float_len(text: &str, whole: usize) -> usize {
    let starts_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let mut len = whole;
    if text[len..].starts_with('.') && starts_with_digit(&text[len + 1..]) {
        len += 1 + digits(&text[len + 1..]);
    }
    if let Some(exponent) = text[len..].strip_prefix(['e', 'E']) {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if starts_with_digit(unsigned) {
            len = text.len() - unsigned.len() + digits(unsigned);
        }
    }
    len
}

/// Python's escapes of string literals. `None` when one names no character.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let hex = |chars: &mut std::str::Chars<'_>, len: usize| {
            let digits = chars.as_str().get(..len)?;
            *chars = chars.as_str()[len..].chars();
            let code = u32::from_str_radix(digits, 16).ok()?;
            char::from_u32(code)
        };
        match chars.next()? {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'v' => out.push('\x0b'),
            'x' => out.push(hex(&mut chars, 2)?),
            'u' => out.push(hex(&mut chars, 4)?),
            'U' => out.push(hex(&mut chars, 8)?),
            c @ ('\\' | '\'' | '"') => out.push(c),
            first @ '0'..='7' => {
                let mut code = first.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = chars.clone().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    chars.next();
                    code = code * 8 + digit;
                }
                out.push(char::from_u32(code)?);
            }
            // What is no escape stays as it is written.
            c => out.extend(['\\', c]),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(source: &str) -> String {
        let tokens = tokenize(source).expect("the source is well formed");
        let data = tokens.into_iter().map(|located| match located.token {
            Token::Data(text) => text,
            Token::BlockStart => "<".to_owned(),
            Token::OutputStart => "(".to_owned(),
            _ => String::new(),
        });
        data.collect()
    }

    #[test]
    fn whitespace_beside_tags() {
        for (source, kept) in [
            ("a\n  {% x %}\n  b", "a\n<  b"),
            ("a {% x %} b", "a < b"),
            ("a\n  {%+ x +%}\n  b", "a\n  <\n  b"),
            ("a \n {%- x -%} \n b", "a<b"),
            ("  {% x %}\n  {% y %}\nz", "<<z"),
            ("  {{ x }}\n", "  ("),
            ("{{ x }}\n{{ y }}\n\n", "(\n(\n"),
            (" {{- x -}} \n", "("),
            ("a\n  {# c #}\nb", "a\nb"),
            ("a {#- c -#} b", "ab"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("{% raw %}{{ x }}{% y %}{% endraw %}z", "{{ x }}{% y %}z"),
            ("a\n {%- raw -%} b {%- endraw -%} c", "abc"),
            ("{ {x } {", "{ {x } {"),
        ] {
            assert_eq!(data(source), kept, "{source:?}");
        }
    }

    #[test]
    fn tokens_of_expressions() {
        let tokens = tokenize(r#"{{ {'a':{'b':1}}.x_1 1.5e3 0x1F 1_000 "\n\u00e9\d" }}"#)
            .expect("well formed");
        let tokens: Vec<_> = tokens.into_iter().map(|located| located.token).collect();
        let op = Token::Operator;
        assert_eq!(
            tokens,
            [
                Token::OutputStart,
                op("{"),
                Token::Text("a".to_owned()),
                op(":"),
                op("{"),
                Token::Text("b".to_owned()),
                op(":"),
                Token::Int(1),
                op("}"),
                op("}"),
                op("."),
                Token::Name("x_1".to_owned()),
                Token::Float(1500.0),
                Token::Int(31),
                Token::Int(1000),
                Token::Text("\né\\d".to_owned()),
                Token::OutputEnd,
                Token::End,
            ]
        );
    }

    #[test]
    fn bad_sources_name_their_line() {
        for (source, line) in [
            ("\n\n{{ x", 3),
            ("{# x", 1),
            ("\n{% raw %}", 2),
            ("{{ 'x }}", 1),
            ("{{ (] }}", 1),
            ("{{ ) }}", 1),
            ("{{ ? }}", 1),
            ("{{ '\\ud800' }}", 1),
            ("{{ 999999999999999999999999999999999999999999 }}", 1),
        ] {
            assert_eq!(tokenize(source).expect_err(source).line, line, "{source:?}");
        }
    }
}
