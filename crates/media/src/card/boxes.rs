//! How a detector writes its boxes: which numbers stand in a row of its table, and what they mean.

use serde::{Deserialize, Serialize};

use super::{Activation, Error, Fraction, Limit};

/// The four numbers of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxFormat {
    /// Left, top, right, bottom.
    #[default]
    Xyxy,
    /// Top, left, bottom, right.
    Yxyx,
    /// Left, top, width, height.
    Xywh,
    /// The centre, width, height.
    Cxcywh,
}

/// What a box's numbers count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    /// Pixels of the model's picture.
    #[default]
    Pixels,
    /// Parts of its width and height.
    Fraction,
}

/// How the table lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// `[1, boxes, numbers]`: a row for each box.
    #[default]
    Rows,
    /// `[1, numbers, boxes]`: a column for each box.
    Columns,
}

/// What stands in a row, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Four numbers.
    Box,
    /// One: how likely something is there at all. Times each score.
    Objectness,
    /// As many as there are classes.
    Scores,
    /// One: the score of the class that is named beside it.
    Score,
    /// One: the class, from 0.
    Class,
    /// One that means nothing to us.
    Skip,
}

/// The parts of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Part>", into = "Vec<Part>")]
pub struct Row(Vec<Part>);

/// More parts than any table has.
const PARTS_MAX: usize = 64;

impl Row {
    /// Where a part begins and how many numbers it has, in a row of `width` numbers. `None` if the row has no such part,
    /// or too few numbers.
    pub fn find(&self, part: Part, width: usize) -> Option<(usize, usize)> {
        let scores = width.checked_sub(self.fixed())?;
        let length = |part: Part| match part {
            Part::Box => 4,
            Part::Scores => scores,
            Part::Objectness | Part::Score | Part::Class | Part::Skip => 1,
        };
        let index = self.0.iter().position(|&have| have == part)?;
        let start = self.0[..index].iter().map(|&part| length(part)).sum();
        Some((start, length(part)))
    }

    /// Whether it has this part.
    pub fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    /// Whether a row may have so many numbers.
    pub fn fits(&self, width: usize) -> bool {
        match self.has(Part::Scores) {
            true => width > self.fixed(),
            false => width == self.fixed(),
        }
    }

    /// Numbers that every row has, without a score for each class.
    pub fn fixed(&self) -> usize {
        let length = |part: &Part| match part {
            Part::Box => 4,
            Part::Scores => 0,
            Part::Objectness | Part::Score | Part::Class | Part::Skip => 1,
        };
        self.0.iter().map(length).sum()
    }
}

impl TryFrom<Vec<Part>> for Row {
    type Error = String;

    fn try_from(parts: Vec<Part>) -> Result<Self, String> {
        let count = |part: Part| parts.iter().filter(|&&have| have == part).count();
        if parts.len() > PARTS_MAX {
            return Err(format!("a row has at most {PARTS_MAX} parts"));
        }
        if count(Part::Box) != 1 {
            return Err("a row has one \"box\"".to_owned());
        }
        for part in [Part::Objectness, Part::Scores, Part::Score, Part::Class] {
            if count(part) > 1 {
                return Err("only \"skip\" may stand in a row more than once".to_owned());
            }
        }
        if count(Part::Scores) > 0 && count(Part::Score) + count(Part::Class) > 0 {
            return Err(
                "a row has either \"scores\" of all classes or one \"score\" and its \"class\""
                    .to_owned(),
            );
        }
        Ok(Self(parts))
    }
}

impl From<Row> for Vec<Part> {
    fn from(row: Row) -> Self {
        row.0
    }
}

/// Which of the classes is "nothing".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nothing {
    /// The first; labels begin with the second.
    First,
    /// The last.
    Last,
}

/// Where boxes stand in a model's outputs, and which are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boxes {
    /// Name of the output; absent where the model has one only.
    pub output: Option<String>,
    /// Name of an output of its own for scores: `[1, boxes, classes]`, or `[1, boxes]` beside `classes_output`.
    pub scores_output: Option<String>,
    /// Name of an output of its own for the class of each box: `[1, boxes]`.
    pub classes_output: Option<String>,
    /// What stands in a row.
    pub row: Row,
    /// How the table lies in memory.
    #[serde(default)]
    pub table: Table,
    /// The four numbers of a box.
    #[serde(default)]
    pub format: BoxFormat,
    /// What these count.
    #[serde(default)]
    pub units: Units,
    /// What is done to scores (and to objectness, where it is `sigmoid`).
    #[serde(default)]
    pub activation: Activation,
    /// Which class is "nothing"; absent if there is none.
    pub nothing: Option<Nothing>,
    /// Boxes with a lower score are dropped.
    #[serde(default = "Fraction::quarter")]
    pub score: Fraction,
    /// Of two boxes of a class that overlap more than this (intersection over union), the one with the lower score is
    /// dropped. Absent for models that do so themselves.
    pub overlap: Option<Fraction>,
    /// Boxes that are kept at most.
    #[serde(default)]
    pub limit: Limit,
}

impl Boxes {
    /// What contradicts something else.
    pub(super) fn consistent(&self, origin: &str) -> Result<(), Error> {
        let wrong = |key: &str, reason: &str| {
            Err(Error::value(
                origin,
                &format!("boxes.{key}"),
                reason.to_owned(),
            ))
        };
        let in_row = self.row.has(Part::Scores) || self.row.has(Part::Score);
        if self.scores_output.is_some() && in_row {
            return wrong(
                "scores_output",
                "names an output for scores, and `row` has some, too; keep one",
            );
        }
        if self.scores_output.is_none() && !in_row {
            return wrong(
                "row",
                "has no scores; put \"scores\" or \"score\" into it, or name a `scores_output`",
            );
        }
        if self.classes_output.is_some()
            && (self.scores_output.is_none() || self.row.has(Part::Class))
        {
            return wrong(
                "classes_output",
                "goes together with a `scores_output`, and with a `row` without \"class\"",
            );
        }
        let by_class = self.row.has(Part::Scores)
            || (self.scores_output.is_some() && self.classes_output.is_none());
        if self.nothing.is_some() && !by_class {
            return wrong("nothing", "needs a score for each class");
        }
        if self.activation == Activation::Softmax && !by_class {
            return wrong(
                "activation",
                "is \"softmax\", which needs a score for each class",
            );
        }
        Ok(())
    }
}
