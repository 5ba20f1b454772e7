//! The arguments of the Ray Serve application in `deploy/ray`.

use serde_json::json;

use super::{Serving, bounds, kubernetes};
use crate::plan::replicas::{Crew, Replicas};

/// Where every node has the keys, and its models and caches; as in the example of `deploy/ray`.
const KEYS_FILE: &str = "/etc/troika/keys.toml";
const HOME: &str = "/var/lib/troika";

/// Where requests come in: on the head node, at Serve's usual port.
const PORT: u16 = 8000;

pub(super) fn configuration(crew: &Crew, replicas: &Replicas) -> String {
    let serving = Serving::of(crew, replicas);
    let workload = &replicas.workload;
    let (least, most) = bounds(crew);
    let mut flags = vec![
        "--max-streams".to_owned(),
        serving.streams.to_string(),
        "--queue-length".to_owned(),
        serving.queue.to_string(),
        "--ctx".to_owned(),
        serving.context.to_string(),
        "--memory-budget".to_owned(),
        format!("{}GiB", serving.budget_gib),
        "--keep-alive".to_owned(),
        "forever".to_owned(),
        format!("--gpu-models={}", serving.has_cards),
        "--npu-models=false".to_owned(),
    ];
    if let Some(cores) = serving.cores {
        flags.extend(["--threads".to_owned(), cores.to_string()]);
    }
    let mut args = json!({
        "serve_args": flags,
        "env": { "TROIKA_HOME": HOME },
        "warm": [workload.model],
        "keys_file": KEYS_FILE,
        "min_replicas": least,
        "max_replicas": most,
        "cpus": serving.cores.unwrap_or(1),
        "gpus": crew.node.cards.map_or(0, |(count, _)| count),
        "target_ongoing": crew.users_each.low,
        "target_ttft": workload.ttft_s,
        // What the server takes, running and waiting.
        "max_ongoing": serving.streams + serving.queue,
    });
    // Two programs on one processor would each take all of it.
    if crew.node.computes_in_ram {
        args["replicas_per_node"] = 1.into();
    }
    kubernetes::text(&json!({
        "proxy_location": "HeadOnly",
        "http_options": { "host": "0.0.0.0", "port": PORT },
        "applications": [{
            "name": "troika",
            "route_prefix": "/",
            "import_path": "troika_ray.app:build",
            "args": args,
        }],
    }))
}
