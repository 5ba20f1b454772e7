//! `/api/tags`, `/api/ps`, `/api/show`, `/api/copy`, `/api/delete`: the models themselves.

use std::fmt::Write as _;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use troika_library::{Lora, Manifest, Parameters};

use super::wire::{details, expires, tagged, time};
use super::{Handled, about, required};
use crate::app::App;
use crate::wire::parse;
use crate::{ApiError, ModelDetails};

/// A request about one model. Older clients say `name`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    model: Option<String>,
    name: Option<String>,
    verbose: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct CopyRequest {
    source: String,
    destination: String,
}

/// `GET /api/tags`: the models that are installed.
pub(super) async fn tags(State(app): State<App>) -> Handled {
    let models = app.backend.models().await?;
    let models = models.iter().map(|info| {
        let name = tagged(&info.name);
        json!({
            "name": name,
            "model": name,
            "modified_at": time(info.modified),
            "size": info.file_bytes,
            "digest": info.digest,
            "details": details(info, ""),
        })
    });
    Ok(Json(json!({ "models": models.collect::<Vec<_>>() })).into_response())
}

/// `GET /api/ps`: the models that are loaded.
pub(super) async fn ps(State(app): State<App>) -> Handled {
    let models = app.backend.loaded();
    let models = models.iter().map(|model| {
        let name = tagged(&model.info.name);
        json!({
            "name": name,
            "model": name,
            "size": model.memory_bytes,
            "digest": model.info.digest,
            "details": details(&model.info, ""),
            "expires_at": expires(model),
            "size_vram": 0,
            "context_length": model.n_ctx,
        })
    });
    Ok(Json(json!({ "models": models.collect::<Vec<_>>() })).into_response())
}

/// `POST /api/show`: all that is known of a model.
pub(super) async fn show(State(app): State<App>, body: Bytes) -> Handled {
    let request: Named = parse(&body)?;
    let model = required(request.model.or(request.name))?;
    let shown = app.backend.show(model.clone()).await;
    let shown = shown.map_err(|error| about(&model, error))?;
    let manifest = &shown.manifest;
    let mut body = json!({
        "modelfile": modelfile(&shown),
        "parameters": parameter_lines(&manifest.parameters, |name, value| format!("{name:<30} {value}")),
        "template": shown.template.as_deref().unwrap_or_default(),
        "details": details(&shown.info, &manifest.from),
        "model_info": model_info(&shown),
        "capabilities": capabilities(&shown),
        "modified_at": time(shown.info.modified),
    });
    for (name, text) in [("license", &manifest.license), ("system", &manifest.system)] {
        if let Some(text) = text {
            body[name] = (&**text).into();
        }
    }
    if !manifest.messages.is_empty() {
        body["messages"] = json!(manifest.messages);
    }
    if !manifest.adapters.is_empty() {
        body["adapters"] = json!(manifest.adapters);
    }
    if request.verbose == Some(true) {
        let tensors = shown.tensors.iter();
        let tensor = |(name, format, shape): &(String, String, Vec<u64>)| json!({ "name": name, "type": format, "shape": shape });
        body["tensors"] = tensors.map(tensor).collect();
    }
    Ok(Json(body).into_response())
}

/// `POST /api/copy`: a second name.
pub(super) async fn copy(State(app): State<App>, body: Bytes) -> Handled {
    let CopyRequest {
        source,
        destination,
    } = parse(&body)?;
    for (name, field) in [(&source, "source"), (&destination, "destination")] {
        if name.is_empty() {
            return Err(ApiError::invalid("name a model").at(field).into());
        }
    }
    let copied = app.backend.copy(source.clone(), destination).await;
    copied.map_err(|error| about(&source, error))?;
    Ok(StatusCode::OK.into_response())
}

/// `DELETE /api/delete`.
pub(super) async fn delete(State(app): State<App>, body: Bytes) -> Handled {
    let request: Named = parse(&body)?;
    let model = required(request.model.or(request.name))?;
    let deleted = app.backend.delete(model.clone()).await;
    deleted.map_err(|error| about(&model, error))?;
    Ok(StatusCode::OK.into_response())
}

/// The file's metadata, with the count of weights where clients look for it.
fn model_info(shown: &ModelDetails) -> Map<String, Value> {
    let mut info = shown.metadata.clone();
    let count = "general.parameter_count";
    info.insert(count.to_owned(), shown.info.n_parameter.into());
    // It has its own place, and is long.
    info.remove("tokenizer.chat_template");
    info
}

fn capabilities(shown: &ModelDetails) -> Vec<&'static str> {
    let pools = format!("{}.pooling_type", shown.info.architecture);
    let first = if shown.metadata.contains_key(&pools) {
        "embedding"
    } else {
        "completion"
    };
    let known = shown.info.capabilities;
    let more = [(known.tools, "tools"), (known.thinking, "thinking")];
    let more = more
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name));
    std::iter::once(first).chain(more).collect()
}

/// The settings as the file that would create the model.
fn modelfile(shown: &ModelDetails) -> String {
    let Manifest {
        from,
        adapters,
        system,
        messages,
        license,
        parameters,
        template: _,
    } = &shown.manifest;
    let from = if from.is_empty() {
        &shown.info.name
    } else {
        from
    };
    let mut file = format!("FROM {from}\n");
    // Text has no limit, so writing cannot fail.
    for Lora { from, scale } in adapters {
        let _ = match scale {
            1.0 => writeln!(file, "ADAPTER {from}"),
            // Its lines know no scale.
            _ => writeln!(file, "# times {scale}\nADAPTER {from}"),
        };
    }
    let mut block = |name: &str, text: &Option<String>| {
        if let Some(text) = text {
            let _ = writeln!(file, "{name} \"\"\"{text}\"\"\"");
        }
    };
    block("TEMPLATE", &shown.template);
    block("SYSTEM", system);
    let parameters = parameter_lines(parameters, |name, value| {
        format!("PARAMETER {name} {value}")
    });
    if !parameters.is_empty() {
        file.push_str(&parameters);
        file.push('\n');
    }
    for turn in messages {
        let _ = writeln!(file, "MESSAGE {} \"\"\"{}\"\"\"", turn.role, turn.content);
    }
    if let Some(license) = license {
        let _ = writeln!(file, "LICENSE \"\"\"{license}\"\"\"");
    }
    file
}

/// A line for each parameter that is set, under this interface's names.
fn parameter_lines(parameters: &Parameters, line: impl Fn(&str, &str) -> String) -> String {
    let float = |x: Option<f32>| x.map(|x| x.to_string());
    let Parameters {
        temperature,
        top_k,
        top_p,
        min_p,
        repeat_penalty,
        repeat_last_n,
        presence_penalty,
        frequency_penalty,
        seed,
        extra,
        max_tokens,
        n_ctx,
        stop,
    } = parameters;
    let mut lines = Vec::new();
    for (name, value) in [
        ("temperature", float(*temperature)),
        ("top_k", top_k.map(|n| n.to_string())),
        ("top_p", float(*top_p)),
        ("min_p", float(*min_p)),
        ("repeat_penalty", float(*repeat_penalty)),
        ("repeat_last_n", repeat_last_n.map(|n| n.to_string())),
        ("presence_penalty", float(*presence_penalty)),
        ("frequency_penalty", float(*frequency_penalty)),
        ("seed", seed.map(|n| n.to_string())),
        ("num_predict", max_tokens.map(|n| n.to_string())),
        ("num_ctx", n_ctx.map(|n| n.to_string())),
    ] {
        lines.extend(value.map(|value| line(name, &value)));
    }
    let extra = serde_json::to_value(extra).unwrap_or_default();
    for (name, value) in extra.as_object().into_iter().flatten() {
        match value.as_array() {
            Some(list) => lines.extend(list.iter().map(|value| line(name, &value.to_string()))),
            None => lines.push(line(name, &value.to_string())),
        }
    }
    lines.extend(stop.iter().map(|stop| line("stop", &format!("{stop:?}"))));
    lines.join("\n")
}
