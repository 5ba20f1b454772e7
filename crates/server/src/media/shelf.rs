//! The folder of ONNX models: which there are, what each is for, and how one is opened.
//!
//! Nothing here is for the threads of connections: files are read, and models opened.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use troika_base::DeviceKind;
use troika_device_npu::exec::{self, Opened, Wish};
use troika_media::audio::{self, Denoiser, VoiceActivity};
use troika_media::card::{self, Card, Picture};
use troika_media::{embed, vision};

use super::locked;
use super::outlet::Lost;
use crate::{ApiError, ErrorKind};

/// For how long a model that was looked at is not opened again to be listed: libraries come and go rarely.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Opens a model's file. Tests have their own.
pub(super) type Opener = Arc<dyn Fn(&Path, &Wish) -> Result<Opened, NpuError> + Send + Sync>;
type NpuError = troika_device_npu::Error;

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Activity,
    Denoise,
    Segment,
    Classify,
    Detect,
    Embed,
}

impl Kind {
    /// Whether pictures are what it is shown.
    pub(super) fn sees(self) -> bool {
        matches!(self, Self::Segment | Self::Classify | Self::Detect)
    }

    /// As in "a model for …".
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Activity => "voice activity",
            Self::Denoise => "noise suppression",
            Self::Segment => "segmentation",
            Self::Classify => "classification",
            Self::Detect => "detection",
            Self::Embed => "embeddings",
        }
    }

    /// How the names of the usual models begin: these are looked at first.
    fn usual(self) -> &'static str {
        match self {
            Self::Activity => "silero_vad",
            Self::Denoise => "gtcrn",
            _ => "selfie_segmentation",
        }
    }
}

/// Where a model is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Where it is best: the NPU if there is one, else the CPU.
    Any,
    /// On this sort of device if it can be.
    Prefer(DeviceKind),
    /// There or nowhere.
    Require(DeviceKind),
}

/// A model that is ready.
pub(super) enum Loaded {
    Voice(VoiceActivity),
    Denoiser(Denoiser),
    Vision(Box<vision::Model>),
    Texts(Box<embed::Model>),
}

impl Loaded {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Voice(_) => Kind::Activity,
            Self::Denoiser(_) => Kind::Denoise,
            Self::Vision(model) => match model.card().job.kind() {
                card::Kind::Segment => Kind::Segment,
                card::Kind::Classify => Kind::Classify,
                card::Kind::Detect => Kind::Detect,
            },
            Self::Texts(_) => Kind::Embed,
        }
    }

    fn card(&self) -> Option<&Card> {
        match self {
            Self::Vision(model) => Some(model.card()),
            Self::Voice(_) | Self::Denoiser(_) | Self::Texts(_) => None,
        }
    }
}

/// What is told of a model.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    /// `null` for models of sound and of texts, whose way of working is built in.
    card: Option<CardFacts>,
    /// The device that runs it, or would.
    pub(super) device: String,
    pub(super) library: String,
    pub(super) lost: Vec<Lost>,
}

#[derive(Clone, Debug, Serialize)]
struct CardFacts {
    /// A file beside the model, or `built in: …`.
    origin: String,
    title: Option<String>,
    picture: Picture,
    /// Names of classes.
    labels: usize,
}

/// A model, open.
pub(super) struct Open {
    pub(super) model: Loaded,
    pub(super) facts: Arc<Facts>,
}

/// A file on the shelf, or the folder of an encoder of texts.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Without `.onnx`.
    pub(super) name: String,
    pub(super) path: PathBuf,
    is_folder: bool,
}

impl Item {
    /// What lies at a path, if that is a model.
    fn at(path: PathBuf) -> Option<Self> {
        let is_folder = path.join("vocab.txt").is_file();
        let is_model = path.extension().is_some_and(|end| end == "onnx") && path.is_file();
        let name = match is_folder {
            true => path.file_name(),
            false => path.file_stem(),
        };
        let name = name?.to_str()?.to_owned();
        (is_folder || is_model).then_some(Self {
            name,
            path,
            is_folder,
        })
    }
}

/// A file's state: another one is another model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Of the card beside it.
    card: Option<SystemTime>,
}

impl Stamp {
    /// That of a model; `None` if it is gone.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        let card = path.with_extension("toml").metadata();
        Some(Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            card: card.ok().and_then(|card| card.modified().ok()),
        })
    }
}

/// A folder of models.
pub(super) struct Shelf {
    directory: PathBuf,
    opener: Opener,
    looked: Mutex<HashMap<(String, Place), Look>>,
}

/// What was seen of a model when it was opened for its facts alone.
struct Look {
    stamp: Stamp,
    at: Instant,
    found: Result<Arc<Facts>, ApiError>,
}

impl Shelf {
    pub(super) fn new(directory: PathBuf, opener: Opener) -> Self {
        Self {
            directory,
            opener,
            looked: Mutex::default(),
        }
    }

    /// Every model, by name. A folder that is not there has none.
    pub(super) fn items(&self) -> Vec<Item> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut items: Vec<_> = paths.filter_map(Item::at).collect();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        items
    }

    /// The model of a name, with or without `.onnx`.
    ///
    /// # Errors
    /// If there is none; those that there are are named.
    pub(super) fn named(&self, name: &str) -> Result<Item, ApiError> {
        let items = self.items();
        let bare = name.strip_suffix(".onnx").unwrap_or(name);
        match items.iter().find(|item| item.name == bare) {
            Some(item) => Ok(item.clone()),
            None => {
                let message = format!("there is no ONNX model `{name}`; {}", there_are(&items));
                Err(ApiError::new(ErrorKind::ModelNotFound, message).at("model"))
            }
        }
    }

    /// The encoder of texts of a name, if there is one.
    pub(super) fn encoder(&self, name: &str) -> Option<Item> {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        let mut items = self.items().into_iter();
        items.find(|item| item.is_folder && item.name == name)
    }

    /// The first model that does what is wanted. `wanted` is for the message.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn first(&self, wanted: Kind) -> Result<Item, ApiError> {
        let mut items = self.items();
        items.sort_by_key(|item| !item.name.starts_with(wanted.usual()));
        let found = items.iter().find(|item| self.kind(item) == Some(wanted));
        found.cloned().ok_or_else(|| {
            let message = format!(
                "there is no model for {} in the folder of ONNX models (`onnx_dir`); {}",
                wanted.what(),
                there_are(&items)
            );
            ApiError::new(ErrorKind::ModelNotFound, message).at("model")
        })
    }

    /// The only model that sees.
    ///
    /// # Errors
    /// If there is none, or there are several and one has to be named.
    pub(super) fn only_one_that_sees(&self) -> Result<Item, ApiError> {
        let mut items = self.items();
        items.retain(|item| self.kind(item).is_some_and(Kind::sees));
        match &*items {
            [item] => Ok(item.clone()),
            [] => {
                let message =
                    "there is no model of pictures in the folder of ONNX models (`onnx_dir`)";
                Err(ApiError::new(ErrorKind::ModelNotFound, message).at("model"))
            }
            several => {
                let message = format!("`model` is missing; {}", there_are(several));
                Err(ApiError::invalid(message).at("model"))
            }
        }
    }

    /// What a model can do; `None` if it can do nothing here.
    fn kind(&self, item: &Item) -> Option<Kind> {
        if item.is_folder {
            return Some(Kind::Embed);
        }
        // Where it will run is another matter; the CPU is always there and never compiles for minutes.
        let facts = self.facts(item, Place::Require(DeviceKind::Cpu), Duration::MAX);
        facts.ok().map(|facts| facts.kind)
    }

    /// What is told of a model. It is opened for that, unless that was done lately.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(super) fn facts(
        &self,
        item: &Item,
        place: Place,
        age_max: Duration,
    ) -> Result<Arc<Facts>, ApiError> {
        let stamp = Stamp::of(&item.path).ok_or_else(|| ApiError::no_model(&item.name))?;
        let key = (item.name.clone(), place);
        if let Some(look) = locked(&self.looked).get(&key)
            && look.stamp == stamp
            && look.at.elapsed() <= age_max
        {
            return look.found.clone();
        }
        let found = self.open(item, place).map(|open| open.facts);
        let look = Look {
            stamp,
            at: Instant::now(),
            found: found.clone(),
        };
        locked(&self.looked).insert(key, look);
        found
    }

    /// As [`Self::facts`], of now or a minute ago.
    pub(super) fn facts_of_late(&self, item: &Item, place: Place) -> Result<Arc<Facts>, ApiError> {
        self.facts(item, place, AGE_MAX)
    }

    /// Opens a model.
    ///
    /// # Errors
    /// If it is no model, nothing says how to use it, or it cannot run there.
    pub(super) fn open(&self, item: &Item, place: Place) -> Result<Open, ApiError> {
        if item.is_folder {
            return self.open_encoder(item, place);
        }
        let opened = wished(place, |wish| (self.opener)(&item.path, wish));
        let opened = opened.map_err(|error| self.not_opened(&item.name, place, &error))?;
        let (device, library) = (
            opened.executor.device().to_owned(),
            opened.executor.library().to_owned(),
        );
        let model = identify(opened.executor, &item.path)
            .map_err(|why| unusable(&item.name, &self.plain(&why)))?;
        let card = model.card().map(|card| CardFacts {
            origin: self.plain(&card.origin),
            title: card.title.clone(),
            picture: card.picture.clone(),
            labels: card.labels.len(),
        });
        let facts = Facts {
            kind: model.kind(),
            card,
            device,
            library,
            lost: self.lost(opened.lost),
        };
        Ok(Open {
            model,
            facts: Arc::new(facts),
        })
    }

    fn open_encoder(&self, item: &Item, place: Place) -> Result<Open, ApiError> {
        let opened = wished(place, |wish| {
            let model = embed::Model::open(&item.path, wish)?;
            let lost = model.lost().to_vec();
            Ok(Opening { model, lost })
        });
        let opened = opened.map_err(|error: embed::Error| match &error {
            embed::Error::Run(error) => self.not_opened(&item.name, place, error),
            error => unusable(&item.name, &self.plain(&error.to_string())),
        })?;
        let facts = Facts {
            kind: Kind::Embed,
            card: None,
            device: opened.model.device().to_owned(),
            library: opened.model.library().to_owned(),
            lost: self.lost(opened.lost),
        };
        Ok(Open {
            model: Loaded::Texts(Box::new(opened.model)),
            facts: Arc::new(facts),
        })
    }

    fn lost(&self, ways: Vec<(String, String)>) -> Vec<Lost> {
        let lost = ways.into_iter().map(|(candidate, why)| Lost {
            candidate,
            why: self.plain(&why),
        });
        lost.collect()
    }

    fn not_opened(&self, name: &str, place: Place, error: &NpuError) -> ApiError {
        let why = self.plain(&error.to_string());
        match (place, error) {
            (_, NpuError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                ApiError::no_model(name)
            }
            (Place::Require(kind), _) => {
                let device = device_name(kind);
                let message = format!("`{name}` cannot run on {device}: {why}");
                ApiError::new(ErrorKind::RequiredDevice, message)
            }
            _ => unusable(name, &why),
        }
    }

    /// A message without the folder's place on this machine.
    pub(super) fn plain(&self, message: &str) -> String {
        let prefix = self.directory.join("x").display().to_string();
        message.replace(&prefix[..prefix.len() - 1], "")
    }
}

/// An encoder of texts, and the ways that would have been better.
struct Opening {
    model: embed::Model,
    lost: Vec<(String, String)>,
}

/// What opens with ways lost on the way.
trait Losing {
    fn lost_mut(&mut self) -> &mut Vec<(String, String)>;
}

impl Losing for Opened {
    fn lost_mut(&mut self) -> &mut Vec<(String, String)> {
        &mut self.lost
    }
}

impl Losing for Opening {
    fn lost_mut(&mut self) -> &mut Vec<(String, String)> {
        &mut self.lost
    }
}

/// Opens something where it is wished.
fn wished<T: Losing, E: std::fmt::Display>(
    place: Place,
    open: impl Fn(&Wish) -> Result<T, E>,
) -> Result<T, E> {
    let on = |device| {
        open(&Wish {
            device,
            library: None,
            // These models are small: more threads cost more than they bring.
            threads: NonZero::new(1),
        })
    };
    match place {
        // It comes first anyhow.
        Place::Any | Place::Prefer(DeviceKind::Npu) => on(None),
        Place::Require(kind) => on(Some(kind)),
        Place::Prefer(kind) => on(Some(kind)).or_else(|error| {
            let mut opened = on(None)?;
            let preferred = (device_name(kind).to_owned(), error.to_string());
            opened.lost_mut().insert(0, preferred);
            Ok(opened)
        }),
    }
}

/// Finds out what a model is for: by the card beside it, by its ports, by the cards built in.
fn identify(executor: Box<dyn exec::Executor>, path: &Path) -> Result<Loaded, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let kind = match path.with_extension("toml").is_file() {
        true => None,
        false => audio::Kind::of(&*executor),
    };
    match kind {
        Some(audio::Kind::SileroVad) => VoiceActivity::new(executor)
            .map(Loaded::Voice)
            .map_err(|error| text(&error)),
        Some(audio::Kind::Gtcrn) => Denoiser::new(executor)
            .map(Loaded::Denoiser)
            .map_err(|error| text(&error)),
        None => {
            let card = Card::of_model(path, executor.inputs(), executor.outputs());
            let card = card.map_err(|error| text(&error))?;
            let model = vision::Model::open(executor, card).map_err(|error| text(&error))?;
            Ok(Loaded::Vision(Box::new(model)))
        }
    }
}

fn unusable(name: &str, why: &str) -> ApiError {
    ApiError::unsupported(format!("the model `{name}` cannot be used: {why}")).at("model")
}

/// `there are a, b`.
fn there_are(items: &[Item]) -> String {
    match items {
        [] => "there are none: put .onnx files into the folder that the setting `onnx_dir` names"
            .to_owned(),
        items => {
            let names: Vec<_> = items.iter().map(|item| &*item.name).collect();
            format!("there are {}", names.join(", "))
        }
    }
}

/// As requests name it.
pub(super) fn device_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Npu => "npu0",
        DeviceKind::Gpu => "gpu0",
        DeviceKind::Cpu => "cpu0",
        DeviceKind::Accelerator => "acc0",
    }
}
