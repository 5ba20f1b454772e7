//! What is known of a job's surroundings when it is judged.

use rust_decimal::Decimal;
use troika_scheduler::Class;

/// What is known when a job is judged. What is not known is `None`, and no condition on it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// How urgent the job is.
    pub class: Class,
    /// The API key's name; `None` where none was shown.
    pub key: Option<String>,
    /// The request's headers, as often as they came.
    pub headers: Vec<(String, String)>,
    /// Tokens of the prompt, as the model here counts them.
    pub prompt_tokens: Option<usize>,
    /// Seconds until the first token on this machine, as foretold. Infinite where it cannot be done here.
    pub ttft_s: Option<f64>,
    /// Seconds until the job is worth nothing any more.
    pub deadline_s: Option<f64>,
    /// Jobs that wait on this machine.
    pub queue: Option<usize>,
    /// Whether the machine runs on its battery.
    pub on_battery: Option<bool>,
    /// Per cent of the battery that are left.
    pub battery: Option<f64>,
    /// Money that may still be spent, by the tighter of the budgets, less what jobs on their way may cost.
    pub money_left: Option<Decimal>,
}

impl Facts {
    /// The values of a header, in the order in which they came.
    pub(crate) fn header<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        let named = self.headers.iter();
        named
            .filter(move |(key, _)| key.eq_ignore_ascii_case(&name))
            .map(|(_, value)| value.trim())
    }
}
