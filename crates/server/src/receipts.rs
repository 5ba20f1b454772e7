//! `/api/troika/receipts`: what left this machine and what that cost, beside what the machine itself took.
//!
//! Sums and the last receipts, which have no text in them. The file with all of them is read by `troika receipts`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use troika_machine::meter::{EnergyDay, EnergyMonth};
use troika_remote::config::Hybrid;
use troika_remote::receipts::{Amount, By, Ledger as _, Receipts, this_month};

use crate::dialect::Dialect;
use crate::{ApiError, Backend};

/// How many of the last receipts are told.
const LAST: usize = 20;

/// What the route tells of, as it is now.
#[derive(Clone, Debug)]
pub struct Beyond {
    /// The receipts; `None` where nothing leaves.
    pub receipts: Option<Arc<Receipts>>,
    /// What the owner says of prices and budgets.
    pub hybrid: Hybrid,
    /// `TROIKA_HOME`, where the energy of the month is kept; `None` where it is not.
    pub home: Option<PathBuf>,
}

/// The route.
pub(crate) fn routes(backend: Arc<dyn Backend>) -> Router {
    Router::new()
        .route("/api/troika/receipts", get(receipts))
        .method_not_allowed_fallback(crate::app::wrong_method)
        .with_state(backend)
}

/// What was spent this month, here and elsewhere.
async fn receipts(State(backend): State<Arc<dyn Backend>>) -> Response {
    let Some(beyond) = backend.beyond() else {
        let none = "this server is offline: nothing leaves it, and nothing did";
        return Dialect::OpenAi.refuse(&ApiError::not_found(none));
    };
    Json(told(beyond).await).into_response()
}

async fn told(beyond: Beyond) -> Value {
    let Beyond { hybrid, home, .. } = beyond;
    // The file of the day is small, and still a file.
    let month = tokio::task::spawn_blocking(move || {
        home.and_then(|home| EnergyDay::month_at(&home, EnergyDay::today()))
    });
    let month = month.await.unwrap_or(None);
    let remote = beyond.receipts.as_deref();
    json!({
        "month": this_month(),
        "currency": hybrid.currency,
        "local": local(month, &hybrid),
        "remote": remote.map(|receipts| elsewhere(receipts, &hybrid)),
    })
}

/// What the devices took, as energy and as money; nulls where that is not known.
fn local(month: Option<EnergyMonth>, hybrid: &Hybrid) -> Value {
    let price = Amount(hybrid.kwh_price);
    let Some(month) = month else {
        return json!({"kwh": null, "since": null, "cost": null, "kwh_price": price});
    };
    let kwh = month.watt_hours / 1000.0;
    // A kilowatt-hour has no more places than watt-seconds need.
    let amount = Decimal::try_from(kwh).ok();
    let cost = amount.map(|kwh| Amount((kwh * hybrid.kwh_price).round_dp(6)));
    json!({"kwh": kwh, "since": month.since.to_string(), "cost": cost, "kwh_price": price})
}

/// What was sent this month, by endpoint and rule; the months before; the last receipts.
fn elsewhere(receipts: &Receipts, hybrid: &Hybrid) -> Value {
    let month = this_month();
    let month = Some(&*month);
    let spent = receipts.spent(&hybrid.currency);
    let budget = |amount: Option<Decimal>| amount.map(Amount);
    receipts.tally(|tally| {
        let last = tally.last(LAST).map(|receipt| {
            let mut told = json!(receipt);
            // Another key's request is nobody's business.
            if let Value::Object(told) = &mut told {
                told.shift_remove("request_id");
            }
            told
        });
        json!({
            "total": tally.total(month),
            "by_month": tally.sums(By::Month, None),
            "by_remote": tally.sums(By::Remote, month),
            "by_rule": tally.sums(By::Rule, month),
            // With what requests on their way may cost, and those that never ended.
            "spent": {
                "today": Amount(spent.today),
                "this_month": Amount(spent.this_month),
                "budget_per_day": budget(hybrid.budget_per_day),
                "budget_per_month": budget(hybrid.budget_per_month),
            },
            "last": last.collect::<Vec<_>>(),
        })
    })
}

#[cfg(test)]
mod tests {
    use troika_base::Joules;
    use troika_remote::config::Api;
    use troika_remote::receipts::{Durability, End, FILE, Intent, Outcome};

    use super::*;
    use crate::job::Cost;

    fn beyond(receipts: Option<Arc<Receipts>>, home: Option<PathBuf>) -> Beyond {
        Beyond {
            receipts,
            hybrid: Hybrid::default(),
            home,
        }
    }

    /// Whether two values have the same fields; those of sums by name are of the same form, whatever the names.
    fn same_form(path: &str, a: &Value, b: &Value) {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                let is_by_name = ["by_month", "by_remote", "by_rule", "cost", "redacted"];
                if is_by_name.iter().any(|name| path.ends_with(name)) {
                    for (a, b) in a.values().zip(b.values()) {
                        same_form(&format!("{path}/*"), a, b);
                    }
                    return;
                }
                let keys =
                    |it: &serde_json::Map<String, Value>| it.keys().cloned().collect::<Vec<_>>();
                assert_eq!(keys(a), keys(b), "{path}");
                for (key, value) in a {
                    same_form(&format!("{path}/{key}"), value, &b[key]);
                }
            }
            // The last of a list has all that there is.
            (Value::Array(a), Value::Array(b)) => {
                if let (Some(a), Some(b)) = (a.last(), b.last()) {
                    same_form(&format!("{path}/-"), a, b);
                }
            }
            (Value::Null, _) | (_, Value::Null) => {}
            (a, b) => {
                let form = std::mem::discriminant::<Value>;
                assert_eq!(form(a), form(b), "{path}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_known_is_null() {
        let told = told(beyond(None, None)).await;
        assert_eq!(told["remote"], Value::Null);
        let local = json!({"kwh": null, "since": null, "cost": null, "kwh_price": "0.3"});
        assert_eq!(told["local"], local);
    }

    #[tokio::test]
    async fn what_was_spent_here_and_elsewhere_stands_side_by_side() {
        let home = tempfile::tempdir().unwrap();
        let (mut day, _) = EnergyDay::open(home.path(), EnergyDay::today());
        day.spend(Joules(2.0 * 3.6e6), EnergyDay::today());
        day.save().unwrap();
        let path = home.path().join(FILE);
        let receipts = Receipts::open(&path, Durability::Soon).unwrap();
        let id = receipts.begin(Intent {
            request_id: "secret-7".to_owned(),
            to: "far".to_owned(),
            host: "api.example.com".to_owned(),
            api: Api::Openai,
            rule: "big".to_owned(),
            model: "large".to_owned(),
            bytes_out: 100,
            cost_at_most: None,
            redacted: Default::default(),
        });
        let cost = Cost {
            amount: Decimal::new(25, 3),
            currency: "EUR".to_owned(),
        };
        receipts.end(
            id.await.unwrap(),
            End {
                outcome: Outcome::Answered,
                status: Some(200),
                bytes_out: 100,
                bytes_in: 900,
                prompt_tokens: Some(10),
                completion_tokens: Some(20),
                cost: Some(cost),
            },
        );
        // What is begun after it was counted is written after it, too.
        drop(receipts);
        let receipts = Receipts::open(&path, Durability::Soon).unwrap();
        let told = told(beyond(
            Some(Arc::new(receipts)),
            Some(home.path().to_owned()),
        ))
        .await;
        assert_eq!(told["local"]["kwh"], 2.0);
        assert_eq!(told["local"]["cost"], "0.6");
        let remote = &told["remote"];
        assert_eq!(remote["total"]["cost"]["EUR"], "0.025");
        assert_eq!(remote["by_remote"]["far"]["bytes_in"], 900);
        assert_eq!(remote["by_rule"]["big"]["requests"], 1);
        assert_eq!(remote["spent"]["today"], "0.025");
        assert_eq!(remote["last"][0]["end"]["cost"], "0.025");
        assert!(!told.to_string().contains("secret-7"));
        // What the page is tried with.
        let played = include_str!("web/fixtures/receipts.json");
        same_form("", &serde_json::from_str(played).unwrap(), &told);
    }
}
