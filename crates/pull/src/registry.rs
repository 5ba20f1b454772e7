//! Ollama's registry: a manifest names the layers of a model by their digests.

use http::Uri;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use troika_base::ExtraSampling;
use troika_library::{Digest, Manifest, Parameters, Turn};

use crate::Error;
use crate::client::{Client, Given};
use crate::error::shortened;
use crate::found::{Found, FoundFile};
use crate::sites::host;

const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// Texts beside the weights are no longer.
const LAYER_BYTES_MAX: u64 = 1 << 20;

const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json, \
                             application/vnd.oci.image.manifest.v1+json";
const LAYER_TYPE: &str = "application/vnd.ollama.image.";

#[derive(Debug, Deserialize)]
struct Layers {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

/// Where the blobs of a model are.
struct Place<'a> {
    client: &'a Client,
    /// `https://HOST/v2/NAMESPACE/NAME`.
    base: String,
}

/// Finds a model of the registry, with the settings that come with it.
///
/// # Errors
/// If there is none of this name, or it is made of parts that are not read here.
pub(crate) async fn find(
    client: &Client,
    (namespace, name): (&str, &str),
    tag: &str,
) -> Result<Found, Error> {
    let place = Place {
        client,
        base: format!("{}/v2/{namespace}/{name}", client.sites.registry),
    };
    let uri = place.address(&format!("manifests/{tag}"))?;
    let (text, given) = client.text(&uri, MANIFEST_TYPE, MANIFEST_BYTES_MAX).await?;
    given.refuse_web_page()?;
    let layers: Layers = serde_json::from_slice(&text)
        .map_err(|error| nonsense(&given, format!("the manifest is none: {error}")))?;
    let what = format!("{name}:{tag}");
    let weights = weights(&layers, &what)?;
    let digest = digest(weights, &given)?;
    let mut found = Found {
        name: called(namespace, name, tag),
        file: FoundFile {
            uri: place.address(&format!("blobs/{digest}"))?,
            name: what,
            bytes: Some(weights.size),
            digest: Some(digest),
        },
        ..Found::default()
    };
    let mut manifest = Manifest::default();
    for layer in &layers.layers {
        let Some(kind) = layer.media_type.strip_prefix(LAYER_TYPE) else {
            continue;
        };
        place
            .add(kind, layer, &mut manifest, &mut found.notes, &given)
            .await?;
    }
    found.licence = manifest.license.as_deref().and_then(first_line);
    found.manifest = Some(manifest);
    Ok(found)
}

impl Place<'_> {
    fn address(&self, below: &str) -> Result<Uri, Error> {
        let address = format!("{}/{below}", self.base);
        address.parse().map_err(|_| Error::BadSetting {
            setting: "OLLAMA_REGISTRY",
            why: format!("{:?} is no address", shortened(&address)),
        })
    }

    /// Adds what a layer says to a model's settings.
    async fn add(
        &self,
        kind: &str,
        layer: &Layer,
        manifest: &mut Manifest,
        notes: &mut Vec<String>,
        given: &Given,
    ) -> Result<(), Error> {
        match kind {
            "system" => manifest.system = Some(self.text(layer, given).await?),
            "license" => {
                let text = self.text(layer, given).await?;
                let before = manifest.license.take();
                manifest.license =
                    Some(before.map_or(text.clone(), |it| format!("{it}\n\n{text}")));
            }
            "params" => {
                let text = self.text(layer, given).await?;
                let known: Map<String, Value> = serde_json::from_str(&text)
                    .map_err(|error| nonsense(given, format!("its parameters: {error}")))?;
                manifest.parameters = parameters(&known, notes);
            }
            "messages" => {
                let text = self.text(layer, given).await?;
                let turns: Vec<Turn> = serde_json::from_str(&text)
                    .map_err(|error| nonsense(given, format!("its messages: {error}")))?;
                manifest.messages = turns;
            }
            "template" => notes.push(
                "its chat template is in Ollama's own language; the one in the file is used"
                    .to_owned(),
            ),
            "projector" => notes.push(
                "what sees pictures for it is a file beside it, and is not pulled".to_owned(),
            ),
            _ => {}
        }
        Ok(())
    }

    /// A layer that is text, whose digest is right.
    async fn text(&self, layer: &Layer, given: &Given) -> Result<String, Error> {
        let digest = digest(layer, given)?;
        if layer.size > LAYER_BYTES_MAX {
            return Err(nonsense(given, format!("a text of {} bytes", layer.size)));
        }
        let uri = self.address(&format!("blobs/{digest}"))?;
        let bytes_max = LAYER_BYTES_MAX as usize;
        let (bytes, from) = self.client.text(&uri, "*/*", bytes_max).await?;
        let have = Digest::of(&Sha256::digest(&bytes));
        if have != digest {
            return Err(Error::WrongDigest {
                want: digest.to_string(),
                have: have.to_string(),
            });
        }
        String::from_utf8(bytes).map_err(|_| nonsense(&from, "a text is none".to_owned()))
    }
}

/// The one layer with weights.
fn weights<'l>(layers: &'l Layers, what: &str) -> Result<&'l Layer, Error> {
    let of = |kind: &str| {
        let media_type = format!("{LAYER_TYPE}{kind}");
        let layers = layers.layers.iter();
        layers
            .filter(|it| it.media_type == media_type)
            .collect::<Vec<_>>()
    };
    let fail = |why: &str| Error::Choice {
        what: what.to_owned(),
        why: why.to_owned(),
    };
    if !of("adapter").is_empty() {
        return Err(fail(
            "it needs an adapter, which is not pulled with it; pull its base, upload the adapter and create the model of both",
        ));
    }
    match *of("model") {
        [one] => Ok(one),
        [] => Err(fail(
            "it has no weights in GGUF form: it may run at its maker's only",
        )),
        _ => Err(fail(
            "it is split into several files, which cannot be opened here",
        )),
    }
}

fn digest(layer: &Layer, given: &Given) -> Result<Digest, Error> {
    let digest = layer.digest.parse();
    digest.map_err(|_| nonsense(given, "a digest is none".to_owned()))
}

/// As its users call it: without what goes without saying.
fn called(namespace: &str, name: &str, tag: &str) -> String {
    let tag = if tag == "latest" {
        String::new()
    } else {
        format!(":{tag}")
    };
    match namespace {
        "library" => format!("{name}{tag}"),
        _ => format!("{namespace}/{name}{tag}"),
    }
}

/// Defaults of jobs; what is not known here is named in a note.
fn parameters(known: &Map<String, Value>, notes: &mut Vec<String>) -> Parameters {
    let mut out = Parameters::default();
    let mut unknown = Vec::new();
    let mut extra = Map::new();
    for (key, value) in known {
        let float = || value.as_f64().map(|it| it as f32);
        let whole = || value.as_u64();
        let small = || whole().and_then(|it| u32::try_from(it).ok());
        let size = || whole().and_then(|it| usize::try_from(it).ok());
        match &**key {
            "temperature" => out.temperature = float(),
            "top_k" => out.top_k = small(),
            "top_p" => out.top_p = float(),
            "min_p" => out.min_p = float(),
            "repeat_penalty" => out.repeat_penalty = float(),
            "repeat_last_n" => out.repeat_last_n = small(),
            "presence_penalty" => out.presence_penalty = float(),
            "frequency_penalty" => out.frequency_penalty = float(),
            "seed" => out.seed = whole(),
            "num_predict" => out.max_tokens = size(),
            "num_ctx" => out.n_ctx = size().filter(|&it| it > 0),
            "stop" => {
                let texts = value.as_array().into_iter().flatten();
                let texts = texts.chain(value.is_string().then_some(value));
                let stops = texts.filter_map(|it| it.as_str().filter(|it| !it.is_empty()));
                out.stop = stops.map(str::to_owned).collect();
            }
            name if ExtraSampling::NAMES.contains(&name) => {
                extra.insert(key.clone(), value.clone());
            }
            _ => unknown.push(shortened(key)),
        }
    }
    match serde_json::from_value(Value::Object(extra)) {
        Ok(extra) => out.extra = extra,
        Err(error) => notes.push(format!("sampling that cannot be read: {error}")),
    }
    if !unknown.is_empty() {
        notes.push(format!(
            "parameters without a meaning here: {}",
            unknown.join(", ")
        ));
    }
    out
}

/// What a licence's text begins with, which is its name.
fn first_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(shortened)
}

fn nonsense(given: &Given, why: String) -> Error {
    Error::Nonsense {
        host: host(&given.from),
        why,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_those_of_a_manifest() {
        let mut notes = Vec::new();
        let Value::Object(known) = json!({
            "temperature": 0.6, "top_k": 20, "stop": ["<a>", ""], "num_ctx": 4096, "seed": 7,
            "num_predict": -1, "mirostat": 2, "num_gpu": 9,
        }) else {
            panic!("is an object");
        };
        let parameters = parameters(&known, &mut notes);
        assert_eq!(
            (parameters.temperature, parameters.top_k),
            (Some(0.6), Some(20))
        );
        assert_eq!(
            (parameters.n_ctx, parameters.max_tokens),
            (Some(4096), None)
        );
        assert_eq!(
            (&*parameters.stop, parameters.seed),
            (&["<a>".to_owned()][..], Some(7))
        );
        assert_eq!(parameters.extra.mirostat, Some(2));
        assert!(notes[0].ends_with("num_gpu"), "{notes:?}");
    }

    #[test]
    fn a_model_is_one_file() {
        let layers = |kinds: &[&str]| Layers {
            layers: kinds
                .iter()
                .map(|kind| Layer {
                    media_type: format!("{LAYER_TYPE}{kind}"),
                    digest: String::new(),
                    size: 1,
                })
                .collect(),
        };
        assert!(weights(&layers(&["license", "model"]), "x").is_ok());
        for kinds in [&["license"][..], &["model", "model"], &["model", "adapter"]] {
            assert!(weights(&layers(kinds), "x").is_err(), "{kinds:?}");
        }
        assert_eq!(called("library", "a", "latest"), "a");
        assert_eq!(called("b", "a", "1b"), "b/a:1b");
    }
}
