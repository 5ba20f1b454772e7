//! What is known by its shape: addresses of mail, telephone numbers, accounts, cards.
//!
//! What is taken out comes back in the answer, so that what only looks like a telephone number costs little, and what was
//! overlooked is gone: in doubt it is one.

use std::ops::Range;

use iban::Iban;
use linkify::{LinkFinder, LinkKind};
use regex::Regex;

/// Digits of a telephone number, with the country's.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Digits of a card's number.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Finders of all shapes.
#[derive(Debug)]
pub(super) struct Shapes {
    mail: LinkFinder,
    phones: Vec<Regex>,
    iban: Regex,
    digits: Regex,
}

impl Shapes {
    pub(super) fn new() -> Self {
        let mut mail = LinkFinder::new();
        mail.kinds(&[LinkKind::Email]);
        // A gap between digits: a sign and spaces around it.
        let gap = r"[\s\u{a0}]?[-./()\u{2010}-\u{2013}]?[-()\s\u{a0}]?";
        let phones = [
            // +49 (0)171 2345678, 0049 171 2345678
            format!(r"(?:\+|\b00)[\s\u{{a0}}]?[1-9](?:{gap}\d){{6,14}}"),
            // Tel.: 2345678, phone number is 555-1234
            format!(
                r"(?i)\b(?:tel|fon|phone|telephone|telefon|mobile?|mobil|handy|cell|fax|call|whatsapp|sms|t[ée]l[ée]phone|portable)(?:\s?(?:no|nr|number|nummer))?\b[\s.:#=\x22']*(?:is\s|ist\s)?(\+?\(?\d(?:{gap}\d){{5,13}})"
            ),
            // 0171 2345678, (030) 123-456, 01 23 45 67 89, 01712345678
            format!(r"(?:\(0\d{{1,5}}\)|\b0[1-9]\d{{0,4}})(?:{gap}\d){{5,11}}"),
            // (555) 123-4567, 555.123.4567, 1-555-123-4567
            r"(?:\b1[\s.-])?(?:\([2-9]\d{2}\)\s?|\b[2-9]\d{2}[\s.-])\d{3}[\s.-]\d{4}".to_owned(),
        ];
        Self {
            mail,
            phones: phones.iter().map(|text| pattern(text)).collect(),
            iban: pattern(r"\b[A-Za-z]{2}\d{2}(?:[\s\u{a0}-]?[A-Za-z0-9]){11,30}"),
            digits: pattern(r"\d+"),
        }
    }

    pub(super) fn emails(&self, text: &str) -> Vec<Range<usize>> {
        let links = self.mail.links(text);
        let place = |link: linkify::Link<'_>| {
            let end = link.end();
            end - address_in(link.as_str()).len()..end
        };
        links.map(place).collect()
    }

    pub(super) fn phones(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for captures in self.phones.iter().flat_map(|it| it.captures_iter(text)) {
            let Some(number) = captures.get(1).or_else(|| captures.get(0)) else {
                continue;
            };
            let range = number.range();
            let digits = number.as_str().bytes().filter(u8::is_ascii_digit).count();
            let goes_on = text[range.end..].starts_with(|c: char| c.is_ascii_digit());
            if PHONE_DIGITS.contains(&digits) && !goes_on && !is_date(number.as_str()) {
                found.push(range);
            } else if digits == 6 && captures.get(1).is_some() && !goes_on {
                // A short one that says what it is.
                found.push(range);
            }
        }
        found
    }

    pub(super) fn ibans(&self, text: &str) -> Vec<Range<usize>> {
        let candidates = self.iban.find_iter(text);
        candidates
            .filter_map(|it| iban_in(it.as_str(), it.start()))
            .collect()
    }

    /// Numbers whose last digit proves the others (Luhn), as those of cards do.
    pub(super) fn cards(&self, text: &str) -> Vec<Range<usize>> {
        let groups: Vec<_> = self.digits.find_iter(text).map(|it| it.range()).collect();
        let mut found = Vec::new();
        for (i, first) in groups.iter().enumerate() {
            // From here on, as long as only one space or hyphen is between.
            let mut last = None;
            let mut digits = String::new();
            for (j, group) in groups.iter().enumerate().skip(i) {
                let joins =
                    j == i || matches!(&text[groups[j - 1].end..group.start], " " | "-" | "\u{a0}");
                if !joins || digits.len() > *CARD_DIGITS.end() {
                    break;
                }
                digits.push_str(&text[group.clone()]);
                if is_card(&digits) {
                    last = Some(group.end);
                }
            }
            found.extend(last.map(|end| first.start..end));
        }
        found
    }
}

/// The text is ours. Words end where those of ASCII end, which is many times faster in other texts.
pub(super) fn pattern(text: &str) -> Regex {
    let text = text.replace(r"\b", r"(?-u:\b)").replace(r"\d", "[0-9]");
    Regex::new(&text).expect("the pattern is one. This is a bug.")
}

/// An address without what stands before it in links and forms, `to=`. Addresses that programs make for letters that come back
/// have an equals sign of their own.
fn address_in(text: &str) -> &str {
    let text = text
        .rsplit_once(['?', '&'])
        .map_or(text, |(_, address)| address);
    let is_made = |key: &str| {
        let key = key.to_ascii_lowercase();
        key.contains('+') || key.contains("bounce") || key.starts_with("srs")
    };
    match text.rsplit_once('=') {
        Some((key, address)) if !is_made(key) && !address.starts_with('@') => address,
        _ => text,
    }
}

/// Dates have as many digits as telephone numbers.
fn is_date(text: &str) -> bool {
    let parts: Vec<_> = text
        .split(['.', '-', '/', ' '])
        .filter(|part| !part.is_empty())
        .collect();
    let number = |text: &str| text.parse::<u32>().ok();
    let numbers: Option<Vec<_>> = parts.iter().map(|part| number(part)).collect();
    match numbers.as_deref() {
        Some([a, b, c]) => {
            let (day_first, year_first) = (
                *a <= 31 && *b <= 31 && (1900..2100).contains(c),
                (1900..2100).contains(a) && *b <= 12 && *c <= 31,
            );
            (day_first || year_first) && parts.iter().all(|part| part.len() <= 4)
        }
        _ => false,
    }
}

/// An IBAN at the beginning of a text that may go on: countries have lengths of their own.
fn iban_in(text: &str, start: usize) -> Option<Range<usize>> {
    let mut plain = String::new();
    let mut found = None;
    for (i, c) in text
        .char_indices()
        .filter(|(_, c)| c.is_ascii_alphanumeric())
    {
        plain.push(c.to_ascii_uppercase());
        if plain.len() >= 15 && plain.parse::<Iban>().is_ok() {
            let end = i + c.len_utf8();
            let goes_on = text[end..].starts_with(|c: char| c.is_ascii_alphanumeric());
            found = (!goes_on).then_some(start..start + end).or(found);
        }
    }
    found
}

/// As ISO/IEC 7812 has them; nothing begins with another digit.
fn is_card(digits: &str) -> bool {
    CARD_DIGITS.contains(&digits.len())
        && matches!(digits.as_bytes()[0], b'1'..=b'6')
        && digits.bytes().any(|b| b != digits.as_bytes()[0])
        && luhn(digits)
}

/// Every second digit from the right counts twice.
fn luhn(digits: &str) -> bool {
    let value = |(i, digit): (usize, u8)| {
        let digit = u32::from(digit - b'0') << (i % 2);
        digit / 10 + digit % 10
    };
    let sum: u32 = digits.bytes().rev().enumerate().map(value).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(find: impl Fn(&Shapes, &str) -> Vec<Range<usize>>, text: &str, want: &[&str]) {
        let found = find(&Shapes::new(), text);
        let mut found: Vec<_> = found.into_iter().map(|range| &text[range]).collect();
        let all = found.clone();
        found.retain(|one| {
            !all.iter()
                .any(|it| it.len() > one.len() && it.contains(one))
        });
        found.dedup();
        assert_eq!(found, want, "{text}");
    }

    #[test]
    fn addresses_of_mail() {
        for (text, want) in [
            (
                "write to anna.b+c@mail.example.com.",
                &["anna.b+c@mail.example.com"][..],
            ),
            ("<a@b.de>,c_d@e-f.org;", &["a@b.de", "c_d@e-f.org"]),
            ("mailto:x@example.com?subject=hi", &["x@example.com"]),
            ("?to=a@b.de&cc=c@d.de", &["a@b.de", "c@d.de"]),
            ("bounce-a=b.de@list.com", &["bounce-a=b.de@list.com"]),
            ("müller@exämple.de", &["müller@exämple.de"]),
            ("an @ sign, a@b, @name", &[]),
        ] {
            check(Shapes::emails, text, want);
        }
    }

    #[test]
    fn telephone_numbers() {
        for (text, want) in [
            ("call +49 (0)171 2345678 now", &["+49 (0)171 2345678"][..]),
            (
                "+1-555-123-4567, 0049 30 1234567",
                &["+1-555-123-4567", "0049 30 1234567"],
            ),
            ("tel: 0171/2345678", &["0171/2345678"]),
            (
                "01 23 45 67 89 or 01712345678",
                &["01 23 45 67 89", "01712345678"],
            ),
            ("(555) 123-4567", &["(555) 123-4567"]),
            ("Phone number is 5551234", &["5551234"]),
            ("+4915112345678", &["+4915112345678"]),
            (
                "on 01.02.2024, 2024-01-31 at 10:15, 3.14159265, 1000000, 192.168.100.200",
                &[],
            ),
            ("1700000000 seconds, 12345678 bytes, v0.12.3", &[]),
        ] {
            check(Shapes::phones, text, want);
        }
    }

    #[test]
    fn accounts() {
        for (text, want) in [
            (
                "DE89 3704 0044 0532 0130 00 and more",
                &["DE89 3704 0044 0532 0130 00"][..],
            ),
            ("to DE89370400440532013000.", &["DE89370400440532013000"]),
            ("gb82west12345698765432", &["gb82west12345698765432"]),
            // One digit is wrong.
            ("DE89370400440532013001", &[]),
            ("NO9386011117947 12 items", &["NO9386011117947"]),
        ] {
            check(Shapes::ibans, text, want);
        }
    }

    #[test]
    fn cards() {
        for (text, want) in [
            ("4111 1111 1111 1111 12/27", &["4111 1111 1111 1111"][..]),
            ("5500-0000-0000-0004", &["5500-0000-0000-0004"]),
            ("no. 7 378282246310005", &["378282246310005"]),
            ("4111111111111112", &[]),
            ("1111111111111111, 9007199254740991", &[]),
        ] {
            check(Shapes::cards, text, want);
        }
    }
}
