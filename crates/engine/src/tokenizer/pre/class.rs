//! Classes of characters that the pre-tokenizers' rules are written in.
//!
//! General categories come from `unicode-properties`; ASCII, which is most of most text, needs no tables.

use unicode_properties::{
    GeneralCategory, GeneralCategoryGroup as Group, UnicodeGeneralCategory as _,
};

fn is_group(c: char, group: Group) -> bool {
    c.general_category_group() == group
}

/// `\p{L}`
pub(super) fn letter(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphabetic()
    } else {
        is_group(c, Group::Letter)
    }
}

/// `\p{M}`
pub(super) fn mark(c: char) -> bool {
    !c.is_ascii() && is_group(c, Group::Mark)
}

/// `\p{N}`
pub(super) fn number(c: char) -> bool {
    c.is_numeric()
}

/// `\p{P}`
pub(super) fn punctuation(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_punctuation()
            && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
    } else {
        is_group(c, Group::Punctuation)
    }
}

/// Punctuation of Unicode and of ASCII, which counts symbols as well: ``[\p{P}$+<=>^~|`]``.
pub(in super::super) fn punctuation_or_ascii_symbol(c: char) -> bool {
    c.is_ascii_punctuation() || punctuation(c)
}

/// `[0-9]`
pub(super) fn ascii_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// `\n`
pub(super) fn line_feed(c: char) -> bool {
    c == '\n'
}

/// `[\r\n]`
pub(super) fn line_end(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`: what a capitalised word may begin with.
pub(super) fn not_lower(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_uppercase()
    } else {
        mark(c) || (letter(c) && c.general_category() != GeneralCategory::LowercaseLetter)
    }
}

/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`: what a word may go on with.
pub(super) fn not_upper(c: char) -> bool {
    use GeneralCategory::{TitlecaseLetter, UppercaseLetter};
    if c.is_ascii() {
        c.is_ascii_lowercase()
    } else {
        mark(c) || (letter(c) && !matches!(c.general_category(), UppercaseLetter | TitlecaseLetter))
    }
}

/// DeepSeek's `[一-龥ࠀ-一가-퟿]`: nearly all of the basic plane from U+0800 to the end of Hangul.
pub(super) fn deepseek_cjk(c: char) -> bool {
    matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}')
}

/// DeepSeek LLM's punctuation: `[!-/:-~！-／：-～‘-‟　-。]`.
pub(super) fn deepseek_llm_punctuation(c: char) -> bool {
    matches!(
        c,
        '!'..='/'
            | ':'..='~'
            | '\u{ff01}'..='\u{ff0f}'
            | '\u{ff1a}'..='\u{ff5e}'
            | '\u{2018}'..='\u{201f}'
            | '\u{3000}'..='\u{3002}'
    )
}

/// DeepSeek LLM's letters: the cased letters of the scripts that it lists, by their ranges.
pub(super) fn deepseek_llm_letter(c: char) -> bool {
    let after = DEEPSEEK_LLM_LETTERS.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= DEEPSEEK_LLM_LETTERS[after - 1].1
}

#[rustfmt::skip]
const DEEPSEEK_LLM_LETTERS: [(char, char); 84] = [
    ('\u{41}', '\u{5a}'), ('\u{61}', '\u{7a}'), ('\u{b5}', '\u{b5}'), ('\u{c0}', '\u{d6}'), ('\u{d8}', '\u{f6}'),
    ('\u{f8}', '\u{1ba}'), ('\u{1bc}', '\u{1bf}'), ('\u{1c4}', '\u{293}'), ('\u{295}', '\u{2af}'),
    ('\u{370}', '\u{373}'), ('\u{376}', '\u{377}'), ('\u{37b}', '\u{37d}'), ('\u{37f}', '\u{37f}'),
    ('\u{386}', '\u{386}'), ('\u{388}', '\u{38a}'), ('\u{38c}', '\u{38c}'), ('\u{38e}', '\u{3a1}'),
    ('\u{3a3}', '\u{3f5}'), ('\u{3f7}', '\u{481}'), ('\u{48a}', '\u{52f}'), ('\u{531}', '\u{556}'),
    ('\u{10a0}', '\u{10c5}'), ('\u{13a0}', '\u{13f5}'), ('\u{13f8}', '\u{13fd}'), ('\u{1c90}', '\u{1cba}'),
    ('\u{1cbd}', '\u{1cbf}'), ('\u{1d00}', '\u{1d2b}'), ('\u{1d6b}', '\u{1d77}'), ('\u{1d79}', '\u{1d9a}'),
    ('\u{1e00}', '\u{1f15}'), ('\u{1f18}', '\u{1f1d}'), ('\u{1f20}', '\u{1f45}'), ('\u{1f48}', '\u{1f4d}'),
    ('\u{1f50}', '\u{1f57}'), ('\u{1f59}', '\u{1f59}'), ('\u{1f5b}', '\u{1f5b}'), ('\u{1f5d}', '\u{1f5d}'),
    ('\u{1f5f}', '\u{1f7d}'), ('\u{1f80}', '\u{1fb4}'), ('\u{1fb6}', '\u{1fbc}'), ('\u{1fbe}', '\u{1fbe}'),
    ('\u{1fc2}', '\u{1fc4}'), ('\u{1fc6}', '\u{1fcc}'), ('\u{1fd0}', '\u{1fd3}'), ('\u{1fd6}', '\u{1fdb}'),
    ('\u{1fe0}', '\u{1fec}'), ('\u{1ff2}', '\u{1ff4}'), ('\u{1ff6}', '\u{1ffc}'), ('\u{2102}', '\u{2102}'),
    ('\u{2107}', '\u{2107}'), ('\u{210a}', '\u{2113}'), ('\u{2115}', '\u{2115}'), ('\u{2119}', '\u{211d}'),
    ('\u{2124}', '\u{2124}'), ('\u{2126}', '\u{2126}'), ('\u{2128}', '\u{2128}'), ('\u{212a}', '\u{212d}'),
    ('\u{212f}', '\u{2134}'), ('\u{2139}', '\u{2139}'), ('\u{213c}', '\u{213f}'), ('\u{2145}', '\u{2149}'),
    ('\u{214e}', '\u{214e}'), ('\u{2183}', '\u{2184}'), ('\u{2c00}', '\u{2c7b}'), ('\u{2c7e}', '\u{2ce4}'),
    ('\u{2ceb}', '\u{2cee}'), ('\u{2cf2}', '\u{2cf3}'), ('\u{a640}', '\u{a66d}'), ('\u{a680}', '\u{a69b}'),
    ('\u{a722}', '\u{a76f}'), ('\u{a771}', '\u{a787}'), ('\u{a78b}', '\u{a78e}'), ('\u{ab70}', '\u{abbf}'),
    ('\u{fb00}', '\u{fb06}'), ('\u{fb13}', '\u{fb17}'), ('\u{ff21}', '\u{ff3a}'), ('\u{ff41}', '\u{ff5a}'),
    ('\u{10400}', '\u{1044f}'), ('\u{104b0}', '\u{104d3}'), ('\u{104d8}', '\u{104fb}'), ('\u{10c80}', '\u{10cb2}'),
    ('\u{10cc0}', '\u{10cf2}'), ('\u{118a0}', '\u{118df}'), ('\u{1e900}', '\u{1e943}'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_agrees_with_the_tables() {
        for c in (0..128u8).map(char::from) {
            assert_eq!(letter(c), is_group(c, Group::Letter), "{c:?}");
            assert_eq!(mark(c), is_group(c, Group::Mark), "{c:?}");
            assert_eq!(number(c), is_group(c, Group::Number), "{c:?}");
            assert_eq!(punctuation(c), is_group(c, Group::Punctuation), "{c:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_tables() {
        for c in ['²', '½', 'Ⅷ', '٣', '㊿', '三', 'a'] {
            assert_eq!(number(c), is_group(c, Group::Number), "{c:?}");
        }
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        assert!(
            DEEPSEEK_LLM_LETTERS
                .iter()
                .all(|(first, last)| first <= last)
        );
        assert!(DEEPSEEK_LLM_LETTERS.windows(2).all(|w| w[0].1 < w[1].0));
        assert!(deepseek_llm_letter('z') && deepseek_llm_letter('ж') && deepseek_llm_letter('𞥃'));
        assert!(
            !deepseek_llm_letter('[') && !deepseek_llm_letter('中') && !deepseek_llm_letter('ƻ')
        );
    }
}
