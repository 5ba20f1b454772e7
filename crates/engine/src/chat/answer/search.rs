//! Marks in a text of which more is to come.

/// What a search for marks says of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// The mark with this number, from this byte on.
    Mark(usize, usize),
    /// None so far. From this byte on the text may be the beginning of one; this is the text's length if it cannot.
    Maybe(usize),
}

/// The first of the marks in a text. No mark is the beginning of another.
pub(super) fn first_mark<'m>(text: &str, marks: impl Iterator<Item = &'m str> + Clone) -> Sighting {
    for (start, c) in text.char_indices() {
        // Marks begin with few letters: most of a text is passed by this alone.
        if !marks.clone().any(|mark| mark.starts_with(c)) {
            continue;
        }
        let rest = &text[start..];
        for (index, mark) in marks.clone().enumerate() {
            if rest.starts_with(mark) {
                return Sighting::Mark(index, start);
            }
        }
        if marks.clone().any(|mark| mark.starts_with(rest)) {
            return Sighting::Maybe(start);
        }
    }
    Sighting::Maybe(text.len())
}

/// How a text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With this.
    Yes,
    /// Not with it.
    No,
    /// The text is too short to tell.
    Maybe,
}

/// Whether a text begins with `expect`.
pub(super) fn begins(text: &str, expect: &str) -> Beginning {
    if text.starts_with(expect) {
        Beginning::Yes
    } else if expect.starts_with(text) {
        Beginning::Maybe
    } else {
        Beginning::No
    }
}

/// The first `pattern` at or after `from`. If there is none, `from` moves to where one may yet begin, so that no byte
/// is looked at again and again while the text grows.
pub(super) fn find_from(text: &str, pattern: &str, from: &mut usize) -> Option<usize> {
    match text[*from..].find(pattern) {
        Some(index) => Some(*from + index),
        None => {
            let overlap = text.len().saturating_sub(pattern.len() - 1);
            *from = text.floor_char_boundary(overlap.max(*from));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_their_beginnings() {
        let search = |text| first_mark(text, ["<a>", "[b]"].into_iter());
        assert_eq!(search("x<a>[b]"), Sighting::Mark(0, 1));
        assert_eq!(search("é[b]<a>"), Sighting::Mark(1, 2));
        assert_eq!(search("x<a"), Sighting::Maybe(1));
        assert_eq!(search("<a<"), Sighting::Maybe(2));
        assert_eq!(search("<b>"), Sighting::Maybe(3));
    }

    #[test]
    fn a_search_goes_on_where_it_left_off() {
        let mut from = 0;
        assert_eq!(find_from("ééab", "abc", &mut from), None);
        assert_eq!(from, 4);
        assert_eq!(find_from("ééabc", "abc", &mut from), Some(4));
    }
}
