//! Metadata values: GGUF's thirteen types.

use std::fmt;

/// A metadata value.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it: GGUF's types are Rust's")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type. Arrays of arrays need not be rectangular.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it: GGUF's types are Rust's")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Self>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// The type of a value, as the file numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(crate) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    pub(crate) fn id(self) -> u32 {
        self as u32
    }

    /// The fewest bytes that a value of this type takes in the file.
    pub(crate) fn bytes_min(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::String => 8, // its length
            Self::Array => 12, // its type and count
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

impl Value {
    pub(crate) fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The value as an integer, whatever its width; `None` for other types.
    pub(crate) fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::I8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U64(n) => Some(n.into()),
            Self::I64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// Type and, for numbers, value, for error messages: `u32 7`, `array of 3 string`.
    pub(crate) fn describe(&self) -> String {
        let name = self.value_type().name();
        match self {
            Self::String(_) => name.to_owned(),
            Self::Array(array) => {
                format!("array of {} {}", array.len(), array.element_type().name())
            }
            Self::F32(x) => format!("{name} {x}"),
            Self::F64(x) => format!("{name} {x}"),
            Self::Bool(b) => format!("{name} {b}"),
            _ => format!("{name} {}", self.integer().unwrap_or_default()),
        }
    }
}

/// Evaluates an expression over the `Vec` in an [`Array`], whatever its type.
macro_rules! with_items {
    ($array:expr, $items:ident => $body:expr) => {
        match $array {
            Array::U8($items) => $body,
            Array::I8($items) => $body,
            Array::U16($items) => $body,
            Array::I16($items) => $body,
            Array::U32($items) => $body,
            Array::I32($items) => $body,
            Array::F32($items) => $body,
            Array::Bool($items) => $body,
            Array::String($items) => $body,
            Array::Array($items) => $body,
            Array::U64($items) => $body,
            Array::I64($items) => $body,
            Array::F64($items) => $body,
        }
    };
}

impl Array {
    /// How many values it holds.
    pub fn len(&self) -> usize {
        with_items!(self, items => items.len())
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as integers, whatever their width; `None` for other types.
    pub(crate) fn integers(&self) -> Option<Box<dyn Iterator<Item = i128> + '_>> {
        fn widen<T: Copy + Into<i128>>(items: &[T]) -> Option<Box<dyn Iterator<Item = i128> + '_>> {
            Some(Box::new(items.iter().map(|&n| n.into())))
        }
        match self {
            Self::U8(items) => widen(items),
            Self::I8(items) => widen(items),
            Self::U16(items) => widen(items),
            Self::I16(items) => widen(items),
            Self::U32(items) => widen(items),
            Self::I32(items) => widen(items),
            Self::U64(items) => widen(items),
            Self::I64(items) => widen(items),
            _ => None,
        }
    }

    pub(crate) fn element_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }
}

/// What a person wants to see of a value: arrays are cut after a few items.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32(x) => x.fmt(f),
            Self::F64(x) => x.fmt(f),
            Self::Bool(b) => b.fmt(f),
            Self::String(text) => f.write_str(text),
            Self::Array(array) => array.fmt(f),
            _ => self.integer().unwrap_or_default().fmt(f),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ITEMS_SHOWN: usize = 4;
        f.write_str("[")?;
        with_items!(self, items => {
            for (i, item) in items.iter().take(ITEMS_SHOWN).enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                if let Self::Array(_) = self {
                    write!(f, "{item}")?;
                } else {
                    write!(f, "{item:?}")?;
                }
            }
        });
        if self.len() > ITEMS_SHOWN {
            write!(f, ", … {} in all", self.len())?;
        }
        f.write_str("]")
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<&[&str]> for Value {
    fn from(items: &[&str]) -> Self {
        Self::Array(Array::String(items.iter().map(|&s| s.to_owned()).collect()))
    }
}

macro_rules! value_from {
    ($($variant:ident: $scalar:ty),* $(,)?) => {$(
        impl From<$scalar> for Value {
            fn from(value: $scalar) -> Self {
                Self::$variant(value)
            }
        }
        impl From<Vec<$scalar>> for Value {
            fn from(items: Vec<$scalar>) -> Self {
                Self::Array(Array::$variant(items))
            }
        }
    )*};
}

value_from! {
    U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, F32: f32, Bool: bool,
    String: String, Array: Array, U64: u64, I64: i64, F64: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_both_ways() {
        for (id, value_type) in (0..).zip(ValueType::ALL) {
            assert_eq!(value_type.id(), id);
            assert_eq!(ValueType::from_id(id), Some(value_type));
        }
        assert_eq!(ValueType::from_id(13), None);
    }

    #[test]
    fn values_are_shown_short() {
        let nested = Array::Array(vec![Array::U8(vec![1, 2]), Array::Bool(vec![])]);
        for (value, text) in [
            (Value::from("plain"), "plain"),
            (Value::from(-3i64), "-3"),
            (Value::from(10_000.0f32), "10000"),
            (Value::from(false), "false"),
            (Value::from(&["<s>", "\n"][..]), r#"["<s>", "\n"]"#),
            (
                Value::from((0..9u32).collect::<Vec<_>>()),
                "[0, 1, 2, 3, … 9 in all]",
            ),
            (Value::from(nested), "[[1, 2], []]"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }
}
