//! How long texts of a megabyte take to render that are made to take long; those over 100 ms are printed.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use troika_chats::render;

fn main() {
    for bits in [
        "[",
        "![",
        "[a](",
        "[a](<b",
        "*a_ ",
        "**a *",
        "_a*b_",
        "~~a ~",
        "`",
        "` `` ``` ",
        "<!--",
        "<?",
        "<a ",
        "<a b='",
        "<![CDATA[",
        "&",
        "&#1",
        "\\",
        "|",
        "|-",
        "> ",
        ">\n",
        "- ",
        "-\n",
        "1. ",
        "a\n> ",
        "[a]: b\n",
        "[a]: <",
        "[a]\n",
        "http://a ",
        "://",
        "a@",
        "- a\n\n",
        "a  \n",
        "\t",
        "(((",
        "[](",
        "*",
        "a**",
        "*a",
        "[a][b]",
        "]",
        "](http://a)",
        "\n\n",
        "|a\n|-\n",
        "```\n",
        "<div>\n",
        "a",
        "![](",
        "[[a](b)",
        "- - a\n",
        "> - ",
        "*- ",
        "\u{202e}",
        "{",
        "'a",
        "\"",
    ] {
        for text in [
            bits.repeat(1_000_000 / bits.len()),
            format!(
                "{}{}",
                "[".repeat(500_000),
                bits.repeat(500_000 / bits.len())
            ),
        ] {
            let begun = std::time::Instant::now();
            let n_block = render(&text).len();
            let took = begun.elapsed();
            if took.as_millis() > 100 {
                println!(
                    "{took:?}: {bits:?} after {:?}, {n_block} blocks",
                    &text[..1]
                );
            }
        }
    }
}
