//! `tokenizer.model`: SentencePiece's model, a protocol buffer of which a few fields are wanted.
//!
//! Source: `sentencepiece_model.proto` of SentencePiece.

use crate::tokenizer::Kind;

/// A token, its score and its kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) score: f32,
    pub(crate) kind: Kind,
}

/// What is wanted of a model.
#[derive(Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) pieces: Vec<Piece>,
    /// Whether a text gets a space before it.
    pub(crate) adds_space: bool,
}

/// A field: its number, and what it holds.
enum Field<'b> {
    Number(u64),
    Float(f32),
    Bytes(&'b [u8]),
}

/// Fields of a message, one after the other.
struct Fields<'b>(&'b [u8]);

/// Reads a model.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Model, String> {
    let mut model = Model {
        pieces: Vec::new(),
        adds_space: true,
    };
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => model.pieces.push(piece(bytes)?),
            (2, Field::Bytes(trainer)) => {
                let mut fields = Fields(trainer);
                while let Some((number, field)) = fields.next()? {
                    // Unigram's pieces are not merged pair by pair.
                    if let (3, Field::Number(kind)) = (number, field)
                        && kind != 2
                    {
                        return Err(format!("its model type is {kind}; 2 (BPE) is read"));
                    }
                }
            }
            (3, Field::Bytes(normalizer)) => {
                let mut fields = Fields(normalizer);
                while let Some((number, field)) = fields.next()? {
                    if let (3, Field::Number(adds)) = (number, field) {
                        model.adds_space = adds != 0;
                    }
                }
            }
            _ => {}
        }
    }
    match model.pieces.is_empty() {
        true => Err("it has no pieces".to_owned()),
        false => Ok(model),
    }
}

fn piece(bytes: &[u8]) -> Result<Piece, String> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                let text =
                    std::str::from_utf8(text).map_err(|_| "a piece is no text".to_owned())?;
                text.clone_into(&mut piece.text);
            }
            (2, Field::Float(score)) => piece.score = score,
            (3, Field::Number(kind)) => {
                piece.kind = match kind {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    other => return Err(format!("a piece is of kind {other}")),
                };
            }
            _ => {}
        }
    }
    Ok(piece)
}

impl<'b> Fields<'b> {
    fn next(&mut self) -> Result<Option<(u64, Field<'b>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.take(8)?;
                Field::Number(0)
            }
            2 => {
                let length = self.number()?;
                Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => {
                let bytes = self.take(4)?;
                let bytes = bytes.try_into().expect("four of them. This is a bug.");
                Field::Float(f32::from_le_bytes(bytes))
            }
            other => return Err(format!("a field is of wire type {other}")),
        };
        Ok(Some((tag >> 3, field)))
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number has more than 64 bits".to_owned())
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| "it ends within a field".to_owned())?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_and_what_is_cut_off_is_refused() {
        // Two pieces, "a" with score -1 and `<s>` of kind 3, and a normalizer that adds no space.
        let mut model = vec![0x0a, 8, 0x0a, 1, b'a', 0x15];
        model.extend((-1f32).to_le_bytes());
        model.extend([0x0a, 7, 0x0a, 3, b'<', b's', b'>', 0x18, 3]);
        model.extend([0x1a, 2, 0x18, 0]);
        let parsed = parse(&model).unwrap();
        assert!(!parsed.adds_space);
        let have: Vec<_> = parsed
            .pieces
            .iter()
            .map(|p| (&*p.text, p.score, p.kind))
            .collect();
        assert_eq!(
            have,
            [("a", -1.0, Kind::Normal), ("<s>", 0.0, Kind::Control)]
        );
        for end in 1..model.len() - 1 {
            // Whole fields alone may stand at the end.
            let cut = parse(&model[..end]);
            assert_eq!(cut.is_ok(), [10, 19].contains(&end), "{end}: {cut:?}");
        }
        assert!(parse(&[0x12, 2, 0x18, 1]).unwrap_err().contains("BPE"));
    }
}
