//! The longest entry of a table that a text begins with, and the special tokens that stand in a text.

use std::sync::Arc;

use troika_base::TokenId;

/// Texts with their tokens, sorted, so that one walk over a text narrows down to its longest entry.
pub(super) struct PrefixTable {
    entries: Vec<(Arc<str>, TokenId)>,
    /// Whether any entry begins with this byte.
    begins: Box<[bool; 256]>,
}

/// A piece of text between special tokens, or one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(TokenId),
}

impl PrefixTable {
    /// Of several entries with one text the one with the lowest id counts. Empty texts are left out.
    pub(super) fn new(entries: impl IntoIterator<Item = (Arc<str>, TokenId)>) -> Self {
        let mut entries: Vec<_> = entries
            .into_iter()
            .filter(|(text, _)| !text.is_empty())
            .collect();
        entries.sort_unstable();
        entries.dedup_by(|later, first| later.0 == first.0);
        let mut begins = Box::new([false; 256]);
        for (text, _) in &entries {
            begins[usize::from(text.as_bytes()[0])] = true;
        }
        Self { entries, begins }
    }

    /// The longest entry, of those that are allowed, that the text begins with, and its length in bytes.
    pub(super) fn longest(
        &self,
        text: &[u8],
        allowed: impl Fn(TokenId) -> bool,
    ) -> Option<(TokenId, usize)> {
        let mut longest = None;
        let mut range = &self.entries[..];
        for (depth, byte) in text.iter().enumerate() {
            // All entries of the range share `text[..depth]`; one that ends there sorts first.
            let at = |entry: &(Arc<str>, TokenId)| entry.0.as_bytes().get(depth).copied();
            let start = range.partition_point(|entry| at(entry) < Some(*byte));
            range = &range[start..];
            range = &range[..range.partition_point(|entry| at(entry) == Some(*byte))];
            let Some((text, id)) = range.first() else {
                break;
            };
            if text.len() == depth + 1 && allowed(*id) {
                longest = Some((*id, depth + 1));
            }
        }
        longest
    }

    /// Cuts a text at the allowed entries in it: from left to right, the longest at each place.
    pub(super) fn split<'t>(
        &self,
        text: &'t str,
        allowed: impl Fn(TokenId) -> bool,
        mut each: impl FnMut(Fragment<'t>),
    ) {
        let bytes = text.as_bytes();
        let (mut done, mut at) = (0, 0);
        // Entries are whole characters, so a match begins and ends between characters.
        while let Some(skip) = bytes[at..]
            .iter()
            .position(|&b| self.begins[usize::from(b)])
        {
            at += skip;
            let Some((id, length)) = self.longest(&bytes[at..], &allowed) else {
                at += 1;
                continue;
            };
            if done < at {
                each(Fragment::Text(&text[done..at]));
            }
            each(Fragment::Token(id));
            at += length;
            done = at;
        }
        if done < text.len() {
            each(Fragment::Text(&text[done..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[&str]) -> PrefixTable {
        let entries = entries.iter().enumerate();
        PrefixTable::new(entries.map(|(id, &text)| (text.into(), TokenId(id as u32))))
    }

    fn split<'t>(table: &PrefixTable, text: &'t str) -> Vec<Fragment<'t>> {
        let mut fragments = Vec::new();
        table.split(text, |_| true, |fragment| fragments.push(fragment));
        fragments
    }

    #[test]
    fn the_longest_wins() {
        let table = table(&["<s>", "<", "<s><s>!", "ü"]);
        assert_eq!(table.longest(b"<s><s>?", |_| true), Some((TokenId(0), 3)));
        assert_eq!(table.longest(b"<s><s>!", |_| true), Some((TokenId(2), 7)));
        assert_eq!(table.longest(b"<s>", |id| id.0 != 0), Some((TokenId(1), 1)));
        assert_eq!(table.longest("ú".as_bytes(), |_| true), None);
        assert_eq!(table.longest(b"", |_| true), None);
    }

    #[test]
    fn fragments_are_the_text() {
        use Fragment::{Text, Token};
        let table = table(&["<s>", "  ", "", "<s>"]);
        assert_eq!(split(&table, ""), []);
        assert_eq!(split(&table, "a<"), [Text("a<")]);
        assert_eq!(split(&table, "<s><s"), [Token(TokenId(0)), Text("<s")]);
        assert_eq!(
            split(&table, "é<s>   "),
            [Text("é"), Token(TokenId(0)), Token(TokenId(1)), Text(" ")]
        );
    }
}
