//! Stop strings in a stream of text, where they may begin in one token and end in another.
//!
//! Text is held back while it may be the beginning of a stop string, and let go as soon as it cannot be. The match that
//! ends first wins, as it would if the text came byte by byte; if several end together, the longest. So what comes out
//! does not depend on how the text is cut.

/// Watches a stream of text for stop strings.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// Text that was let go in the last step, and then text that is held back.
    text: String,
    let_go: usize,
    stopped: Option<usize>,
}

/// What is known after some text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOutput<'m> {
    /// Text that can go out: no stop string begins in it.
    pub emit: &'m str,
    /// The stop string that ended the text, by its place in the list.
    pub stopped: Option<usize>,
}

/// Why a list of stop strings is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// An empty string would stop before the first token.
    #[error("stop string {index} is empty")]
    Empty {
        /// Which, counted from 0.
        index: usize,
    },
}

/// A stop string and how far the text has come in it: Knuth, Morris and Pratt's automaton.
#[derive(Clone, Debug)]
struct Stop {
    bytes: Box<[u8]>,
    /// For each number of bytes that are matched, how many still are if the next one differs.
    fallback: Box<[usize]>,
    matched: usize,
}

impl Stop {
    fn new(stop: &str) -> Self {
        let bytes: Box<[u8]> = stop.as_bytes().into();
        let mut fallback = vec![0; bytes.len() + 1];
        let mut matched = 0;
        for (index, &byte) in bytes.iter().enumerate().skip(1) {
            while matched > 0 && bytes[matched] != byte {
                matched = fallback[matched];
            }
            matched += usize::from(bytes[matched] == byte);
            fallback[index + 1] = matched;
        }
        Self {
            bytes,
            fallback: fallback.into(),
            matched: 0,
        }
    }

    /// Takes one byte of the text. `true` if the stop string ends with it.
    fn push(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
        self.matched == self.bytes.len()
    }
}

impl StopMatcher {
    /// A matcher of these stop strings.
    ///
    /// # Errors
    /// If one of them is empty.
    pub fn new(stops: Vec<String>) -> Result<Self, StopError> {
        if let Some(index) = stops.iter().position(String::is_empty) {
            return Err(StopError::Empty { index });
        }
        Ok(Self {
            stops: stops.iter().map(|stop| Stop::new(stop)).collect(),
            text: String::new(),
            let_go: 0,
            stopped: None,
        })
    }

    /// Takes the next piece of text. Nothing comes out any more once a stop string was found.
    pub fn push(&mut self, text: &str) -> StopOutput<'_> {
        self.text.drain(..self.let_go);
        self.let_go = 0;
        if self.stopped.is_some() {
            return self.output();
        }
        for (index, &byte) in text.as_bytes().iter().enumerate() {
            if let Some((stop, len)) = self.push_byte(byte) {
                self.stopped = Some(stop);
                self.text.push_str(&text[..=index]);
                self.text.truncate(self.text.len() - len);
                self.let_go = self.text.len();
                return self.output();
            }
        }
        self.text.push_str(text);
        let held = self
            .stops
            .iter()
            .map(|stop| stop.matched)
            .max()
            .unwrap_or(0);
        self.let_go = self.text.len() - held;
        self.output()
    }

    /// The text that is still held back, once no more is to come.
    pub fn finish(mut self) -> String {
        self.text.drain(..self.let_go);
        self.text
    }

    /// The longest stop string that ends with this byte, with its length.
    fn push_byte(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut found = None;
        for (index, stop) in self.stops.iter_mut().enumerate() {
            let len = stop.bytes.len();
            if stop.push(byte) && found.is_none_or(|(_, longest)| len > longest) {
                found = Some((index, len));
            }
        }
        found
    }

    fn output(&self) -> StopOutput<'_> {
        StopOutput {
            emit: &self.text[..self.let_go],
            stopped: self.stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        let stops = stops.iter().map(|&stop| stop.to_owned()).collect();
        StopMatcher::new(stops).expect("none is empty")
    }

    /// Everything that comes out, and the stop string that was found.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher = matcher(stops);
        let mut out = String::new();
        for piece in pieces {
            let output = matcher.push(piece);
            out.push_str(output.emit);
            if output.stopped.is_some() {
                return (out, output.stopped);
            }
        }
        (out + &matcher.finish(), None)
    }

    #[test]
    fn text_goes_out_as_soon_as_it_can() {
        let mut matcher = matcher(&["\n\nUser:", "END"]);
        for (piece, emit) in [
            ("Hello", "Hello"),
            (" there\n", " there"),
            ("\nUs", ""),
            ("ual E", "\n\nUsual "),
            ("EN", "E"),
            ("", ""),
            ("TER", "ENTER"),
        ] {
            let output = matcher.push(piece);
            assert_eq!((output.emit, output.stopped), (emit, None), "{piece:?}");
        }
        assert_eq!(matcher.push("x\n\nUser").emit, "x");
        let output = matcher.push(": hi");
        assert_eq!((output.emit, output.stopped), ("", Some(0)));
        let output = matcher.push("more");
        assert_eq!(
            (output.emit, output.stopped),
            ("", Some(0)),
            "nothing follows a stop"
        );
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn the_match_that_ends_first_wins() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), ("xa".to_owned(), Some(1)));
        assert_eq!(
            run(&["c", "abc", "bc"], &["xab", "c"]),
            ("x".to_owned(), Some(1))
        );
        assert_eq!(run(&["aab"], &["aa", "ab"]), ("a".to_owned(), Some(0)));
        assert_eq!(
            run(&["abab!"], &["aba", "baba", "b", "!"]),
            ("abab".to_owned(), Some(0))
        );
        assert_eq!(run(&["é"], &["è", "é"]), ("è".to_owned(), Some(0)));
        assert_eq!(run(&["abc"], &["ab"]), ("ab".to_owned(), None));
        assert_eq!(run(&[], &["any", "thing"]), ("anything".to_owned(), None));
        let empty = StopMatcher::new(vec!["a".to_owned(), String::new()]);
        assert_eq!(
            empty.expect_err("one is empty"),
            StopError::Empty { index: 1 }
        );
    }

    /// What should come out, by looking at the whole text at once.
    fn reference(stops: &[String], text: &str) -> (String, Option<usize>) {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let ending = stops
                .iter()
                .enumerate()
                .filter(|(_, stop)| text[..end].ends_with(&***stop));
            // Of equal strings, the first.
            if let Some((index, stop)) = ending.rev().max_by_key(|(_, stop)| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(index));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_chunking_gives_what_stands_before_the_first_match(
            pieces in prop::collection::vec("[abé]{0,6}", 0..12),
            stops in prop::collection::vec("[abé]{1,6}", 0..4),
        ) {
            let (expect, stopped) = reference(&stops, &pieces.concat());
            let stops: Vec<_> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stops, &pieces), (expect, stopped));
        }

        #[test]
        fn no_more_is_held_back_than_a_stop_string_may_need(
            pieces in prop::collection::vec("[ab]{0,4}", 1..8),
            stop in "[ab]{2,6}",
        ) {
            let mut matcher = matcher(&[&stop]);
            let (mut text, mut out) = (String::new(), String::new());
            for piece in &pieces {
                text.push_str(piece);
                let output = matcher.push(piece);
                out.push_str(output.emit);
                if output.stopped.is_some() {
                    break;
                }
                let held = &text[out.len()..];
                prop_assert!(stop.starts_with(held), "{:?} is held back", held);
            }
        }
    }
}
