//! From a detector's table to boxes in the picture.

use serde::Serialize;
use troika_device_npu::exec::Tensor;

use super::Error;
use super::input::Placement;
use super::scores::{activate, name, numbers, sigmoid};
use crate::card::{Activation, BoxFormat, Boxes, Nothing, Part, Table, Units};

/// A thing in a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// Its class; the class's number if it has no name.
    pub label: String,
    /// The class's number, from 0.
    pub index: usize,
    /// How sure the model is, 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the picture.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
}

/// A table of numbers, by row.
pub(super) struct Rows {
    output: String,
    values: Vec<f32>,
    count: usize,
    width: usize,
    table: Table,
}

impl Rows {
    /// The table in an output of `[1, a, b]` or `[a, b]`.
    pub(super) fn table(output: &str, tensor: Tensor, table: Table) -> Result<Self, Error> {
        let (a, b) = match *tensor.shape {
            [1, a, b] | [a, b] => (a, b),
            ref shape => {
                return Err(Error::Output {
                    output: output.to_owned(),
                    reason: format!("is {shape:?}, and one table of boxes is expected"),
                });
            }
        };
        let (count, width) = match table {
            Table::Rows => (a, b),
            Table::Columns => (b, a),
        };
        Self::new(output, tensor, (count, width), table)
    }

    /// One number for each box, in an output of `[1, boxes]`, `[boxes]` or `[1, boxes, 1]`.
    pub(super) fn list(output: &str, tensor: Tensor) -> Result<Self, Error> {
        let count = tensor.shape.iter().product();
        Self::new(output, tensor, (count, 1), Table::Rows)
    }

    fn new(
        output: &str,
        tensor: Tensor,
        (count, width): (usize, usize),
        table: Table,
    ) -> Result<Self, Error> {
        let values = numbers(output, tensor)?;
        assert_eq!(
            values.len(),
            count * width,
            "a tensor has what its shape says"
        );
        Ok(Self {
            output: output.to_owned(),
            values,
            count,
            width,
            table,
        })
    }

    fn row(&self, index: usize) -> impl Iterator<Item = f32> {
        let (start, step) = match self.table {
            Table::Rows => (index * self.width, 1),
            Table::Columns => (index, self.count),
        };
        let values = self.values.get(start..).unwrap_or_default();
        values.iter().step_by(step).take(self.width).copied()
    }
}

/// What a model has given: its table, and what stands in outputs of their own.
pub(super) struct Found {
    pub(super) rows: Rows,
    pub(super) scores: Option<Rows>,
    pub(super) classes: Option<Rows>,
}

/// One box of the model.
struct Candidate {
    corners: [f32; 4],
    index: usize,
    score: f32,
}

/// The boxes that are kept, the surest first, in a picture of this size.
pub(super) fn read(
    card: &Boxes,
    labels: &[String],
    found: &Found,
    placement: &Placement,
    picture: (u32, u32),
) -> Result<Vec<Detection>, Error> {
    check(card, found)?;
    let mut candidates = Vec::new();
    let mut row = Vec::with_capacity(found.rows.width);
    for index in 0..found.rows.count {
        row.clear();
        row.extend(found.rows.row(index));
        let Some((class, score)) = class_and_score(card, found, index, &row) else {
            continue;
        };
        if score.is_nan() || score < card.score.get() {
            continue;
        }
        let (start, _) = card
            .row
            .find(Part::Box, row.len())
            .expect("every row has a box");
        let numbers = std::array::from_fn(|offset| row[start + offset]);
        if let Some(corners) = in_picture(card, numbers, placement, picture) {
            candidates.push(Candidate {
                corners,
                index: class,
                score,
            });
        }
    }
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let kept = match card.overlap {
        Some(overlap) => suppressed(candidates, overlap.get(), card.limit.get()),
        None => candidates.into_iter().take(card.limit.get()).collect(),
    };
    let detections = kept.into_iter().map(|candidate| Detection {
        label: name(labels, candidate.index),
        index: candidate.index,
        score: candidate.score,
        corners: candidate.corners,
    });
    Ok(detections.collect())
}

/// Whether the outputs have the lengths that the card and each other ask for.
fn check(card: &Boxes, found: &Found) -> Result<(), Error> {
    let rows = &found.rows;
    if !card.row.fits(rows.width) {
        return Err(Error::Output {
            output: rows.output.clone(),
            reason: format!(
                "has {} numbers for each box, which the card's `boxes.row` does not add up to",
                rows.width
            ),
        });
    }
    for other in [&found.scores, &found.classes].into_iter().flatten() {
        if other.count != rows.count {
            return Err(Error::Output {
                output: other.output.clone(),
                reason: format!("is for {} boxes, and there are {}", other.count, rows.count),
            });
        }
    }
    Ok(())
}

/// The class of a row, and its score; `None` if it is "nothing" or no class at all.
fn class_and_score(card: &Boxes, found: &Found, index: usize, row: &[f32]) -> Option<(usize, f32)> {
    let part = |part: Part| {
        let (start, length) = card.row.find(part, row.len())?;
        Some(&row[start..start + length])
    };
    let one = |score: f32| match card.activation {
        Activation::Sigmoid => sigmoid(score),
        Activation::Exp => score.exp(),
        Activation::None | Activation::Softmax => score,
    };
    let objectness = part(Part::Objectness).map_or(1.0, |objectness| one(objectness[0]));
    if let Some(score) = part(Part::Score) {
        let class = part(Part::Class).map_or(Some(0), |class| number(class[0]))?;
        return Some((class, one(score[0]) * objectness));
    }
    let outside = found
        .scores
        .as_ref()
        .map(|scores| scores.row(index).collect::<Vec<_>>());
    if let (Some(classes), Some(score)) = (&found.classes, &outside) {
        let class = number(classes.row(index).next()?)?;
        return Some((class, one(*score.first()?) * objectness));
    }
    let mut scores = outside.or_else(|| part(Part::Scores).map(<[f32]>::to_vec))?;
    activate(card.activation, &mut scores);
    let classes = match card.nothing {
        None => &scores[..],
        Some(Nothing::First) => scores.get(1..)?,
        Some(Nothing::Last) => scores.split_last()?.1,
    };
    let best = classes.iter().copied().enumerate();
    let (class, score) = best.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    Some((class, score * objectness))
}

/// A class written as a number of any type.
fn number(value: f32) -> Option<usize> {
    let rounded = value.round();
    (0.0..=1e6).contains(&rounded).then_some(rounded as usize)
}

/// A box as corners within the picture; `None` if nothing of it is there.
fn in_picture(
    card: &Boxes,
    [a, b, c, d]: [f32; 4],
    placement: &Placement,
    (width, height): (u32, u32),
) -> Option<[f32; 4]> {
    let [left, top, right, bottom] = match card.format {
        BoxFormat::Xyxy => [a, b, c, d],
        BoxFormat::Yxyx => [b, a, d, c],
        BoxFormat::Xywh => [a, b, a + c, b + d],
        BoxFormat::Cxcywh => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
    };
    let unit = match card.units {
        Units::Pixels => (1.0, 1.0),
        Units::Fraction => (placement.size.0 as f32, placement.size.1 as f32),
    };
    let (left, top) = placement.back(left * unit.0, top * unit.1);
    let (right, bottom) = placement.back(right * unit.0, bottom * unit.1);
    if ![left, top, right, bottom]
        .iter()
        .all(|value| value.is_finite())
    {
        return None;
    }
    let (width, height) = (width as f32, height as f32);
    let corners = [
        left.clamp(0.0, width),
        top.clamp(0.0, height),
        right.clamp(0.0, width),
        bottom.clamp(0.0, height),
    ];
    (corners[2] > corners[0] && corners[3] > corners[1]).then_some(corners)
}

/// Drops every box that overlaps a surer one of its class by more than `overlap`. They come sorted.
fn suppressed(candidates: Vec<Candidate>, overlap: f32, limit: usize) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let is_new = kept.iter().all(|other| {
            other.index != candidate.index
                || intersection_over_union(&other.corners, &candidate.corners) <= overlap
        });
        if is_new {
            kept.push(candidate);
        }
    }
    kept
}

fn intersection_over_union(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |near: usize, far: usize| (a[far].min(b[far]) - a[near].max(b[near])).max(0.0);
    let area = |c: &[f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let both = side(0, 2) * side(1, 3);
    both / (area(a) + area(b) - both)
}

#[cfg(test)]
mod tests;
