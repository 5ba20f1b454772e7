//! An answer in pieces, as it comes: the events of a `text/event-stream`, or lines that are JSON.
//!
//! A frame is told as soon as its last byte is there. Bytes come cut anywhere, within a character too.

use super::Fault;

/// A frame longer than this is not read further: nothing that an endpoint says in one piece is.
const FRAME_BYTES_MAX: usize = 8 << 20;

/// A piece of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What kind of event it is; empty if that was not said.
    pub(crate) name: String,
    /// What it says.
    pub(crate) data: String,
}

/// Cuts an answer into frames.
#[derive(Debug)]
pub(crate) struct Frames {
    form: Form,
    /// The line that is not complete.
    line: Vec<u8>,
    /// The event that is not complete.
    event: Frame,
    has_data: bool,
    longest: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Events,
    Lines,
}

impl Frames {
    /// Those of a `text/event-stream`. Lines may end in `\n` or `\r\n`; the lone `\r` of the standard nobody writes.
    pub(crate) fn events() -> Self {
        Self::new(Form::Events)
    }

    /// Those of lines; empty ones are passed over.
    pub(crate) fn lines() -> Self {
        Self::new(Form::Lines)
    }

    fn new(form: Form) -> Self {
        Self {
            form,
            line: Vec::new(),
            event: Frame::default(),
            has_data: false,
            longest: FRAME_BYTES_MAX,
        }
    }

    /// The frames that these bytes complete.
    ///
    /// # Errors
    /// If one is too long, or not UTF-8.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Frame>, Fault> {
        let mut frames = Vec::new();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.extend(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            frames.extend(self.end_line()?);
        }
        self.extend(bytes)?;
        Ok(frames)
    }

    /// The frame that the end of the answer completes: some leave out the last line's end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn end(&mut self) -> Result<Option<Frame>, Fault> {
        let frame = match self.line.is_empty() {
            true => None,
            false => self.end_line()?,
        };
        Ok(frame.or_else(|| self.dispatch()))
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.line.len() + self.event.data.len() + bytes.len() > self.longest {
            let longest = self.longest;
            return Err(Fault::Garbled(format!(
                "a piece of its answer is longer than {longest} bytes"
            )));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Frame>, Fault> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line)
            .map_err(|_| Fault::Garbled("its answer is not UTF-8".to_owned()))?;
        let line = line.strip_suffix('\r').unwrap_or(&line);
        Ok(match self.form {
            Form::Lines => (!line.trim().is_empty()).then(|| Frame {
                name: String::new(),
                data: line.to_owned(),
            }),
            Form::Events => self.field(line.strip_prefix('\u{feff}').unwrap_or(line)),
        })
    }

    /// One line of an event: a field, a comment, or the empty line that ends it.
    fn field(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments keep connections open; ids and times to try again are for other uses.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Frame> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(name: &str, data: &str) -> Frame {
        Frame {
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    fn all(mut frames: Frames, pieces: &[&[u8]]) -> Vec<Frame> {
        let mut got = Vec::new();
        for piece in pieces {
            got.extend(frames.push(piece).unwrap());
        }
        got.extend(frames.end().unwrap());
        got
    }

    const STREAM: &str = "\u{feff}: hello\r\ndata: {\"a\":1}\r\n\r\nevent: x\nid: 7\ndata: é\ndata:two\n\nevent: none\n\ndata: [DONE]";

    #[test]
    fn events_are_read() {
        let want = [
            frame("", "{\"a\":1}"),
            frame("x", "é\ntwo"),
            frame("", "[DONE]"),
        ];
        assert_eq!(all(Frames::events(), &[STREAM.as_bytes()]), want);
    }

    #[test]
    fn a_frame_is_told_with_its_last_byte() {
        let mut frames = Frames::events();
        assert_eq!(frames.push(b"data: 1\n").unwrap(), []);
        assert_eq!(frames.push(b"\n").unwrap(), [frame("", "1")]);
        let mut lines = Frames::lines();
        assert_eq!(lines.push(b"{}\n\n{").unwrap(), [frame("", "{}")]);
        assert_eq!(lines.push(b"}").unwrap(), []);
        assert_eq!(lines.end().unwrap(), Some(frame("", "{}")));
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let mut frames = Frames {
            longest: 10,
            ..Frames::lines()
        };
        frames.push(b"0123456789").unwrap();
        assert!(matches!(frames.push(b"x"), Err(Fault::Garbled(_))));
        let mut event = Frames {
            longest: 16,
            ..Frames::events()
        };
        event.push(b"data: 12345\ndata").unwrap();
        assert!(
            event.push(b": 1234567").is_err(),
            "lines of one event add up"
        );
        assert!(Frames::lines().push(b"\xff\n").is_err());
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|it| &STREAM.as_bytes()[it[0]..it[1]]).collect();
            prop_assert_eq!(all(Frames::events(), &pieces), all(Frames::events(), &[STREAM.as_bytes()]));
        }
    }
}
