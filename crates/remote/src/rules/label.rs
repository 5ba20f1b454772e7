//! `X-Troika-Privacy`: what a request says of itself.

/// The header.
pub const HEADER: &str = "X-Troika-Privacy";

/// Whether a request with this label stays on this machine. `public` leaves it to the rules, which it never widens;
/// `local-only` is private, and so is what nobody knows: who writes a label means to protect something.
///
/// ```
/// use troika_remote::rules::is_private;
/// assert!(is_private("local-only") && is_private("secret") && is_private(""));
/// assert!(!is_private("public"));
/// ```
pub fn is_private(label: &str) -> bool {
    label.trim() != "public"
}
