//! Whether output is what the page shows: to the letter, but for what the page cuts, what varies, and how wide columns are.

/// Whether they agree. `varies` has `None` if numbers may be others, and texts of the page that may be.
///
/// JSON is compared without its white space: on a page, long lines of it are broken for people.
pub(crate) fn agrees(page: &str, real: &str, varies: &[Option<String>]) -> bool {
    let mut page = page.trim().to_owned();
    for text in varies.iter().flatten() {
        page = cut(&page, text);
    }
    let numbers = varies.contains(&None);
    let is_json = page.contains("{\"") || page.starts_with('[');
    if is_json {
        let dense = |text: &str| numbers_off(&squeezed(text, ""), numbers);
        return line_agrees(&dense(&page), &dense(real));
    }
    let lines = |text: &str| -> Vec<String> {
        let lines = text.trim().lines();
        let lines = lines.map(|line| numbers_off(&squeezed(line, " "), numbers));
        lines.filter(|line| !line.is_empty()).collect()
    };
    lines_agree(&lines(&page), &lines(real))
}

/// The page with `…` where a text stands that varies; its own `…` reaches over lines.
fn cut(page: &str, text: &str) -> String {
    let (first, last) = text.split_once('…').unwrap_or((text, ""));
    let mut cut = String::new();
    let mut rest = page;
    while let Some(begin) = rest.find(first) {
        let after = begin + first.len();
        let Some(end) = rest[after..].find(last) else {
            break;
        };
        let end = after + end + last.len();
        cut.push_str(&rest[..begin]);
        cut.push('…');
        if rest[begin..end].contains('\n') {
            cut.push_str("\n…");
        }
        rest = &rest[end..];
    }
    cut + rest
}

/// White space as one `gap`; none at the ends.
fn squeezed(text: &str, gap: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(gap)
}

/// The text with `0` for each number, and for a unit of bytes or time behind it, as far as they may vary.
fn numbers_off(text: &str, vary: bool) -> String {
    const UNITS: [&str; 8] = ["B", "KiB", "MiB", "GiB", "TiB", "ms", "s", "min"];
    if !vary {
        return text.to_owned();
    }
    let mut off = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_digit()) {
        off.push_str(&rest[..begin]);
        off.push('0');
        let number = &rest[begin..];
        let end = number.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | ':'));
        let end = number[..end.unwrap_or(number.len())]
            .trim_end_matches(['.', ',', ':'])
            .len();
        rest = &number[end..];
        let unit = rest.trim_start();
        let letters = unit
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(unit.len());
        if UNITS.contains(&&unit[..letters]) {
            rest = &unit[letters..];
        }
    }
    off + rest
}

/// A line that is `…` agrees with any number of lines.
fn lines_agree(page: &[String], real: &[String]) -> bool {
    match page.split_first() {
        None => real.is_empty(),
        Some((line, page)) if line == "…" => {
            (0..=real.len()).any(|skipped| lines_agree(page, &real[skipped..]))
        }
        Some((line, page)) => real
            .split_first()
            .is_some_and(|(first, real)| line_agrees(line, first) && lines_agree(page, real)),
    }
}

/// `…` agrees with any text.
fn line_agrees(page: &str, real: &str) -> bool {
    let mut parts = page.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = real.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn what_is_the_same_agrees() {
    let numbers = &[None][..];
    let check = |page: &str, real: &str, varies: &[Option<String>], want: bool| {
        assert_eq!(agrees(page, real, varies), want, "{page:?}, {real:?}");
    };
    check("a  b\n\nc", "a b\nc \n", &[], true);
    check("a 1", "a 2", &[], false);
    check("a 1.5 MiB, 7", "a 2,000 KiB, 12:30", numbers, true);
    check("a 1 MiB", "a 1 tokens", numbers, false);
    check("a\n…\nz", "a\nb\nc\nz", &[], true);
    check("a\n…\nz", "a\nb\nc", &[], false);
    check("a … c", "a b c", &[], true);
    check("a … c", "a b c d", &[], false);
    check(
        "{\"a\": […],\n  \"b\": 1}",
        "{\"a\":[1,2],\"b\":1}",
        &[],
        true,
    );
    check("{\"a\": 1}", "{\"b\":1}", &[], false);
}

#[test]
fn texts_may_vary_over_lines() {
    let tale = &[Some("there was…the end.".to_owned())][..];
    let page = "Once there was a cat.\nThat is the end.\ncpu0";
    assert!(agrees(
        page,
        "Once upon a time.\n\nA dog.\nAnd so on.\ncpu0",
        tale
    ));
    assert!(agrees(page, "Once upon\ncpu0", tale));
    assert!(!agrees(page, "Upon a time.\ncpu0", tale));
    assert!(!agrees(page, "Once upon\ngpu0", tale));
}
