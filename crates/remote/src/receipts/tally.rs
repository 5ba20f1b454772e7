//! What receipts add up to: by month, endpoint and rule; by day, for budgets; and the last of them as they are.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde::Serialize;

use super::line::{EndLine, Entry, IntentLine, Line, Money, Why};
use super::{Outcome, Redactions, Spent};
use crate::config::Api;

/// How many of the last receipts are at hand.
const LAST: usize = 100;

/// What the lines so far add up to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    sums: BTreeMap<Place, Sum>,
    /// What counts as spent, by currency and day.
    days: BTreeMap<(String, Date), Decimal>,
    open: HashMap<u64, Open>,
    last: VecDeque<Receipt>,
}

/// What sums are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    month: String,
    to: String,
    rule: String,
}

/// A request that has not ended.
#[derive(Clone, Debug)]
struct Open {
    place: Place,
    day: Date,
    bytes_out: u64,
    at_most: Option<Money>,
}

/// What sums are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Months of UTC.
    Month,
    /// Endpoints.
    Remote,
    /// Rules.
    Rule,
}

/// Requests to remote endpoints, added up. What has not ended counts with all its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Requests.
    pub requests: u64,
    /// Of these, those that a whole answer came to.
    pub answered: u64,
    /// Of these, those that never ended: the process died, or is still at it.
    pub open: u64,
    /// Bytes of requests that left.
    pub bytes_out: u64,
    /// Bytes of answers that came.
    pub bytes_in: u64,
    /// Tokens of prompts, as far as endpoints said so.
    pub prompt_tokens: u64,
    /// Tokens of answers, as far as endpoints said so.
    pub completion_tokens: u64,
    /// Money by currency, as text that nobody rounds.
    pub cost: BTreeMap<String, Amount>,
    /// Requests of which bytes left, and of which it is not known what they cost.
    pub cost_unknown: u64,
    /// Values that were taken out before.
    pub redacted: u64,
}

/// An amount of money, as a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount(pub Decimal);

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.normalize())
    }
}

/// A request to a remote endpoint, begun and perhaps ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Receipt {
    /// The number of its first line.
    pub n: u64,
    /// When it was let go: `2026-11-22T01:34:15.123Z`.
    pub at: String,
    /// The request's number.
    pub request_id: String,
    /// The endpoint's name.
    pub to: String,
    /// Whom the bytes reach.
    pub host: String,
    /// What it speaks.
    pub api: Api,
    /// The rule that let it go.
    pub rule: String,
    /// The model, as it is called there.
    pub model: String,
    /// Bytes of the request's body; all of them until it has ended.
    pub bytes_out: u64,
    /// What was taken out before.
    pub redacted: Redactions,
    /// What became of it; absent until it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Ended>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// When.
    pub at: String,
    /// How it went.
    pub outcome: Outcome,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Bytes of the answer's body.
    pub bytes_in: u64,
    /// Tokens of the prompt, if the endpoint said so.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, if the endpoint said so.
    pub completion_tokens: Option<u64>,
    /// What it cost, if that is known.
    pub cost: Option<Amount>,
    /// In what.
    pub currency: Option<String>,
}

impl Tally {
    /// Counts a line.
    ///
    /// # Errors
    /// If it ends what has not begun. Then nothing is counted.
    pub(super) fn add(&mut self, line: Line) -> Result<(), Why> {
        match line.entry {
            Entry::Intent(intent) => self.begin(line.n, line.at, intent),
            Entry::End(end) => self.end(line.at, end)?,
            Entry::Torn { .. } => {}
        }
        Ok(())
    }

    /// Whether a receipt has begun and not ended.
    pub(super) fn is_open(&self, n: u64) -> bool {
        self.open.contains_key(&n)
    }

    fn begin(&mut self, n: u64, at: Timestamp, intent: IntentLine) {
        let day = day(at);
        let place = Place {
            month: month(day),
            to: intent.to.clone(),
            rule: intent.rule.clone(),
        };
        let sum = self.sums.entry(place.clone()).or_default();
        sum.requests += 1;
        sum.open += 1;
        sum.bytes_out += intent.bytes_out;
        sum.redacted += intent.redacted.values().sum::<u64>();
        if let Some(Money { amount, currency }) = &intent.cost_at_most {
            *self.days.entry((currency.clone(), day)).or_default() += amount;
        }
        let open = Open {
            place,
            day,
            bytes_out: intent.bytes_out,
            at_most: intent.cost_at_most,
        };
        self.open.insert(n, open);
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(Receipt {
            n,
            at: format!("{at:.3}"),
            request_id: intent.request_id,
            to: intent.to,
            host: intent.host,
            api: intent.api,
            rule: intent.rule,
            model: intent.model,
            bytes_out: intent.bytes_out,
            redacted: intent.redacted,
            end: None,
        });
    }

    fn end(&mut self, at: Timestamp, end: EndLine) -> Result<(), Why> {
        let open = self.open.remove(&end.of);
        let open = open.ok_or(Why::NoIntent { of: end.of })?;
        let sum = self.sums.entry(open.place).or_default();
        sum.open -= 1;
        sum.answered += u64::from(end.outcome == Outcome::Answered);
        sum.bytes_out = sum.bytes_out.saturating_sub(open.bytes_out) + end.bytes_out;
        sum.bytes_in += end.bytes_in;
        sum.prompt_tokens += end.prompt_tokens.unwrap_or(0);
        sum.completion_tokens += end.completion_tokens.unwrap_or(0);
        match &end.cost {
            Some(Money { amount, currency }) => {
                sum.cost.entry(currency.clone()).or_default().0 += amount;
            }
            None => sum.cost_unknown += u64::from(end.bytes_out > 0),
        }
        // What may have been spent stays counted where nobody said what was.
        if (end.cost.is_some() || end.bytes_out == 0)
            && let Some(Money { amount, currency }) = open.at_most
        {
            *self.days.entry((currency, open.day)).or_default() -= amount;
        }
        if let Some(Money { amount, currency }) = &end.cost {
            *self.days.entry((currency.clone(), open.day)).or_default() += amount;
        }
        if let Some(receipt) = self.last.iter_mut().rev().find(|it| it.n == end.of) {
            receipt.bytes_out = end.bytes_out;
            receipt.end = Some(Ended {
                at: format!("{at:.3}"),
                outcome: end.outcome,
                status: end.status,
                bytes_in: end.bytes_in,
                prompt_tokens: end.prompt_tokens,
                completion_tokens: end.completion_tokens,
                cost: end.cost.as_ref().map(|cost| Amount(cost.amount)),
                currency: end.cost.map(|cost| cost.currency),
            });
        }
        Ok(())
    }

    /// Requests that were let go.
    pub fn sent(&self) -> u64 {
        self.sums.values().map(|sum| sum.requests).sum()
    }

    /// Requests that never ended.
    pub fn open(&self) -> u64 {
        self.open.len() as u64
    }

    /// What they add up to, for each month, endpoint or rule; in one month (`2026-11`), or in all.
    pub fn sums(&self, by: By, month: Option<&str>) -> BTreeMap<&str, Sum> {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for (place, sum) in self.within(month) {
            let key = match by {
                By::Month => &place.month,
                By::Remote => &place.to,
                By::Rule => &place.rule,
            };
            sums.entry(key).or_default().add(sum);
        }
        sums
    }

    /// What all of them add up to; in one month, or in all.
    pub fn total(&self, month: Option<&str>) -> Sum {
        let mut total = Sum::default();
        self.within(month).for_each(|(_, sum)| total.add(sum));
        total
    }

    fn within(&self, month: Option<&str>) -> impl Iterator<Item = (&Place, &Sum)> {
        let is_in = move |place: &Place| month.is_none_or(|month| place.month == month);
        self.sums.iter().filter(move |(place, _)| is_in(place))
    }

    /// The last receipts, the newest first; a hundred are at hand.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &Receipt> {
        self.last.iter().rev().take(count)
    }

    /// What counts as spent on the day of `now` and in its month.
    pub(super) fn spent(&self, currency: &str, now: Timestamp) -> Spent {
        let today = day(now);
        let on = |day: Date| self.days.get(&(currency.to_owned(), day)).copied();
        let (first, last) = (today.first_of_month(), today.last_of_month());
        let key = |day| (currency.to_owned(), day);
        let month = self.days.range(key(first)..=key(last));
        Spent {
            today: on(today).unwrap_or_default(),
            this_month: month.map(|(_, amount)| amount).sum(),
        }
    }
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.open += other.open;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cost_unknown += other.cost_unknown;
        self.redacted += other.redacted;
        for (currency, amount) in &other.cost {
            self.cost.entry(currency.clone()).or_default().0 += amount.0;
        }
    }
}

/// The day of UTC.
fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// `2026-11`.
fn month(day: Date) -> String {
    format!("{:04}-{:02}", day.year(), day.month())
}

/// The month of UTC that it is now: `2026-11`.
pub fn this_month() -> String {
    month(day(Timestamp::now()))
}
