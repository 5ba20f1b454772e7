//! The manifests of `deploy/kubernetes/base`, filled.
//!
//! They are read as values, changed where the plan has a number, and written again; their comments are lost on the way, but
//! for those of the configuration file, which is text to Kubernetes.

use serde_json::{Map, Value, json};

use super::{Serving, bounds};
use crate::plan::replicas::{CardMaker, Crew, Replicas};

/// The base, in the order of its kustomization.
const BASE: [&str; 8] = [
    include_str!("../../../../deploy/kubernetes/base/namespace.yaml"),
    include_str!("../../../../deploy/kubernetes/base/configmap.yaml"),
    include_str!("../../../../deploy/kubernetes/base/models.yaml"),
    include_str!("../../../../deploy/kubernetes/base/statefulset.yaml"),
    include_str!("../../../../deploy/kubernetes/base/service.yaml"),
    include_str!("../../../../deploy/kubernetes/base/autoscaler.yaml"),
    include_str!("../../../../deploy/kubernetes/base/disruption.yaml"),
    include_str!("../../../../deploy/kubernetes/base/network.yaml"),
];

/// As `deploy/kubernetes/base/kustomization.yaml` sets it.
const NAMESPACE: &str = "troika";

/// The image with Vulkan: `deploy/kubernetes/components/gpu.Containerfile`.
const GPU_IMAGE: &str = "troika-gpu:0.1.0";

/// GiB of the volume of models in the base.
const MODELS_GIB: u64 = 100;

pub(super) fn manifests(crew: &Crew, replicas: &Replicas) -> String {
    let serving = Serving::of(crew, replicas);
    let mut documents: Vec<Value> = BASE.iter().flat_map(|text| documents(text)).collect();
    for document in &mut documents {
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        match &*kind {
            "Namespace" => continue,
            "ConfigMap" => configure(document, &serving),
            "PersistentVolumeClaim" => make_room(document, crew),
            "StatefulSet" => fill_set(document, crew, &serving),
            "HorizontalPodAutoscaler" => fill_autoscaler(document, crew, replicas),
            _ => {}
        }
        document["metadata"]["namespace"] = NAMESPACE.into();
    }
    let texts: Vec<String> = documents.iter().map(text).collect();
    texts.join("---\n")
}

/// The documents of a file of the base.
pub(super) fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("the base is YAML, as a test has seen. This is a bug.")
}

/// A value as YAML.
pub(super) fn text(document: &Value) -> String {
    serde_saphyr::to_string(document).expect("values of JSON can be written. This is a bug.")
}

/// Sets the settings that the plan has a number for, line by line, so that the comments stay.
fn configure(map: &mut Value, serving: &Serving) {
    let file = &mut map["data"]["config.toml"];
    let mut lines: Vec<String> = file
        .as_str()
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    let mut set = |key: &str, value: Option<String>| {
        let of_key = |line: &String| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(" ="))
        };
        let at = lines.iter().position(of_key);
        match (at, value) {
            (Some(at), Some(value)) => lines[at] = format!("{key} = {value}"),
            (Some(at), None) => drop(lines.remove(at)),
            (None, Some(value)) => lines.push(format!("{key} = {value}")),
            (None, None) => {}
        }
    };
    set(
        "memory_budget",
        Some(format!("\"{}GiB\"", serving.budget_gib)),
    );
    set("threads", serving.cores.map(|cores| cores.to_string()));
    set("gpu_models", Some(serving.has_cards.to_string()));
    set("max_streams", Some(serving.streams.to_string()));
    set("queue_length", Some(serving.queue.to_string()));
    set("ctx", Some(serving.context.to_string()));
    *file = format!("{}\n", lines.join("\n")).into();
}

/// Makes the volume of models larger where the model alone would fill half of it.
fn make_room(claim: &mut Value, crew: &Crew) {
    let twice = (2 * crew.node.weights_bytes).div_ceil(super::GIB);
    claim["spec"]["resources"]["requests"]["storage"] =
        format!("{}Gi", twice.max(MODELS_GIB)).into();
}

fn fill_set(set: &mut Value, crew: &Crew, serving: &Serving) {
    let spec = &mut set["spec"];
    spec["replicas"] = crew.replicas.high.into();
    let pod = &mut spec["template"]["spec"];
    let memory = format!("{}Gi", serving.memory_gib);
    let mut requests = Map::new();
    if let Some(cores) = serving.cores {
        requests.insert("cpu".to_owned(), cores.to_string().into());
    }
    requests.insert("memory".to_owned(), memory.clone().into());
    let mut limits = Map::new();
    limits.insert("memory".to_owned(), memory.into());
    let mut env = Vec::new();
    if let Some((count, maker)) = crew.node.cards {
        limits.insert(resource(maker).to_owned(), count.to_string().into());
        if maker == CardMaker::Nvidia {
            pod["tolerations"] = json!([
                { "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" }
            ]);
            env.push(json!({ "name": "NVIDIA_DRIVER_CAPABILITIES", "value": "graphics,utility" }));
        }
    }
    let container = &mut pod["containers"][0];
    if crew.node.cards.is_some() {
        container["image"] = GPU_IMAGE.into();
    }
    if let Some(own) = container["env"].as_array_mut() {
        own.extend(env);
    }
    container["resources"] = json!({ "requests": requests, "limits": limits });
}

/// What the maker's device plugin calls a card.
fn resource(maker: CardMaker) -> &'static str {
    match maker {
        CardMaker::Nvidia => "nvidia.com/gpu",
        CardMaker::Amd => "amd.com/gpu",
        CardMaker::IntelXe => "gpu.intel.com/xe",
        CardMaker::IntelI915 => "gpu.intel.com/i915",
    }
}

fn fill_autoscaler(scaler: &mut Value, crew: &Crew, replicas: &Replicas) {
    let spec = &mut scaler["spec"];
    let (least, most) = bounds(crew);
    spec["minReplicas"] = least.into();
    spec["maxReplicas"] = most.into();
    let metrics = spec["metrics"].as_array_mut();
    let metrics = metrics.expect("the base's autoscaler has metrics. This is a bug.");
    metrics[0]["pods"]["target"]["averageValue"] = crew.users_each.low.to_string().into();
    match replicas.workload.ttft_s {
        // A quantity has no more than three decimals.
        Some(want) => {
            metrics[1]["pods"]["target"]["averageValue"] =
                format!("{}m", (want * 1e3).round()).into()
        }
        None => metrics.truncate(1),
    }
}
