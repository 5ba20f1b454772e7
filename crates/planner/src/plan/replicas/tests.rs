//! Replicas over a small catalogue.

use proptest::prelude::*;

use super::*;
use crate::catalogue::Catalogue;
use crate::plan::Form;
use crate::plan::testing::{catalogue, here, thresholds, today};

fn workload(text: &str) -> Workload {
    let form: Form = toml::from_str(text).expect("parses");
    form.complete(&thresholds()).expect("makes sense")
}

fn planned(workload: &Workload, catalogue: &Catalogue, on: Option<&str>) -> Replicas {
    let here = here();
    let question = Question {
        here: Some(&here),
        ..Question::new(workload, catalogue, today())
    };
    replicas(&question, on).expect("is planned")
}

fn lost<'r>(replicas: &'r Replicas, name: &str) -> &'r Lost {
    let loser = replicas.losers.iter().find(|loser| loser.name == name);
    &loser.unwrap_or_else(|| panic!("{name} did not lose")).lost
}

const MANY: &str = "model = 'llama-3.1-8b'\nusers = 500\n";

#[test]
fn many_users_take_several_of_what_serves_some() {
    let (workload, catalogue) = (workload(MANY), catalogue());
    let replicas = planned(&workload, &catalogue, None);
    let best = replicas.crews.first().expect("somebody serves");
    assert!(best.replicas.high > 1, "{best:#?}");
    let count = best.users_each;
    assert!(count.low <= count.value && count.value <= count.high);
    assert!(best.replicas.low <= best.replicas.value && best.replicas.value <= best.replicas.high);
    assert!(best.users_each.low * best.replicas.high >= 500);
    assert!(
        best.users_each.low * (best.replicas.high - 1) < 500 || best.verdict.busy_hours.is_some()
    );
    assert_eq!(best.replicas_half, 250_u32.div_ceil(count.low));
    let each = best.verdict.usd_month().expect("has a price").value;
    let all = best.usd_month.expect("has a price").value;
    assert!((all / each - f64::from(best.replicas.high)).abs() < 1e-6);
    let order: Vec<_> = replicas
        .crews
        .iter()
        .map(|crew| crew.usd_month.map_or(f64::INFINITY, |usd| usd.value))
        .collect();
    assert!(order.is_sorted(), "the cheapest stands first: {order:?}");
}

#[test]
fn what_is_wanted_holds_at_the_worse_end_and_not_for_one_more() {
    let catalogue = catalogue();
    for more in [
        "ttft_s = 0.5",
        "tps = 30.0",
        "context = 16384",
        "prompt_tokens = 4000\ncontext = 8192",
    ] {
        let workload = workload(&format!("{MANY}{more}"));
        for crew in planned(&workload, &catalogue, None).crews {
            let forecast = crew.verdict.forecast.as_ref().expect("has one");
            let (tps, ttft) = (forecast.decode_tps, forecast.ttft_s.expect("has one"));
            assert!(
                workload.tps.is_none_or(|want| tps.low >= want),
                "{more}: {}",
                crew.name
            );
            assert!(
                workload.ttft_s.is_none_or(|want| ttft.high <= want),
                "{more}: {}",
                crew.name
            );
            assert!(
                tps.low <= tps.value && tps.value <= tps.high,
                "{}",
                crew.name
            );
            assert!(
                ttft.low <= ttft.value && ttft.value <= ttft.high,
                "{}",
                crew.name
            );
            assert_ne!(
                crew.bound,
                Bound::Users,
                "{more}: 500 are more than {} bears",
                crew.name
            );
        }
    }
}

#[test]
fn each_want_is_a_bound_of_its_own() {
    let catalogue = catalogue();
    let bound = |more: &str| {
        let workload = workload(&format!(
            "model = 'llama-3.1-8b'\nusers = 4000\nrequests_per_day = 4000.0\n{more}"
        ));
        let replicas = planned(&workload, &catalogue, Some("Test Server 80"));
        let crew = replicas.crews.first().map(|crew| crew.bound);
        crew.ok_or_else(|| replicas.losers[0].lost.reason.clone())
    };
    assert_eq!(bound("context = 8192"), Ok(Bound::Memory));
    assert_eq!(
        bound("task = 'agent'\nprompt_tokens = 512\ncontext = 2048\ntps = 60.0"),
        Ok(Bound::Speed)
    );
    assert_eq!(
        bound("ttft_s = 0.15\ntps = 2.0\ncontext = 1024"),
        Ok(Bound::Ttft)
    );
    let one = workload("model = 'llama-3.1-8b'");
    let crew = &planned(&one, &catalogue, Some("Test Server 80")).crews[0];
    assert_eq!((crew.bound, crew.replicas.high), (Bound::Users, 1));
}

#[test]
fn who_cannot_be_a_replica_says_why() {
    let (workload, catalogue) = (workload(MANY), catalogue());
    let replicas = planned(&workload, &catalogue, None);
    for (name, part) in [
        ("2 × Test Card 24, tensors split", "by layers"),
        ("Test Soc 1 (64 GB), NPU", "NPU"),
        ("this machine: gpu0", "there is one of it"),
    ] {
        let reason = &lost(&replicas, name).reason;
        assert!(reason.contains(part), "{name}: {reason}");
    }
    let named = planned(&workload, &catalogue, Some("this machine: gpu0"));
    let crew = named.crews.first().expect("more like it serve");
    assert_eq!(crew.machine.as_deref(), Some("here"));
    assert_eq!(named.crews.len() + named.losers.len(), 1);
}

#[test]
fn other_software_than_vulkan_leaves_out_the_cards() {
    let (workload, catalogue) = (workload(&format!("{MANY}ecosystem = 'cuda'")), catalogue());
    let replicas = planned(&workload, &catalogue, None);
    let reason = &lost(&replicas, "Test Card 24").reason;
    assert!(reason.contains("Vulkan"), "{reason}");
}

#[test]
fn a_budget_is_that_of_all_together() {
    let catalogue = catalogue();
    let free = planned(&workload(MANY), &catalogue, Some("cloudy one eu"));
    let month = free.crews[0].usd_month.expect("has a price").value;
    let with = |usd: f64| workload(&format!("{MANY}budget_usd_month = {usd:.2}"));
    let (enough, short) = (with(month * 1.01), with(month * 0.99));
    assert_eq!(
        planned(&enough, &catalogue, Some("cloudy one eu"))
            .crews
            .len(),
        1
    );
    let refused = planned(&short, &catalogue, Some("cloudy one eu"));
    assert_eq!(
        refused.losers[0].lost.requirement,
        Requirement::MonthlyBudget
    );
}

#[test]
fn what_cannot_be_planned_is_refused_by_name() {
    let catalogue = catalogue();
    for (text, part) in [
        ("users = 9", "--model"),
        (
            "model = 'llama-3.1-8b'\nquantization = 'best'",
            "--quantization",
        ),
        ("model = 'llama-3.1-8b'\ntask = 'embed'", "that write"),
        ("model = 'lama'", "lama"),
    ] {
        let workload = workload(text);
        let question = Question::new(&workload, &catalogue, today());
        let message = replicas(&question, None)
            .expect_err("makes no sense")
            .to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
    let workload = workload(MANY);
    let question = Question::new(&workload, &catalogue, today());
    let message = replicas(&question, Some("no such"))
        .expect_err("is none")
        .to_string();
    assert!(message.contains("no such"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// More users never take fewer replicas, nor do stricter wants.
    #[test]
    fn replicas_grow_with_users_and_with_wants(
        users in 1_u32..3000,
        more in 1_u32..3000,
        ttft_s in 0.2_f64..4.0,
        tps in 2.0_f64..40.0,
        prompt in 64_u32..4000,
        strictness in 1.0_f64..2.0,
    ) {
        let catalogue = catalogue();
        let needed = |users: u32, strictness: f64| {
            let workload = workload(&format!(
                "model = 'llama-3.1-8b'\nusers = {users}\nprompt_tokens = {prompt}\nttft_s = {}\ntps = {}",
                ttft_s / strictness, tps * strictness
            ));
            let question = Question::new(&workload, &catalogue, today());
            let replicas = replicas(&question, Some("cloudy one eu")).expect("is planned");
            replicas.crews.first().map(|crew| crew.replicas)
        };
        let few = needed(users, 1.0);
        let many = needed(users + more, 1.0);
        prop_assert_eq!(few.is_some(), many.is_some(), "who serves one serves many, by more replicas");
        if let (Some(few), Some(many)) = (few, many) {
            prop_assert!(few.high <= many.high && few.value <= many.value && few.low <= many.low);
            if let Some(strict) = needed(users, strictness) {
                prop_assert!(few.high <= strict.high, "{:?} {:?}", few, strict);
            }
        }
    }
}
