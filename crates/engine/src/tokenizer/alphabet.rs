//! GPT-2's spelling of bytes: each byte is one printable character, so that tokens are text.
//!
//! Printable bytes of Latin-1 stand for themselves; the others, in order, take the characters from U+0100 on.

/// The bytes that do not stand for themselves, in order: `0x00..=0x20`, `0x7f..=0xa0` and `0xad`.
const SHIFTED: usize = 33 + 34 + 1;

/// The character that spells a byte.
pub(super) fn char_of(byte: u8) -> char {
    let shift = match byte {
        0x00..=0x20 => u32::from(byte),
        0x7f..=0xa0 => u32::from(byte) - 0x7f + 33,
        0xad => 33 + 34,
        _ => return char::from(byte),
    };
    char::from_u32(0x100 + shift).unwrap_or_default()
}

/// The byte that a character spells.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code.checked_sub(0x100) {
        Some(shift) if shift >= SHIFTED as u32 => None,
        Some(shift @ 0..33) => Some(shift as u8),
        Some(shift @ 33..67) => Some((shift - 33 + 0x7f) as u8),
        Some(_) => Some(0xad),
        None => Some(code as u8).filter(|&byte| char_of(byte) == c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let chars: std::collections::BTreeSet<char> = (0..=u8::MAX).map(char_of).collect();
        assert_eq!(chars.len(), 256);
        assert!(chars.iter().all(|c| !c.is_whitespace() && !c.is_control()));
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
    }

    #[test]
    fn known_spellings() {
        assert_eq!(char_of(b' '), 'Ġ');
        assert_eq!(char_of(b'\n'), 'Ċ');
        assert_eq!(char_of(0xad), 'Ń');
        assert_eq!(char_of(0xf5), 'õ');
        assert_eq!(byte_of(' '), None, "a space is spelt, not itself");
        assert_eq!(byte_of('ń'), None, "just past the last one");
        assert_eq!(byte_of('▁'), None);
    }
}
