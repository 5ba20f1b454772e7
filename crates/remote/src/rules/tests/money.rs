//! With a budget, nothing leaves that may cost more than is left of it.

use rust_decimal::Decimal;
use troika_job::Job;

use super::{OPEN, REMOTES, facts, judged, leaves, says};
use crate::rules::{Facts, Loaded, RemoteIndex};

#[test]
fn with_a_budget_nothing_goes_that_may_cost_more() {
    let file = "hybrid.budget_per_day = 1\n";
    // 100 tokens at 2 and 1,000 at 10 for a million: 0.0002 + 0.01.
    let worst = Decimal::new(102, 4);
    let with = |left: Option<Decimal>| Facts {
        money_left: left,
        ..facts()
    };
    let leave = judged(&format!("{file}{OPEN}"), says("hello"), &with(Some(worst))).unwrap();
    assert_eq!(leave.to, [RemoteIndex(0)], "the other one has no price");
    assert_eq!(leave.worst_cost, Some(worst));
    let short = worst - Decimal::new(1, 9);
    for (left, why) in [
        (Some(short), "may cost 0.0102"),
        (Some(Decimal::ZERO), "0 is left"),
        (Some(Decimal::NEGATIVE_ONE), "0 is left"),
        (None, "not known"),
    ] {
        let told = leaves(file, says("hello"), &with(left)).unwrap_err();
        assert!(told.contains(why), "{told}");
        assert!(told.contains("ours has no price"), "{told}");
    }
    let twice = Job {
        n: 2,
        ..says("hello")
    };
    let leave = judged(&format!("{file}{OPEN}"), twice, &with(Some(Decimal::ONE))).unwrap();
    let both = leave.worst_cost.unwrap();
    assert_eq!(both, worst + worst, "each may be a request of its own");
    let endless = Job {
        max_tokens: None,
        ..says("hello")
    };
    let told = leaves(file, endless.clone(), &with(Some(Decimal::ONE_HUNDRED))).unwrap_err();
    assert!(told.contains("at any length"), "{told}");
    // Nobody counted the tokens: each has a byte at least.
    let uncounted = |left| Facts {
        prompt_tokens: None,
        money_left: Some(left),
        ..Facts::default()
    };
    let bytes = says(&"x".repeat(10_000));
    assert!(leaves(file, bytes.clone(), &uncounted(Decimal::new(29, 3))).is_err());
    assert!(leaves(file, bytes, &uncounted(Decimal::new(31, 3))).is_ok());
    // Without a budget, all of this may go.
    let free = judged(OPEN, endless, &facts()).unwrap();
    assert_eq!((free.to.len(), free.worst_cost), (2, None));
}

#[test]
fn a_limit_of_answers_bounds_what_they_cost() {
    let text = format!("hybrid.budget_per_month = 50\n{OPEN}{REMOTES}")
        .replace("prompt_tokens = 10_000", "answer_tokens = 500");
    let rules = Loaded::parse(&text).unwrap().rules;
    let facts = Facts {
        money_left: Some(Decimal::ONE),
        ..facts()
    };
    for (own, worst) in [
        (None, Decimal::new(52, 4)),
        (Some(1000), Decimal::new(52, 4)),
        (Some(100), Decimal::new(12, 4)),
    ] {
        let job = Job {
            max_tokens: own,
            ..says("hello")
        };
        let (_, leave) = rules.explain(&job, &facts);
        assert_eq!(leave.unwrap().worst_cost, Some(worst), "{own:?}");
    }
}
