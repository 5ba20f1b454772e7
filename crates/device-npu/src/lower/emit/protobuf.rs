//! Protocol buffers, as far as a writer needs them: a message is its fields, one after the other.

/// A message.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// How a field's value is written.
const VARINT: u32 = 0;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

impl Message {
    pub(super) fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, VARINT);
        self.varint(value.cast_unsigned());
        self
    }

    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, FIXED32);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, LENGTH);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// A repeated field.
    pub(super) fn messages<'m>(
        self,
        field: u32,
        values: impl IntoIterator<Item = &'m Self>,
    ) -> Self {
        values
            .into_iter()
            .fold(self, |message, value| message.message(field, value))
    }

    /// A repeated field.
    pub(super) fn texts<'t>(self, field: u32, values: impl IntoIterator<Item = &'t str>) -> Self {
        values
            .into_iter()
            .fold(self, |message, value| message.text(field, value))
    }

    /// A repeated field, not packed: readers take both.
    pub(super) fn ints(self, field: u32, values: impl IntoIterator<Item = i64>) -> Self {
        values
            .into_iter()
            .fold(self, |message, value| message.int(field, value))
    }

    /// The message on its own.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes from the format's documentation, <https://protobuf.dev/programming-guides/encoding/>.
    #[test]
    fn fields_are_spelt_as_documented() {
        let int = Message::default().int(1, 150);
        assert_eq!(int.clone().into_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(text.into_bytes(), b"\x12\x07testing");
        let nested = Message::default().message(3, &int);
        assert_eq!(nested.into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let float = Message::default().float(4, 1.0);
        assert_eq!(float.into_bytes(), [0x25, 0, 0, 0x80, 0x3f]);
        let negative = Message::default().int(1, -2).into_bytes();
        assert_eq!(
            negative,
            [8, 254, 255, 255, 255, 255, 255, 255, 255, 255, 1]
        );
    }
}
