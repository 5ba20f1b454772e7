//! Model files put together by hand, right or wrong.

/// Bytes of a model file.
#[derive(Clone)]
pub struct Raw(pub Vec<u8>);

pub const U8: u32 = 0;
pub const U32: u32 = 4;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

/// Ids of number formats.
pub const F32: u32 = 0;
pub const Q4_0: u32 = 2;
pub const Q4_K: u32 = 12;

impl Raw {
    /// The fixed fields: 24 bytes.
    pub fn new(n_tensors: u64, n_keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(n_tensors).u64(n_keys)
    }

    pub fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    pub fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A string, or a key: its length and its bytes.
    pub fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A key and the type of its value.
    pub fn key(self, key: &str, value_type: u32) -> Self {
        self.text(key).u32(value_type)
    }

    /// A tensor's entry; `offset` counts from the start of the data.
    pub fn tensor(self, name: &str, shape: &[u64], dtype: u32, offset: u64) -> Self {
        let raw = self.text(name).u32(shape.len() as u32);
        let raw = shape.iter().fold(raw, |raw, &n| raw.u64(n));
        raw.u32(dtype).u64(offset)
    }

    /// Zeros up to a multiple of `alignment`, then `bytes` of data.
    pub fn data(mut self, alignment: usize, bytes: usize) -> Self {
        let start = self.0.len().next_multiple_of(alignment);
        self.0.resize(start + bytes, 0);
        self
    }
}
