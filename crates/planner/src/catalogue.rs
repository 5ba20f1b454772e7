//! The catalogue: facts about chips, models, prices and software that others publish, each with its source.
//!
//! The rows are data, in `catalogue/*.toml`; `docs/formats/catalogue.md` says what they mean. Nothing is computed here but
//! sums that a row's own figures give: estimates are made elsewhere, from these rows. Start at [`Catalogue`].

mod chip;
mod model;
mod profile;
mod shape;
mod source;
mod support;
mod trade;
mod typical;

mod check;
mod files;
mod names;
mod user;

#[cfg(test)]
mod tests;

pub use check::{Defect, validate};
pub use chip::{
    Basis, Block, BlockBandwidth, Chip, Class, Format, Kind, Limits, Memory, Rate, Unit,
};
pub use model::{Experts, Latent, Linear, Model, Task, Window};
pub use names::{split_count, split_quantization, strict};
pub(crate) use profile::{GB_SOLD, class_name, joined_gbs};
pub use profile::{blocks, link_gbs, profile};
pub use shape::shape;
pub use source::{Date, Source};
pub use support::{Job, Jobs, State, Support, Thresholds};
pub use trade::{
    Billing, Condition, Country, Destination, Egress, Offer, Part, PartKind, Price, Tier,
};
pub use user::{AddError, add, chip_text};

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde::Deserialize as _;

use self::files::File;

/// How many names are offered when one is unknown.
const CLOSEST: usize = 4;
/// What is less alike than this is not offered.
const LIKENESS_MIN: f64 = 0.35;

/// The rows, and the ways to find them.
#[derive(Clone, Debug)]
pub struct Catalogue {
    chips: Table<Chip>,
    models: Table<Model>,
    offers: Table<Offer>,
    egress: Table<Egress>,
    prices: Table<Price>,
    parts: Table<Part>,
    countries: Table<Country>,
    support: Table<Support>,
    thresholds: toml::Table,
    decided: Thresholds,
    chip_names: Names,
    model_names: Names,
    /// Prices by the strict name of what they are for.
    price_names: HashMap<String, Vec<usize>>,
}

/// Rows of a kind, each with the file it stands in.
#[derive(Clone, Debug)]
struct Table<T> {
    rows: Vec<T>,
    files: Vec<Arc<str>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            files: Vec::new(),
        }
    }
}

impl<T: Identity> Table<T> {
    /// Adds the rows of a file, or lays them `over` those of the files before: the same identity is replaced.
    fn extend(&mut self, rows: Vec<T>, file: &Arc<str>, over: bool) {
        let earlier = self.rows.iter().filter(|_| over);
        let earlier: HashMap<String, usize> = earlier.map(T::identity).zip(0..).collect();
        for row in rows {
            match earlier.get(&row.identity()) {
                Some(&at) => {
                    self.rows[at] = row;
                    self.files[at] = Arc::clone(file);
                }
                None => {
                    self.rows.push(row);
                    self.files.push(Arc::clone(file));
                }
            }
        }
    }

    /// The rows, each with its file.
    fn with_files(&self) -> impl Iterator<Item = (&str, &T)> {
        self.files.iter().map(|file| &**file).zip(&self.rows)
    }
}

/// Rows by their names: strict ones, which are unique, and loose ones, which several rows may share.
#[derive(Clone, Debug, Default)]
struct Names {
    strict: HashMap<String, usize>,
    loose: HashMap<String, Vec<usize>>,
}

impl Names {
    fn add(&mut self, row: usize, name: &str, loose: String) {
        self.strict.entry(strict(name)).or_insert(row);
        let rows = self.loose.entry(loose).or_default();
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
}

/// A row that was asked for by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match<'c, T> {
    /// The row.
    pub row: &'c T,
    /// The memory that the name asked for told, in GB; the row agrees with it.
    pub memory_gb: Option<f64>,
}

/// A name that no row of the catalogue has, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// `chip`, `model`, `country`.
    pub what: &'static str,
    /// The name that was asked for.
    pub name: String,
    /// It fits each of `closest`.
    pub is_ambiguous: bool,
    /// Names that may have been meant, the likeliest first.
    pub closest: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, name, .. } = self;
        let closest = self.closest.join(", ");
        match (self.is_ambiguous, closest.is_empty()) {
            (true, _) => {
                return write!(
                    f,
                    "more than one {what} goes by {name:?}: {closest}; say which"
                );
            }
            (false, false) => write!(
                f,
                "the catalogue has no {what} {name:?}; closest: {closest}"
            )?,
            (false, true) => write!(
                f,
                "the catalogue has no {what} {name:?}, nor anything like it"
            )?,
        }
        match *what {
            "chip" => f.write_str(
                "; `troika catalogue add --name … --memory … --bandwidth …` describes a new one",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Unknown {}

/// A file of the user's that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not have the form of a catalogue's file.
    #[error("{path} is no file of a catalogue")]
    Form {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

impl Catalogue {
    /// The rows built into the program, parsed when first asked for.
    pub fn builtin() -> &'static Self {
        static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(|| {
            let files = files::BUILT_IN.iter().map(|&(path, text)| {
                let file = toml::from_str(text)
                    .unwrap_or_else(|error| panic!("catalogue/{path}: {error}. This is a bug."));
                (Arc::from(path), file)
            });
            Catalogue::of_files(files).unwrap_or_else(|error| {
                panic!("catalogue/thresholds.toml: {error}. This is a bug.")
            })
        });
        &BUILT_IN
    }

    /// The rows built in, and over them those of every `*.toml` in a directory, in the order of their names.
    ///
    /// A directory that is not there has no rows.
    ///
    /// # Errors
    /// If a file cannot be read, or has not the form of a catalogue's file. Whether its figures are plausible,
    /// [`validate`] says.
    pub fn with_user_rows(directory: &Path) -> Result<Self, Error> {
        let mut catalogue = Self::with_files(user::files(directory)?.iter())?;
        catalogue.index();
        Ok(catalogue)
    }

    /// The rows built in and those of some files over them, not yet findable by name.
    fn with_files<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> Result<Self, Error> {
        let mut catalogue = Self::builtin().clone();
        for path in paths {
            let form = |source| Error::Form {
                path: path.clone(),
                source: Box::new(source),
            };
            let file = toml::from_str(&user::read(path)?).map_err(form)?;
            let name = path.to_string_lossy().as_ref().into();
            catalogue.extend(file, &name, true).map_err(form)?;
        }
        Ok(catalogue)
    }

    /// A catalogue of some files, none of which replaces another's rows. Thresholds have to be among them.
    fn of_files(files: impl Iterator<Item = (Arc<str>, File)>) -> Result<Self, toml::de::Error> {
        let files: Vec<_> = files.collect();
        let mut thresholds = toml::Table::new();
        for (_, file) in &files {
            thresholds.extend(file.thresholds.clone());
        }
        let mut catalogue = Self {
            chips: Table::default(),
            models: Table::default(),
            offers: Table::default(),
            egress: Table::default(),
            prices: Table::default(),
            parts: Table::default(),
            countries: Table::default(),
            support: Table::default(),
            decided: Thresholds::deserialize(thresholds.clone())?,
            thresholds,
            chip_names: Names::default(),
            model_names: Names::default(),
            price_names: HashMap::new(),
        };
        for (name, file) in files {
            catalogue.extend(file, &name, false)?;
        }
        catalogue.index();
        Ok(catalogue)
    }

    /// Some rows alone, with the thresholds that are built in.
    #[cfg(test)]
    pub(crate) fn of_rows(rows: &str) -> Self {
        let mut file: File = toml::from_str(rows).expect("has the form of a catalogue's file");
        file.thresholds = Self::builtin().thresholds.clone();
        Self::of_files(std::iter::once((Arc::from("rows.toml"), file))).expect("has thresholds")
    }

    /// Adds the rows of a file, or lays them over those that are there.
    fn extend(&mut self, file: File, name: &Arc<str>, over: bool) -> Result<(), toml::de::Error> {
        self.chips.extend(file.chip, name, over);
        self.models.extend(file.model, name, over);
        self.offers.extend(file.offer, name, over);
        self.egress.extend(file.egress, name, over);
        self.prices.extend(file.price, name, over);
        self.parts.extend(file.part, name, over);
        self.countries.extend(file.country, name, over);
        self.support.extend(file.support, name, over);
        self.thresholds.extend(file.thresholds);
        self.decided = Thresholds::deserialize(self.thresholds.clone())?;
        Ok(())
    }

    /// Makes the names findable.
    fn index(&mut self) {
        self.chip_names = Names::default();
        for (at, chip) in self.chips.rows.iter().enumerate() {
            for name in std::iter::once(&chip.name).chain(&chip.aliases) {
                self.chip_names.add(at, name, names::chip_name(name).loose);
            }
        }
        self.model_names = Names::default();
        for (at, model) in self.models.rows.iter().enumerate() {
            for name in std::iter::once(&model.name).chain(&model.aliases) {
                self.model_names.add(at, name, names::model_key(name));
            }
        }
        self.price_names = HashMap::new();
        for (at, price) in self.prices.rows.iter().enumerate() {
            let rows = self.price_names.entry(strict(&price.item)).or_default();
            rows.push(at);
        }
    }

    /// The chips, in the order of the files.
    pub fn chips(&self) -> &[Chip] {
        &self.chips.rows
    }

    /// The models.
    pub fn models(&self) -> &[Model] {
        &self.models.rows
    }

    /// What can be rented.
    pub fn offers(&self) -> &[Offer] {
        &self.offers.rows
    }

    /// What data out costs.
    pub fn egress(&self) -> &[Egress] {
        &self.egress.rows
    }

    /// What chips cost.
    pub fn prices(&self) -> &[Price] {
        &self.prices.rows
    }

    /// The other parts of a machine, and whole machines.
    pub fn parts(&self) -> &[Part] {
        &self.parts.rows
    }

    /// What electricity costs.
    pub fn countries(&self) -> &[Country] {
        &self.countries.rows
    }

    /// What software runs.
    pub fn support(&self) -> &[Support] {
        &self.support.rows
    }

    /// The numbers that decide.
    pub fn thresholds(&self) -> &Thresholds {
        &self.decided
    }

    /// The chip of a name, as people and drivers write it.
    ///
    /// # Errors
    /// [`Unknown`] if there is none, several fit, or the memory that the name tells is not what the row has.
    pub fn chip(&self, name: &str) -> Result<Match<'_, Chip>, Unknown> {
        let unknown = |is_ambiguous, closest| Unknown {
            what: "chip",
            name: name.trim().to_owned(),
            is_ambiguous,
            closest,
        };
        let asked = names::chip_name(name);
        if let Some(&at) = self.chip_names.strict.get(&strict(name)) {
            return Ok(Match {
                row: &self.chips.rows[at],
                memory_gb: asked.memory_gb,
            });
        }
        let sharing = self.chip_names.loose.get(&asked.loose);
        let agrees = |chip: &&Chip| asked.memory_gb.is_none_or(|gb| chip.has_memory(gb));
        let rows = sharing
            .into_iter()
            .flatten()
            .map(|&at| &self.chips.rows[at]);
        let rows: Vec<_> = rows.filter(agrees).collect();
        match *rows.as_slice() {
            [row] => Ok(Match {
                row,
                memory_gb: asked.memory_gb,
            }),
            [] => Err(unknown(false, self.closest_chips(name, CLOSEST))),
            _ => Err(unknown(
                true,
                rows.iter().map(|row| row.name.clone()).collect(),
            )),
        }
    }

    /// The model of a name: a file's, a hub's, a tag, what people say. A quantization in it is passed over.
    ///
    /// # Errors
    /// [`Unknown`] if there is none or several fit.
    pub fn model(&self, name: &str) -> Result<Match<'_, Model>, Unknown> {
        let (plain, _) = split_quantization(name);
        let names = &self.model_names;
        let found = [name, plain]
            .into_iter()
            .find_map(|name| names.strict.get(&strict(name)));
        let rows = match found {
            Some(at) => std::slice::from_ref(at),
            None => names
                .loose
                .get(&names::model_key(plain))
                .map_or(&[][..], Vec::as_slice),
        };
        let unknown = |is_ambiguous, closest| Unknown {
            what: "model",
            name: name.trim().to_owned(),
            is_ambiguous,
            closest,
        };
        match *rows {
            [at] => Ok(Match {
                row: &self.models.rows[at],
                memory_gb: None,
            }),
            [] => Err(unknown(false, self.closest_models(plain, CLOSEST))),
            _ => {
                let rows = rows.iter().map(|&at| self.models.rows[at].name.clone());
                Err(unknown(true, rows.collect()))
            }
        }
    }

    /// The country or region of a code or name.
    ///
    /// # Errors
    /// [`Unknown`] if there is none.
    pub fn country(&self, name: &str) -> Result<&Country, Unknown> {
        let key = strict(name);
        let rows = &self.countries.rows;
        let found = rows
            .iter()
            .find(|row| strict(&row.code) == key || strict(&row.name) == key);
        found.ok_or_else(|| Unknown {
            what: "country",
            name: name.trim().to_owned(),
            is_ambiguous: false,
            closest: closest(
                rows.iter().map(|row| (&row.name, [&row.name, &row.code])),
                names::words,
                name,
                CLOSEST,
            ),
        })
    }

    /// What is known of the price of a chip or a part, new ones first.
    pub fn prices_of(&self, item: &str) -> Vec<&Price> {
        let rows = self.price_names.get(&strict(item)).into_iter().flatten();
        let mut rows: Vec<_> = rows.map(|&at| &self.prices.rows[at]).collect();
        rows.sort_by_key(|row| row.kind);
        rows
    }

    /// The offers of a chip, the cheapest first.
    pub fn offers_of(&self, chip: &str) -> Vec<&Offer> {
        let key = strict(chip);
        let rows = self.offers.rows.iter();
        let mut rows: Vec<_> = rows.filter(|row| strict(&row.chip) == key).collect();
        rows.sort_by(|a, b| a.chip_usd_hour().total_cmp(&b.chip_usd_hour()));
        rows
    }

    /// What data from a provider to a destination costs; `None` where that is unknown.
    pub fn egress_of(&self, provider: &str, destination: Destination) -> Option<&Egress> {
        let rows = &self.egress.rows;
        rows.iter()
            .find(|row| row.provider == provider && row.destination == destination)
    }

    /// What software runs on a chip's GPU and on its NPU.
    pub fn support_of<'c>(&'c self, chip: &'c Chip) -> impl Iterator<Item = &'c Support> {
        let is_of = |row: &&Support| {
            row.families.contains(&chip.family)
                || chip
                    .npu_family
                    .as_ref()
                    .is_some_and(|npu| row.families.contains(npu))
        };
        self.support.rows.iter().filter(is_of)
    }

    /// The names of chips that are most like one, the likeliest first.
    pub fn closest_chips(&self, name: &str, count: usize) -> Vec<String> {
        let rows = self.chips.rows.iter();
        let rows = rows.map(|row| (&row.name, std::iter::once(&row.name).chain(&row.aliases)));
        closest(rows, names::chip_words, name, count)
    }

    /// The names of models that are most like one, the likeliest first.
    pub fn closest_models(&self, name: &str, count: usize) -> Vec<String> {
        let rows = self.models.rows.iter();
        let rows = rows.map(|row| (&row.name, std::iter::once(&row.name).chain(&row.aliases)));
        closest(rows, names::model_words, name, count)
    }
}

/// What makes two rows the same one: a user's row replaces the one built in.
trait Identity {
    fn identity(&self) -> String;
}

/// By the names of fields.
macro_rules! identity {
    ($($row:ident => |$this:ident| $identity:expr;)*) => {
        $(impl Identity for $row {
            fn identity(&self) -> String {
                let $this = self;
                $identity
            }
        })*
    };
}

identity! {
    Chip => |row| strict(&row.name);
    Model => |row| strict(&row.name);
    Offer => |row| format!("{} {} {}", row.provider, row.name, row.region.as_deref().unwrap_or_default());
    Egress => |row| format!("{} {:?}", row.provider, row.destination);
    Price => |row| format!("{} {:?}", strict(&row.item), row.kind);
    Part => |row| strict(&row.name);
    Country => |row| strict(&row.code);
    Support => |row| format!("{} {}", row.runtime, row.families.join(" "));
}

/// Of rows and their names, the names of those that are most like one. `words` takes names apart.
fn closest<'c, N: IntoIterator<Item = &'c String>>(
    rows: impl Iterator<Item = (&'c String, N)>,
    words: fn(&str) -> Vec<String>,
    name: &str,
    count: usize,
) -> Vec<String> {
    // Nobody means a name of a thousand letters, and comparing takes as long as it is.
    let asked = words(&name.chars().take(100).collect::<String>());
    let likeness = |(row, names): (&'c String, N)| {
        let names = names.into_iter();
        let best = names.map(|other| names::likeness(&asked, &words(other)));
        (best.fold(0.0, f64::max), row)
    };
    let mut rows: Vec<_> = rows.map(likeness).collect();
    rows.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    rows.into_iter()
        .take(count)
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .map(|(_, row)| row.clone())
        .collect()
}
