//! Addresses: which ones a link may have, and those that stand in text without being marked as links.

use crate::node::{Node, Tag};

/// Longer ones are not clicked by anyone.
const LENGTH_MAX: usize = 4096;

/// The address as a link may have it; `None` if it is none that may be followed. Nothing is left to how a browser reads it:
/// control characters, which browsers drop before they look for the scheme, make it none, and a scheme without `//` would be
/// relative to the page.
pub(super) fn allowed(address: &str) -> Option<String> {
    let starts = |scheme: &str| {
        let head = address.as_bytes().get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    let is_known = ["http://", "https://", "mailto:"].into_iter().any(starts);
    let is_plain = address.len() <= LENGTH_MAX && !address.chars().any(char::is_control);
    (is_known && is_plain).then(|| address.replace(' ', "%20"))
}

/// Makes links of the addresses that stand in the texts among `nodes`.
pub(super) fn link(nodes: &mut Vec<Node>) {
    let has_some = |node: &Node| matches!(node, Node::Text(text) if text.contains("://"));
    if !nodes.iter().any(has_some) {
        return;
    }
    for node in std::mem::take(nodes) {
        match node {
            Node::Text(text) => link_text(&text, nodes),
            element => nodes.push(element),
        }
    }
}

fn link_text(text: &str, nodes: &mut Vec<Node>) {
    let mut told = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find("://") {
        let colon = at + found;
        at = colon + 3;
        let Some(begin) = scheme_before(&text[told..colon]).map(|length| colon - length) else {
            continue;
        };
        let end = begin + length(&text[begin..]);
        let href = (end > at).then(|| allowed(&text[begin..end])).flatten();
        let Some(href) = href else {
            // What is too long is passed over at once: looked at from each of its parts, it would take the square of its length.
            at = at.max(end);
            continue;
        };
        if begin > told {
            nodes.push(text[told..begin].into());
        }
        nodes.push(Tag::A { href }.with(vec![text[begin..end].into()]));
        told = end;
        at = end;
    }
    if told < text.len() {
        nodes.push(text[told..].into());
    }
}

/// The length of the scheme that ends a text, where it is one of ours and no word's end.
fn scheme_before(text: &str) -> Option<usize> {
    let scheme = ["https", "http"].into_iter().find(|scheme| {
        let cut = text.len().checked_sub(scheme.len());
        let tail = cut.and_then(|cut| text.as_bytes().get(cut..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(scheme.as_bytes()))
    })?;
    let before = text[..text.len() - scheme.len()].chars().next_back();
    (!before.is_some_and(char::is_alphanumeric)).then_some(scheme.len())
}

/// The length of the address that begins a text: up to the first blank, without the punctuation of the sentence around it.
fn length(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '`');
    let text = &text[..text.floor_char_boundary(LENGTH_MAX + 1)];
    let mut address = &text[..text.find(ends).unwrap_or(text.len())];
    let open = address.matches('(').count();
    let mut close = address.matches(')').count();
    while let Some(last) = address.chars().next_back() {
        match last {
            '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '*' | '_' | '~' | ']' | '}' => {}
            // One that belongs to the address has an opening one in it.
            ')' if close > open => close -= 1,
            _ => break,
        }
        address = &address[..address.len() - last.len_utf8()];
    }
    address.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_and_mail_are_followed() {
        for good in [
            "http://a",
            "HTTPS://a.example/?q=1#x",
            "mailto:a@b.example",
            "https://ä.example/ü",
        ] {
            assert_eq!(allowed(good).as_deref(), Some(good));
        }
        assert_eq!(allowed("https://a/b c").as_deref(), Some("https://a/b%20c"));
        for bad in [
            "",
            "a",
            "/x",
            "//evil.example",
            "http:evil",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            " javascript:alert(1)",
            "java\tscript:alert(1)",
            "\u{1}https://a",
            "https://a\n",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:https://a",
            "ftp://a",
        ] {
            assert_eq!(allowed(bad), None, "{bad:?}");
        }
        assert_eq!(allowed(&format!("https://{}", "a".repeat(5000))), None);
    }

    #[test]
    fn addresses_in_text_are_links() {
        for (text, want) in [
            ("see https://a.example.", &["https://a.example"][..]),
            (
                "(https://a/b_(c)), http://x?y=1!",
                &["https://a/b_(c)", "http://x?y=1"],
            ),
            ("HTTP://A", &["HTTP://A"]),
            ("xhttp://a https:// http://.", &[]),
            ("ftp://a javascript://b", &[]),
            ("https://a\u{202e}b", &["https://a\u{202e}b"]),
            ("http://ahttp://b", &["http://ahttp://b"]),
            ("javascript://x http://b", &["http://b"]),
        ] {
            let mut nodes = vec![Node::from(text)];
            link(&mut nodes);
            let mut links = Vec::new();
            let mut whole = String::new();
            for node in &nodes {
                match node {
                    Node::Text(text) => whole.push_str(text),
                    Node::Element(element) => {
                        let [Node::Text(shown)] = &element.children[..] else {
                            panic!("{element:?}")
                        };
                        whole.push_str(shown);
                        links.push(&**shown);
                    }
                }
            }
            assert_eq!(whole, text);
            assert_eq!(links, want, "{text}");
        }
    }
}
