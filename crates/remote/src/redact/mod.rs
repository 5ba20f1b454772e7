//! Taking out of a prompt what an endpoint need not know, and putting it back into the answer.
//!
//! A [`Redactor`] makes of a job one in which `anna@example.com` is `[EMAIL_1]`, and a [`Restorer`] puts the address back
//! wherever the answer has that word. Nothing is looked up anywhere: what has a shape is found by its shape, and names are
//! those of the owner's lists. What stands where nothing can be put in its place, in a tool's name, keeps the whole job
//! here.

mod find;
mod json;
mod names;
mod placeholder;
mod restore;
mod secrets;
mod shapes;
mod view;
mod walk;

pub use placeholder::Placeholders;
pub use restore::Restorer;

use std::collections::BTreeMap;

use troika_job::{EmbedJob, Format, Job};

use self::find::{Found, Known};
use self::names::Names;
use self::secrets::Secrets;
use self::shapes::Shapes;
use self::walk::Editor;
use crate::Public;
use crate::config::{ConfigError, Redact, RedactLists};
use crate::receipts::Redactions;

/// How deep JSON in strings of JSON is read as such.
const DEPTH: usize = 4;

/// Takes out of prompts what has one of the known shapes or stands in a list.
#[derive(Debug)]
pub struct Redactor {
    shapes: Shapes,
    secrets: Secrets,
    names: Names,
}

/// A job without what was taken out of it.
#[derive(Debug)]
pub struct Redacted<T> {
    /// What may be sent.
    pub job: Public<T>,
    /// What puts it back into the answer.
    pub map: Placeholders,
    /// How many values of each kind were taken out.
    pub counts: Redactions,
}

/// What only this module has, and whoever changes a [`Public`] needs.
pub(crate) struct Pen(());

/// Why a job cannot leave without what is to be taken out of it. It stays, then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unredactable {
    /// Nothing can be put in its place there.
    #[error("{} in {place} cannot be taken out without breaking the request, so it does not leave this machine", kind.name())]
    Fixed {
        /// What it is.
        kind: Redact,
        /// Where.
        place: &'static str,
    },
    /// It cannot be read.
    #[error(
        "{0} cannot be searched for what is to be taken out, so the request does not leave this machine"
    )]
    NoText(&'static str),
    /// There is too much of it.
    #[error(
        "there is more to take out than memory to look for it, so the request does not leave this machine"
    )]
    TooMuch,
}

impl Redactor {
    /// # Errors
    /// If a list of names cannot be read, or has what is none.
    pub fn new(lists: &RedactLists) -> Result<Self, ConfigError> {
        Ok(Self {
            shapes: Shapes::new(),
            secrets: Secrets::new(),
            names: Names::new(lists)?,
        })
    }

    /// Takes things of these kinds out of all texts of a job.
    ///
    /// # Errors
    /// If one of them stands where it cannot be taken out. Then the job has to stay.
    pub fn apply(
        &self,
        job: &Public<Job>,
        kinds: &[Redact],
    ) -> Result<Redacted<Job>, Unredactable> {
        let mut without = job.get().clone();
        let mut map = self.redact(kinds, &mut |editor| walk::job(&mut without, editor))?;
        map.in_json = matches!(without.format, Format::JsonObject | Format::JsonSchema(_));
        Ok(redacted(job, kinds, without, map))
    }

    /// The same for texts to embed.
    ///
    /// # Errors
    /// As for a job.
    pub fn apply_embed(
        &self,
        job: &Public<EmbedJob>,
        kinds: &[Redact],
    ) -> Result<Redacted<EmbedJob>, Unredactable> {
        let mut without = job.get().clone();
        let map = self.redact(kinds, &mut |editor| walk::embed_job(&mut without, editor))?;
        Ok(redacted(job, kinds, without, map))
    }

    /// Goes through all texts twice: what is a secret in one place is one in all of them.
    fn redact(
        &self,
        kinds: &[Redact],
        walk: &mut dyn FnMut(&mut dyn Editor) -> Result<(), Unredactable>,
    ) -> Result<Placeholders, Unredactable> {
        let mut collector = Collector {
            redactor: self,
            kinds,
            values: BTreeMap::new(),
            found: false,
            map: Placeholders::default(),
        };
        walk(&mut collector)?;
        if !collector.found {
            return Ok(collector.map);
        }
        let known = Known::new(&collector.values).ok_or(Unredactable::TooMuch)?;
        let mut replacer = Replacer {
            redactor: self,
            kinds,
            known,
            map: collector.map,
        };
        walk(&mut replacer)?;
        Ok(replacer.map)
    }

    /// What is to be taken out of a text that stands alone, as the value of a key.
    fn find_in(
        &self,
        text: &str,
        key: Option<&str>,
        kinds: &[Redact],
        known: Option<&Known>,
    ) -> Vec<Found> {
        let is_secret = |key| self.secrets.is_secret_of(key, text);
        if kinds.contains(&Redact::Secrets) && key.is_some_and(is_secret) {
            return vec![Found::all_of(
                text,
                Redact::Secrets,
                secrets::is_random(text),
            )];
        }
        self.find(text, kinds, known)
    }

    /// Refuses what is to be taken out where nothing can be put in its place.
    fn none_in(
        &self,
        text: &str,
        place: &'static str,
        kinds: &[Redact],
        known: Option<&Known>,
    ) -> Result<(), Unredactable> {
        match self.find(text, kinds, known).first() {
            Some(&Found { kind, .. }) => Err(Unredactable::Fixed { kind, place }),
            None => Ok(()),
        }
    }
}

fn redacted<T>(job: &Public<T>, kinds: &[Redact], without: T, map: Placeholders) -> Redacted<T> {
    Redacted {
        job: job.map(kinds, Pen(()), |_| without),
        counts: map.counts().clone(),
        map,
    }
}

/// Goes into JSON, and shows every text that is none.
fn each_text(
    text: &str,
    key: Option<&str>,
    depth: usize,
    edit: &mut json::Edit<'_>,
) -> Option<String> {
    if depth < DEPTH && json::is_json(text) {
        return json::edited(text, &mut |text, key| each_text(text, key, depth + 1, edit));
    }
    edit(text, key)
}

/// Finds out what there is, and changes nothing.
struct Collector<'a> {
    redactor: &'a Redactor,
    kinds: &'a [Redact],
    /// What is to be taken out wherever it stands.
    values: BTreeMap<String, Redact>,
    /// Whether there is anything at all.
    found: bool,
    map: Placeholders,
}

impl Editor for Collector<'_> {
    fn text(&mut self, text: &mut String, key: Option<&str>) -> Result<(), Unredactable> {
        self.map.avoid(text);
        each_text(text, key, 0, &mut |text, key| {
            self.map.avoid(text);
            for found in self.redactor.find_in(text, key, self.kinds, None) {
                self.found = true;
                if found.spreads {
                    self.values.entry(found.value).or_insert(found.kind);
                }
            }
            None
        });
        Ok(())
    }

    fn speaker(&mut self, name: &mut String) -> Result<(), Unredactable> {
        self.text(name, None)
    }

    fn fixed(&mut self, text: &str, place: &'static str) -> Result<(), Unredactable> {
        self.map.avoid(text);
        self.redactor.none_in(text, place, self.kinds, None)
    }

    fn joined(&mut self, parts: &[&str]) -> Result<(), Unredactable> {
        let whole = parts.concat();
        let seam = |at: &mut usize, part: &&str| {
            *at += part.len();
            Some(*at)
        };
        let seams: Vec<_> = parts.iter().scan(0, seam).collect();
        let found = self.redactor.find(&whole, self.kinds, None);
        let crosses = |it: &&Found| {
            seams
                .iter()
                .any(|at| it.place.start < *at && *at < it.place.end)
        };
        match found.iter().find(crosses) {
            Some(it) => Err(Unredactable::Fixed {
                kind: it.kind,
                place: "a message, over the seam of its parts,",
            }),
            None => Ok(()),
        }
    }
}

/// Puts placeholders where something was found.
struct Replacer<'a> {
    redactor: &'a Redactor,
    kinds: &'a [Redact],
    known: Known,
    map: Placeholders,
}

impl Editor for Replacer<'_> {
    fn text(&mut self, text: &mut String, key: Option<&str>) -> Result<(), Unredactable> {
        let new = each_text(text, key, 0, &mut |text, key| {
            let known = Some(&self.known);
            let found = self.redactor.find_in(text, key, self.kinds, known);
            if found.is_empty() {
                return None;
            }
            let (mut out, mut at) = (String::with_capacity(text.len()), 0);
            for one in found {
                out.push_str(&text[at..one.place.start]);
                out.push_str(&self.map.stand_in(one.kind, &one.value));
                at = one.place.end;
            }
            out.push_str(&text[at..]);
            Some(out)
        });
        if let Some(new) = new {
            *text = new;
        }
        Ok(())
    }

    /// Without the brackets: who speaks does not come back in an answer.
    fn speaker(&mut self, name: &mut String) -> Result<(), Unredactable> {
        let own = name.clone();
        self.text(name, None)?;
        if *name != own {
            name.retain(|c| !matches!(c, '[' | ']'));
        }
        Ok(())
    }

    fn fixed(&mut self, text: &str, place: &'static str) -> Result<(), Unredactable> {
        self.redactor
            .none_in(text, place, self.kinds, Some(&self.known))
    }

    fn joined(&mut self, _: &[&str]) -> Result<(), Unredactable> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
