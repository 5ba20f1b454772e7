//! What is filled in, refused, and called a contradiction.

use super::*;
use crate::plan::testing::thresholds;

fn complete(text: &str) -> Result<Workload, WorkloadError> {
    let form: Form = toml::from_str(text).expect("parses");
    form.complete(&thresholds())
}

#[test]
fn a_task_fills_in_what_is_not_said() {
    let chat = complete("").expect("is complete");
    assert_eq!(
        (chat.prompt_tokens, chat.context, chat.users),
        (512, 4096, 1)
    );
    assert_eq!(chat.tps, Some(thresholds().readable_tps));
    let agent = complete("task = 'agent'\ntps = 50.0").expect("is complete");
    assert_eq!(
        (agent.tps, agent.ttft_s, agent.context),
        (Some(50.0), None, 16_384)
    );
}

#[test]
fn what_is_printed_can_be_read_again() {
    let workload =
        complete("task = 'rag'\nsupply = 'battery'\necosystem = 'openvino'\n[expenses]\negress_gb_month = 5.0\negress_to = 'region'")
            .expect("is complete");
    let text = toml::to_string(&workload).expect("is TOML");
    assert_eq!(complete(&text).expect("is complete"), workload, "{text}");
}

#[test]
fn unknown_fields_are_refused_by_name() {
    let error = toml::from_str::<Form>("tokens = 5").expect_err("is unknown");
    assert!(error.to_string().contains("tokens"), "{error}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    for text in [
        "users = 0",
        "tps = 0.0",
        "tps = nan",
        "ttft_s = -1.0",
        "ttft_s = inf",
        "hours_per_day = 25.0",
        "budget_usd = -1.0",
        "requests_per_day = nan",
        "prompt_tokens = 0",
        "context = 4000000000",
        "kv_bits = 0.0",
    ] {
        let error = complete(text).expect_err(text);
        let field = text.split(' ').next().expect("a word");
        assert!(
            matches!(error, WorkloadError::OutOfRange { field: named, .. } if named == field),
            "{error}"
        );
    }
}

#[test]
fn contradictions_name_the_pair() {
    for (text, pair) in [
        (
            "acquire = 'buy'\nbudget_usd = 0.0",
            ["acquire = buy", "budget_usd = 0"],
        ),
        (
            "acquire = 'rent'\nprivacy = 'local-only'",
            ["acquire = rent", "privacy = local-only"],
        ),
        (
            "context = 1000\nprompt_tokens = 900\ngen_tokens = 200",
            ["context = 1000", "= 1100"],
        ),
        (
            "users = 50\nrequests_per_day = 10.0",
            ["requests_per_day = 10", "users = 50"],
        ),
        (
            "hours_per_day = 2.0\npeak_hours = 3.0",
            ["peak_hours = 3", "hours_per_day = 2"],
        ),
    ] {
        let message = complete(text).expect_err(text).to_string();
        assert!(pair.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn expenses_are_checked_one_by_one_and_in_pairs() {
    for (text, part) in [
        ("pue = 0.9", "`pue` is 0.9"),
        ("egress_gb_month = nan", "`egress_gb_month` is NaN"),
        ("training_usd = -1.0", "`training_usd` is -1"),
        (
            "training_usd = 9.0\ntraining_months = 0.0",
            "`training_months` is 0",
        ),
        ("staff_hours_month = 2.0", "without `staff_usd_hour`"),
        ("staff_usd_hour = 50.0", "without `staff_hours_month`"),
        ("training_months = 6.0", "without `training_usd`"),
        ("egress_to = 'zone'", "without `egress_gb_month`"),
    ] {
        let error = complete(&format!("[expenses]\n{text}")).expect_err(text);
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = toml::from_str::<Form>("[expenses]\nrent = 5.0").expect_err("is unknown");
    assert!(error.to_string().contains("rent"), "{error}");
}

#[test]
fn flags_win_over_a_file_expense_by_expense() {
    let flags = Expenses {
        pue: Some(1.4),
        ..Expenses::default()
    };
    let file: Form =
        toml::from_str("[expenses]\npue = 1.2\negress_gb_month = 7.0").expect("parses");
    let form = Form {
        expenses: flags,
        ..Form::default()
    };
    let both = form.or(file).expenses;
    assert_eq!((both.pue, both.egress_gb_month), (Some(1.4), Some(7.0)));
}
