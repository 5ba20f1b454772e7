//! Names for answers, tool calls and stored responses: a prefix and 24 letters or digits that nobody can guess.

/// Letters and digits, the only characters that every client takes in an id.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Of base 62: 142 bits.
const LENGTH: usize = 24;

/// The largest multiple of 62 that fits a byte; bytes from here on would make the first letters likelier.
const FAIR: u8 = 248;

/// A new id, `chatcmpl-` and 24 random characters for `new_id("chatcmpl-")`. A stored response is found by its id alone,
/// so the randomness is the operating system's.
///
/// # Panics
/// If the operating system has no randomness, which it has since long before a server can start.
pub(crate) fn new_id(prefix: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + LENGTH);
    id.push_str(prefix);
    let mut bytes = [0; 2 * LENGTH];
    while id.len() < prefix.len() + LENGTH {
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        let missing = prefix.len() + LENGTH - id.len();
        let fair = bytes.iter().filter(|&&byte| byte < FAIR).take(missing);
        id.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_prefix_and_24_characters() {
        let id = new_id("chatcmpl-");
        let random = id.strip_prefix("chatcmpl-").unwrap();
        assert_eq!(random.len(), 24);
        assert!(random.bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn every_character_comes_up_and_no_id_twice() {
        let ids: Vec<_> = (0..1000).map(|_| new_id("")).collect();
        for &letter in ALPHABET {
            assert!(ids.iter().any(|id| id.contains(char::from(letter))));
        }
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
