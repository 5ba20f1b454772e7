//! Emitted files, over a small catalogue.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::plan::replicas::replicas;
use crate::plan::testing::{catalogue, here, thresholds, today};
use crate::plan::{Form, Question};

const MANY: &str = "model = 'llama-3.1-8b'\nusers = 500\n";

/// The replicas of a workload on one candidate, or on the best.
fn planned(text: &str, on: Option<&str>) -> Replicas {
    let form: Form = toml::from_str(text).expect("parses");
    let workload = form.complete(&thresholds()).expect("makes sense");
    let (catalogue, here) = (catalogue(), here());
    let question = Question {
        here: Some(&here),
        ..Question::new(&workload, &catalogue, today())
    };
    replicas(&question, on).expect("is planned")
}

fn emitted(target: Target, text: &str, on: Option<&str>) -> (String, Vec<Value>) {
    let replicas = planned(text, on);
    let crew = replicas
        .crews
        .first()
        .unwrap_or_else(|| panic!("{:#?}", replicas.losers));
    let text = emit(target, crew, &replicas);
    let documents = serde_saphyr::from_multiple(&text).expect("is YAML");
    (text, documents)
}

/// The document of a kind.
fn of_kind<'d>(documents: &'d [Value], kind: &str) -> &'d Value {
    let found = documents.iter().find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

/// A setting of the configuration file in the manifests.
fn setting(documents: &[Value], key: &str) -> Option<String> {
    let file = of_kind(documents, "ConfigMap")["data"]["config.toml"].as_str();
    let table: toml::Table = toml::from_str(file.expect("is text")).expect("is TOML");
    table.get(key).map(ToString::to_string)
}

#[test]
fn the_manifests_are_as_intended() {
    let (text, _) = emitted(Target::Kubernetes, MANY, Some("cloudy one eu"));
    insta::assert_snapshot!(text);
}

#[test]
fn the_configuration_of_ray_is_as_intended() {
    let (text, _) = emitted(Target::Ray, MANY, Some("cloudy one eu"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_processor_is_asked_for_its_memory_and_cores() {
    let text = "model = 'small-1b'\nusers = 6\ntps = 2.0\nttft_s = 20.0";
    let (_, documents) = emitted(Target::Kubernetes, text, Some("this machine: cpu0"));
    let container =
        &of_kind(&documents, "StatefulSet")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"]["cpu"], "8");
    assert_eq!(container["image"], "troika:0.1.0");
    assert_eq!(setting(&documents, "threads").as_deref(), Some("8"));
    assert_eq!(setting(&documents, "gpu_models").as_deref(), Some("false"));
    let budget = setting(&documents, "memory_budget").expect("is set");
    let budget: u64 = budget
        .trim_matches('"')
        .trim_end_matches("GiB")
        .parse()
        .expect("GiB");
    assert_eq!(
        container["resources"]["limits"]["memory"],
        format!("{}Gi", budget + 1)
    );
}

#[test]
fn cores_that_nobody_knows_are_not_made_up() {
    let text = "model = 'small-1b'\nusers = 6\ntps = 2.0\nttft_s = 20.0";
    let mut replicas = planned(text, Some("this machine: cpu0"));
    replicas.crews[0].node.cores = None;
    let text = emit(Target::Kubernetes, &replicas.crews[0], &replicas);
    assert!(text.contains("is not known here"), "{text}");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("is YAML");
    let container =
        &of_kind(&documents, "StatefulSet")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"]["cpu"], Value::Null);
    assert_eq!(setting(&documents, "threads"), None);
}

#[test]
fn without_a_wait_that_is_wanted_nothing_scales_by_it() {
    let text =
        "model = 'llama-3.1-8b'\ntask = 'agent'\nusers = 40\nprompt_tokens = 1000\ntps = 10.0";
    let (_, documents) = emitted(Target::Kubernetes, text, Some("cloudy one eu"));
    let metrics = of_kind(&documents, "HorizontalPodAutoscaler")["spec"]["metrics"].as_array();
    assert_eq!(metrics.map(Vec::len), Some(1));
    let (_, documents) = emitted(Target::Ray, text, Some("cloudy one eu"));
    assert_eq!(
        documents[0]["applications"][0]["args"]["target_ttft"],
        Value::Null
    );
}

#[test]
fn a_simulation_needs_names_that_the_catalogue_has() {
    let command = |text: &str, on: &str| {
        let replicas = planned(text, Some(on));
        simulation(&replicas.crews[0], &replicas)
    };
    let plain = command(MANY, "cloudy one eu").expect("is known");
    assert!(plain.contains("--machine 'Test Server 80'"), "{plain}");
    assert!(!plain.contains("--models"), "{plain}");
    let other =
        command(&format!("{MANY}quantization = 'Q8_0'"), "cloudy one eu").expect("is known");
    assert!(
        other.contains("--models 'llama-3.1-8b=llama-3.1-8b:Q8_0'"),
        "{other}"
    );
    let mut replicas = planned(MANY, Some("cloudy one eu"));
    replicas.is_of_catalogue = false;
    assert_eq!(simulation(&replicas.crews[0], &replicas), None);
    let text = emit(Target::Kubernetes, &replicas.crews[0], &replicas);
    assert!(text.contains("cannot play this"), "{text}");
}

#[test]
fn comments_come_first_and_hold_to_their_width() {
    for target in Target::ALL {
        let (text, _) = emitted(target, MANY, None);
        let (head, body): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('#'));
        assert!(
            text.starts_with(&head.join("\n")),
            "comments stand before all else"
        );
        assert!(!body.is_empty());
        for line in head {
            let fits = line.chars().count() <= 102 || line.contains("troika simulate");
            assert!(fits, "{line}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is asked, what comes out is YAML, and its numbers are those of the plan.
    #[test]
    fn every_file_parses_and_agrees_with_its_plan(
        users in 1_u32..4000,
        prompt in 16_u32..3000,
        answer in 1_u32..800,
        tps in 1.0_f64..30.0,
        card in proptest::sample::select(vec!["Test Card 12", "Test Card 24", "2 × Test Card 24", "cloudy one eu", "Test Mini, GPU"]),
    ) {
        let text = format!(
            "model = 'llama-3.1-8b'\nusers = {users}\nprompt_tokens = {prompt}\ngen_tokens = {answer}\ntps = {tps}"
        );
        let replicas = planned(&text, Some(card));
        for crew in &replicas.crews {
            let text = emit(Target::Kubernetes, crew, &replicas);
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("is YAML");
            let scaler = &of_kind(&documents, "HorizontalPodAutoscaler")["spec"];
            let set = &of_kind(&documents, "StatefulSet")["spec"];
            prop_assert_eq!(&set["replicas"], crew.replicas.high);
            prop_assert!(scaler["minReplicas"].as_u64() >= Some(1));
            prop_assert!(scaler["minReplicas"].as_u64() <= set["replicas"].as_u64());
            prop_assert!(set["replicas"].as_u64() < scaler["maxReplicas"].as_u64());
            prop_assert_eq!(setting(&documents, "max_streams"), Some(crew.users_each.low.to_string()));
            let text = emit(Target::Ray, crew, &replicas);
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("is YAML");
            let args = &documents[0]["applications"][0]["args"];
            prop_assert_eq!(&args["target_ongoing"], crew.users_each.low);
            prop_assert_eq!(&args["max_replicas"], crew.replicas.high + 1);
        }
    }
}
