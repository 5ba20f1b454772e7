//! What Markdown becomes, that it is harmless, and that it does not matter how it comes in.

use proptest::prelude::*;
use serde_json::{Value, json, to_value};

use super::tree::DEPTH_MAX;
use super::*;
use crate::node::Element;

fn shown(text: &str) -> Value {
    let nodes = render(text);
    check(&nodes);
    to_value(nodes).unwrap()
}

/// Nodes that may be shown, whoever wrote the text.
fn check(nodes: &[Node]) {
    let mut todo: Vec<(usize, &Node)> = nodes.iter().map(|node| (0, node)).collect();
    while let Some((depth, node)) = todo.pop() {
        assert!(depth <= DEPTH_MAX, "too deep");
        let Node::Element(Element { tag, children }) = node else {
            continue;
        };
        if let Tag::A { href } = tag {
            let known = ["http://", "https://", "mailto:"];
            let small = href.to_ascii_lowercase();
            assert!(
                known.iter().any(|scheme| small.starts_with(scheme)),
                "{href}"
            );
            assert!(
                !href.contains(|c: char| c.is_control() || c == ' '),
                "{href}"
            );
        }
        if let Tag::Pre { lang } = tag {
            assert!(matches!(&children[..], [Node::Text(_)]), "{children:?}");
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "+#._-".contains(c);
            assert!(
                lang.iter().all(|lang| lang.chars().all(is_plain)),
                "{lang:?}"
            );
        }
        todo.extend(children.iter().map(|node| (depth + 1, node)));
    }
}

/// All text of some nodes.
fn words(nodes: &[Node]) -> String {
    let mut words = String::new();
    for node in nodes {
        match node {
            Node::Text(text) => words.push_str(text),
            Node::Element(element) => words.push_str(&self::words(&element.children)),
        }
    }
    words
}

#[test]
fn markdown_becomes_elements() {
    let text =
        "# A *b*\n\nc **d** ~~e~~ `f`\\\ng\n\n> h\n\n1. i\n2. j\n\n- [x] k\n- [ ] l\n\n---\n";
    let want = json!([
        {"t": "h1", "c": ["A ", {"t": "em", "c": ["b"]}]},
        {"t": "p", "c": ["c ", {"t": "strong", "c": ["d"]}, " ", {"t": "del", "c": ["e"]}, " ", {"t": "code", "c": ["f"]}, {"t": "br", "c": []}, "g"]},
        {"t": "blockquote", "c": [{"t": "p", "c": ["h"]}]},
        {"t": "ol", "start": 1, "c": [{"t": "li", "c": ["i"]}, {"t": "li", "c": ["j"]}]},
        {"t": "ul", "c": [{"t": "li", "task": true, "c": ["k"]}, {"t": "li", "task": false, "c": ["l"]}]},
        {"t": "hr", "c": []},
    ]);
    assert_eq!(shown(text), want);
}

#[test]
fn tables_have_heads_and_sides() {
    let want = json!([{"t": "table", "c": [
        {"t": "thead", "c": [{"t": "tr", "c": [{"t": "th", "align": "left", "c": ["a"]}, {"t": "th", "align": "right", "c": ["b"]}]}]},
        {"t": "tbody", "c": [{"t": "tr", "c": [{"t": "td", "align": "left", "c": ["1"]}, {"t": "td", "align": "right", "c": ["2"]}]}, {"t": "tr", "c": [{"t": "td", "align": "left", "c": ["3"]}]}]},
    ]}]);
    assert_eq!(shown("|a|b|\n|:-|-:|\n|1|2|\n|3|\n"), want);
    // One short row costs no more than it has.
    let wide = format!(
        "{}|\n{}|\n{}",
        "|a".repeat(2000),
        "|-".repeat(2000),
        "|\n".repeat(20_000)
    );
    assert!(to_value(render(&wide)).unwrap().to_string().len() < 2_000_000);
}

#[test]
fn code_is_one_text_as_it_was_written() {
    let pre = |lang: &str, code: &str| json!([{"t": "pre", "lang": lang, "c": [code]}]);
    let text = "```rust\nfn main() {\n\n    <b>*x*</b>\n}\n```\n";
    assert_eq!(shown(text), pre("rust", "fn main() {\n\n    <b>*x*</b>\n}"));
    assert_eq!(shown("~~~ c++ x\na\r\nb"), pre("c++", "a\nb"));
    assert_eq!(shown("  ```x\n  a\n b\n   c\n  ```"), pre("x", "a\nb\n c"));
    assert_eq!(shown("```"), json!([{"t": "pre", "c": [""]}]));
    assert_eq!(
        shown("    a\n    b\n"),
        json!([{"t": "pre", "c": ["a\nb"]}])
    );
    let in_list = json!([{"t": "ul", "c": [{"t": "li", "c": ["a", {"t": "pre", "lang": "sh", "c": ["b\n\nc"]}]}]}]);
    assert_eq!(shown("- a\n  ```sh\n  b\n\n  c\n  ```\n"), in_list);
}

#[test]
fn what_is_hostile_is_text() {
    for (text, want) in [
        (
            "<script>alert(1)</script>",
            json!(["<script>alert(1)</script>"]),
        ),
        (
            "a <img src=x onerror=alert(1)> b",
            json!(["a <img src=x onerror=alert(1)> b"]),
        ),
        ("[a](javascript:alert(1))", json!(["a"])),
        ("[a](JaVa&#115;cript:alert(1))", json!(["a"])),
        ("[a](<java\tscript:x>)", json!(["a"])),
        ("[a](data:text/html;base64,PHN2Zz4=)", json!(["a"])),
        ("<javascript:alert(1)>", json!(["javascript:alert(1)"])),
        ("[a](//evil.example/x)", json!(["a"])),
        ("![a](data:image/png;base64,AA==)", json!(["a"])),
        (
            "![a *b*](https://evil.example/x.png)",
            json!([{"t": "a", "href": "https://evil.example/x.png", "c": ["a b"]}]),
        ),
        (
            "![](http://e/x)",
            json!([{"t": "a", "href": "http://e/x", "c": ["http://e/x"]}]),
        ),
        (
            "[![a](http://e/x)](https://f)",
            json!([{"t": "a", "href": "https://f", "c": ["a"]}]),
        ),
        (
            "<a@b.example>",
            json!([{"t": "a", "href": "mailto:a@b.example", "c": ["a@b.example"]}]),
        ),
        ("a \u{202e}b\u{2066}c", json!(["a \u{202e}b\u{2066}c"])),
    ] {
        let shown = shown(text);
        let [block] = &shown.as_array().unwrap()[..] else {
            panic!("{text}");
        };
        assert_eq!((&block["t"], &block["c"]), (&json!("p"), &want), "{text}");
    }
    assert_eq!(
        shown("```\"><script>\nx\n```"),
        json!([{"t": "pre", "c": ["x"]}])
    );
}

#[test]
fn what_is_nested_without_end_is_flat_from_some_depth_on() {
    for text in [
        format!("{}a", ">".repeat(30_000)),
        format!("{}a", "- ".repeat(30_000)),
        format!("{}a{}", "*".repeat(30_000), "*".repeat(30_000)),
        format!("{}a{}", "[".repeat(30_000), "](http://a)".repeat(30_000)),
        format!("{}a", "![".repeat(30_000)),
        (0..200)
            .map(|depth| format!("{}- a\n", "  ".repeat(depth)))
            .collect(),
    ] {
        let nodes = render(&text);
        check(&nodes);
        assert!(words(&nodes).contains('a'), "the text is kept");
    }
}

#[test]
fn a_text_of_very_many_nodes_ends_as_it_was_written() {
    let text = "*a* `b`\n\n".repeat(200_000);
    let nodes = render(&text);
    let last = nodes.last().unwrap();
    assert_eq!(*last, Tag::P.with(vec!["*a* `b`".into()]));
    assert_ne!(nodes[0], *last);
}

#[test]
fn definitions_hold_wherever_they_stand() {
    let link = json!({"t": "p", "c": [{"t": "a", "href": "https://a", "c": ["x"]}]});
    assert_eq!(shown("[x]: https://a\n\n[x]"), json!([link]));
    assert_eq!(shown("[x][Y  z]\n\nb\n\n[y Z]: https://a")[0], link);
    assert_eq!(
        shown("[x]\n\n[x]: javascript:alert(1)"),
        json!([{"t": "p", "c": ["[x]"]}])
    );
    // The first one holds.
    assert_eq!(
        shown("[x]\n\n[x]: https://a\n\nb\n\n[x]: https://b")[0],
        link
    );
    // A short label for a long address does not make a short text long.
    let address = "a".repeat(4000);
    let text = format!("[x]: https://{address}\n\n{}", "[x]".repeat(20_000));
    assert!(to_value(render(&text)).unwrap().to_string().len() < 1_000_000);
}

#[test]
fn a_growing_code_block_is_only_added_to() {
    let mut renderer = Renderer::default();
    let mut shown = Vec::new();
    let mut texts = 0;
    renderer.push("See:\n\n```py\n");
    for line in 0..1000 {
        for update in renderer.update() {
            texts += usize::from(matches!(update, Update::Text(_)));
            assert!(line == 0 || matches!(update, Update::Text(_)));
            update.apply(&mut shown);
        }
        renderer.push(&format!("    print({line})\n\n"));
    }
    assert_eq!(texts, 999);
    renderer.push("```\nDone.");
    let updates = renderer.finish();
    assert!(matches!(
        updates[..],
        [Update::Text(_), Update::Blocks { from: 2, .. }]
    ));
    for update in updates {
        update.apply(&mut shown);
    }
    assert_eq!(shown, render(renderer.text()));
    assert_eq!(shown.len(), 3);
}

#[test]
fn what_is_complete_is_never_told_again() {
    let mut renderer = Renderer::default();
    let mut most = 0;
    for paragraph in 0..3000 {
        renderer.push(&format!("Paragraph *{paragraph}* of many.\n\n"));
        for update in renderer.update() {
            let Update::Blocks { from, blocks } = update else {
                panic!("no code here");
            };
            assert!(from + 2 >= paragraph, "{from} at {paragraph}");
            most = most.max(blocks.len());
        }
    }
    assert!(most <= 2, "{most}");
}

/// Text with much that means something in Markdown.
fn markdown() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "a",
        "word ",
        " ",
        "  ",
        "    ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "# ",
        "- ",
        "* ",
        "1. ",
        "2) ",
        "> ",
        "```",
        "```rust\n",
        "~~~",
        "`",
        "*",
        "**",
        "_",
        "~~",
        "[",
        "]",
        "](",
        "](https://a.example)",
        "](javascript:x)",
        "![",
        "<",
        ">",
        "<script>",
        "<!--",
        "-->",
        "</div>",
        "<div>\n",
        "|",
        "|a|b|\n|-|-|\n",
        "---\n",
        "===\n",
        "[x]: https://x\n",
        "[x]",
        "[ ] ",
        "\\",
        "&#106;",
        "&lt;",
        "https://b.example/",
        "mailto:c@d",
        "\u{202e}",
        "ä",
        "𝒳",
        "\0",
        "\u{b}",
    ]);
    prop::collection::vec(bits, 0..60).prop_map(|bits| bits.concat())
}

/// Feeds a text in these parts, with an update after each.
fn grown(text: &str, cuts: &[usize]) -> Vec<Node> {
    let mut renderer = Renderer::default();
    let mut shown = Vec::new();
    let mut at = 0;
    let mut cuts = cuts.iter().cycle();
    while at < text.len() {
        let wanted = at + cuts.next().copied().unwrap_or(1).max(1);
        let mut end = wanted.min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        renderer.push(&text[at..end]);
        at = end;
        for update in renderer.update() {
            update.apply(&mut shown);
        }
        check(&shown);
    }
    for update in renderer.finish() {
        update.apply(&mut shown);
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_harmless(text in any::<String>()) {
        check(&render(&text));
    }

    #[test]
    fn any_markdown_is_harmless(text in markdown()) {
        check(&render(&text));
    }

    #[test]
    fn it_does_not_matter_how_a_text_comes_in(
        text in markdown(),
        cuts in prop::collection::vec(1usize..12, 1..8),
    ) {
        prop_assert_eq!(grown(&text, &cuts), render(&text));
    }

    /// Cut into pieces, a text is what it is as a whole, where it has no HTML: that ends at a blank line here.
    #[test]
    fn pieces_are_what_the_whole_is(text in markdown()) {
        // The parser has ways of its own with blanks at the end of a code block that is open, and takes a fence with a tab
        // after it for no end, which CommonMark does.
        let text = text.replace(['\\', '&', '<', '\r', '[', '\u{b}', '\0'], "") + "\nend";
        let lines: Vec<_> = text.split('\n').map(|line| line.trim_end_matches([' ', '\t'])).collect();
        let text = lines.join("\n");
        let mut pieces = Vec::new();
        cut::Cutter::default().read(&text, true, &mut pieces);
        let whole = tree::parse(&text, &Definitions::default()).blocks;
        let whole = to_value(whole).unwrap();
        prop_assert_eq!(to_value(render(&text)).unwrap(), whole, "{:?}", pieces);
    }
}
