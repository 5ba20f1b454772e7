//! Which way wins, given times. No GPU is needed here.

use std::time::Duration;

use troika_device::Error;

use super::Shape;
use crate::Caps;
use crate::matmul::{Formats, TileShape, Tuning};
use crate::weights::Format;

/// Takes times. The only thing that touches a GPU.
pub trait Stopwatch {
    /// The time of one product of `n_tok` rows by the matrix of this shape; `None` if it cannot be made in this way.
    ///
    /// # Errors
    /// If the GPU is lost.
    fn time(
        &mut self,
        tuning: &Tuning,
        shape: &Shape,
        n_tok: usize,
    ) -> Result<Option<Duration>, Error>;

    /// Whether the time that may be spent is over.
    fn is_over(&self) -> bool;
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Questions that are answered.
    pub done: usize,
    /// Questions.
    pub of: usize,
    /// What is asked now.
    pub what: &'static str,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The best way.
    pub tuning: Tuning,
    /// Formats for which it was found.
    pub formats: Formats,
    /// Ways that were timed.
    pub tried: usize,
    /// Whether all questions were answered. Where time ran out, the rest is as it was.
    pub complete: bool,
}

impl Tuned {
    /// Whether it was found for all of these.
    pub fn covers(&self, shapes: &[Shape]) -> bool {
        shapes
            .iter()
            .all(|shape| self.formats.contains(shape.format))
    }
}

/// Something that another way may be better at.
struct Question {
    what: &'static str,
    /// Other ways, given the best so far.
    ways: Vec<Change>,
    /// Rows of activations with which it is asked.
    n_tok: usize,
    /// The format that it is about; `None` for all.
    format: Option<Format>,
}

type Change = Box<dyn Fn(Tuning) -> Tuning>;

/// A way wins if it takes less than this share of the time of the one before: less is noise, and a tuning that follows
/// noise differs from run to run.
const WINS: f64 = 0.97;

/// Rows of a prompt with which tiles are compared.
const PROMPT: usize = 512;

/// Finds the best way among those that a GPU can go, one question after the other, the heaviest first. The same times give
/// the same answer.
///
/// # Errors
/// As [`Stopwatch::time`].
pub fn search(
    watch: &mut dyn Stopwatch,
    caps: &Caps,
    shapes: &[Shape],
    start: Tuning,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tuned, Error> {
    let questions = questions(caps, shapes);
    let of = questions.len() + 1;
    let mut best = start;
    let mut tried = 0;
    let found = |tuning, tried, complete| Tuned {
        tuning,
        formats: shapes
            .iter()
            .fold(Formats::NONE, |set, s| set.with(s.format)),
        tried,
        complete,
    };
    for (done, question) in questions.iter().enumerate() {
        let what = question.what;
        progress(Progress { done, of, what });
        // A way that cannot be gone is worse than any other.
        let mut least = total(watch, shapes, question, &best)?.unwrap_or(f64::INFINITY);
        for way in &question.ways {
            if watch.is_over() {
                return Ok(found(best, tried, false));
            }
            let other = way(best);
            if other == best {
                continue;
            }
            tried += 1;
            if let Some(time) = total(watch, shapes, question, &other)?
                && time < least * WINS
            {
                (best, least) = (other, time);
            }
        }
    }
    progress(Progress {
        done: of - 1,
        of,
        what: "where tiles begin",
    });
    let (from, complete) = tiles_from(watch, shapes, &best, &mut tried)?;
    best.tiles_from = from.unwrap_or(best.tiles_from);
    Ok(found(best, tried, complete))
}

/// Seconds that a model's products take in this way; `None` if one of them cannot be made.
fn total(
    watch: &mut dyn Stopwatch,
    shapes: &[Shape],
    question: &Question,
    tuning: &Tuning,
) -> Result<Option<f64>, Error> {
    let asked = |shape: &&Shape| question.format.is_none_or(|format| format == shape.format);
    seconds(watch, shapes.iter().filter(asked), question.n_tok, tuning)
}

fn seconds<'s>(
    watch: &mut dyn Stopwatch,
    shapes: impl Iterator<Item = &'s Shape>,
    n_tok: usize,
    tuning: &Tuning,
) -> Result<Option<f64>, Error> {
    let mut sum = 0.0;
    for shape in shapes {
        match watch.time(tuning, shape, n_tok)? {
            Some(time) => sum += time.as_secs_f64() * shape.count as f64,
            None => return Ok(None),
        }
    }
    Ok(Some(sum))
}

/// Rows of activations from which on tiles are faster, up to where both were tried; and whether that was done to the end.
/// `None` if nothing was tried.
fn tiles_from(
    watch: &mut dyn Stopwatch,
    shapes: &[Shape],
    best: &Tuning,
    tried: &mut usize,
) -> Result<(Option<usize>, bool), Error> {
    // Below, the matrix-vector kernels read the weights once. Downwards: the answer is where tiles lose first.
    const TRIED: [usize; 6] = [64, 48, 32, 24, 16, 9];
    let way = |tiles_from| Tuning {
        tiles_from,
        ..*best
    };
    let mut answer = None;
    for n_tok in TRIED {
        if watch.is_over() {
            return Ok((answer, false));
        }
        *tried += 1;
        let alone = seconds(watch, shapes.iter(), n_tok, &way(usize::MAX))?;
        let tiles = seconds(watch, shapes.iter(), n_tok, &way(1))?;
        match (alone, tiles) {
            (Some(alone), Some(tiles)) if tiles < alone => answer = Some(n_tok),
            (None, Some(_)) => answer = Some(n_tok),
            // Beyond the largest that was tried, tiles are taken untried: a prompt by columns would take for ever.
            _ => return Ok((Some(answer.unwrap_or(TRIED[0] + 1)), true)),
        }
    }
    Ok((answer, true))
}

fn questions(caps: &Caps, shapes: &[Shape]) -> Vec<Question> {
    let mut formats: Vec<Format> = Vec::new();
    for shape in shapes {
        if shape.format.has_integers() && !formats.contains(&shape.format) {
            formats.push(shape.format);
        }
    }
    let mut questions = vec![rows(0), subgroups()];
    questions.extend(formats.into_iter().map(packed));
    questions.push(small());
    questions.extend([1, 2, 3].map(rows));
    questions.push(tiles(caps));
    questions
}

/// Rows of a workgroup, and for one column its threads.
fn rows(columns: usize) -> Question {
    const SIZES: [u32; 4] = [32, 64, 128, 256];
    const ROWS: [u32; 4] = [1, 2, 4, 8];
    let rows = |size: Option<u32>| {
        ROWS.map(|rows| -> Change {
            Box::new(move |mut tuning| {
                tuning.rows[columns] = rows;
                tuning.size = size.unwrap_or(tuning.size);
                tuning
            })
        })
    };
    Question {
        what: "rows of a workgroup",
        ways: match columns {
            0 => SIZES.iter().flat_map(|&size| rows(Some(size))).collect(),
            _ => rows(None).into_iter().collect(),
        },
        n_tok: 1 << columns,
        format: None,
    }
}

/// How threads add up. With few threads, shared memory alone may do as well.
fn subgroups() -> Question {
    Question {
        what: "sums in subgroups",
        ways: [false, true]
            .map(|subgroups| -> Change {
                Box::new(move |tuning| Tuning {
                    subgroups,
                    ..tuning
                })
            })
            .into_iter()
            .collect(),
        n_tok: 1,
        format: None,
    }
}

/// Floats or bytes.
fn packed(format: Format) -> Question {
    Question {
        what: "floats or bytes",
        ways: vec![
            Box::new(move |tuning| Tuning {
                packed: tuning.packed.with(format),
                ..tuning
            }),
            Box::new(move |tuning| Tuning {
                packed: tuning.packed.without(format),
                ..tuning
            }),
        ],
        n_tok: 1,
        format: Some(format),
    }
}

/// From how many workgroups on each takes its full rows.
fn small() -> Question {
    Question {
        what: "workgroups of a small matrix",
        ways: [128, 256, 1024, 2048]
            .map(|workgroups| -> Change {
                Box::new(move |tuning| Tuning {
                    workgroups,
                    ..tuning
                })
            })
            .into_iter()
            .collect(),
        n_tok: 1,
        format: None,
    }
}

/// The tile of a prompt, and what it is computed by. Tiles are not kept as f16 to be faster: that would be less exact.
fn tiles(caps: &Caps) -> Question {
    const SIDES: [u32; 3] = [32, 64, 128];
    let in_registers = SIDES.iter().map(|&side| -> Change {
        let tile = TileShape {
            tokens: side,
            rows: side,
        };
        Box::new(move |tuning| Tuning {
            tile,
            coop: None,
            ..tuning
        })
    });
    let cooperative = caps.tiles.iter().filter(|tile| tile.wide);
    let cooperative = cooperative.map(|&tile| -> Change {
        Box::new(move |tuning| Tuning {
            coop: Some(tile),
            ..tuning
        })
    });
    Question {
        what: "tiles of a prompt",
        ways: in_registers.chain(cooperative).collect(),
        n_tok: PROMPT,
        format: None,
    }
}

#[cfg(test)]
mod tests {
    use troika_base::Bytes;

    use super::*;
    use crate::Tile;

    const SHAPES: [Shape; 2] = [
        Shape {
            format: Format::Q4_0,
            n_out: 4096,
            n_in: 4096,
            count: 64,
        },
        Shape {
            format: Format::Q6_K,
            n_out: 1024,
            n_in: 4096,
            count: 1,
        },
    ];

    /// A GPU of which everything is known.
    struct Known<F> {
        micros: F,
        /// Times that may be taken.
        left: usize,
    }

    impl<F: Fn(&Tuning, &Shape, usize) -> Option<f64>> Stopwatch for Known<F> {
        fn time(
            &mut self,
            tuning: &Tuning,
            shape: &Shape,
            n_tok: usize,
        ) -> Result<Option<Duration>, Error> {
            self.left = self.left.saturating_sub(1);
            let micros = (self.micros)(tuning, shape, n_tok);
            Ok(micros.map(|micros| Duration::from_secs_f64(micros * 1e-6)))
        }

        fn is_over(&self) -> bool {
            self.left == 0
        }
    }

    fn caps() -> Caps {
        Caps {
            subgroup: Some((32, 32)),
            f16: true,
            packed_dot: true,
            tiles: vec![Tile {
                size: 16,
                wide: true,
            }],
            timestamps: true,
            binding: Bytes(1 << 31),
            buffer: Bytes(1 << 31),
            workgroup_memory: Bytes(48 << 10),
            workgroup_size: 1024,
            bindings: 8,
            unified: false,
            mappable: false,
            software: false,
        }
    }

    fn found(left: usize, micros: impl Fn(&Tuning, &Shape, usize) -> Option<f64>) -> Tuned {
        let mut watch = Known { micros, left };
        let start = Tuning::default_for(&caps());
        search(&mut watch, &caps(), &SHAPES, start, &mut |_| ()).expect("it is well")
    }

    /// Best with 128 threads and two rows, bytes for Q4_0 but not for Q6_K, and tiles of cooperative matrices from 24 on.
    fn micros(tuning: &Tuning, shape: &Shape, n_tok: usize) -> Option<f64> {
        if n_tok >= tuning.tiles_from {
            let rate = match tuning.coop {
                Some(_) => 1.0,
                None => 4.0 + f64::from(tuning.tile.rows.abs_diff(64)),
            };
            return Some(400.0 + rate * n_tok as f64);
        }
        let away = |have: u32, want: u32| f64::from(have.ilog2().abs_diff(want.ilog2()));
        let columns = n_tok.next_power_of_two().min(8).ilog2() as usize;
        let mut time = 100.0 + 9.0 * away(tuning.size, 128) + 9.0 * away(tuning.rows[columns], 2);
        time += 9.0 * away(tuning.workgroups, 256);
        let packed = tuning.packed.contains(shape.format);
        time += if tuning.subgroups { 20.0 } else { 0.0 };
        time += if packed == (shape.format == Format::Q4_0) {
            0.0
        } else {
            50.0
        };
        Some(time * (n_tok as f64 / 8.0).ceil() * if n_tok > 16 { 1.5 } else { 1.0 })
    }

    #[test]
    fn the_best_way_is_found() {
        let tuned = found(usize::MAX, micros);
        let best = tuned.tuning;
        assert!(tuned.complete && tuned.covers(&SHAPES));
        assert_eq!((best.size, best.rows, best.workgroups), (128, [2; 4], 256));
        assert!(!best.subgroups);
        assert!(best.packed.contains(Format::Q4_0) && !best.packed.contains(Format::Q6_K));
        assert_eq!(best.coop, caps().tiles.first().copied());
        assert_eq!(best.tiles_from, 24);
        assert_eq!(
            found(usize::MAX, micros),
            tuned,
            "the same times, the same answer"
        );
    }

    #[test]
    fn noise_changes_nothing() {
        let flat = |tuning: &Tuning, _: &Shape, n_tok: usize| {
            // Two hundredths up and down, by what is asked.
            let bits = tuning.size / 32 + tuning.rows.iter().sum::<u32>() + tuning.workgroups / 128;
            let tiles = n_tok >= tuning.tiles_from;
            Some(1000.0 + f64::from(bits % 3) * 10.0 + if tiles { 100.0 } else { 0.0 })
        };
        let tuned = found(usize::MAX, flat);
        let start = Tuning::default_for(&caps());
        assert_eq!(
            Tuning {
                tiles_from: start.tiles_from,
                ..tuned.tuning
            },
            start
        );
        assert_eq!(tuned.tuning.tiles_from, 65, "tiles never won");
    }

    #[test]
    fn time_that_runs_out_leaves_what_was_found() {
        let tuned = found(40, micros);
        assert!(!tuned.complete && tuned.tried < 40);
        assert_eq!((tuned.tuning.size, tuned.tuning.rows[0]), (128, 2));
        assert_eq!(tuned.tuning.rows[1], Tuning::default_for(&caps()).rows[1]);
    }

    #[test]
    fn ways_that_cannot_be_gone_are_passed_over() {
        let tuned = found(usize::MAX, |tuning, shape, n_tok| {
            micros(tuning, shape, n_tok).filter(|_| tuning.coop.is_none() && tuning.size != 128)
        });
        assert!(tuned.complete);
        assert_eq!(tuned.tuning.coop, None);
        assert!([64, 256].contains(&tuned.tuning.size), "next to the best");
        assert_eq!(tuned.tuning.tile.rows, 64);
    }

    #[test]
    fn progress_goes_from_none_to_the_last() {
        let mut told = Vec::new();
        let mut watch = Known {
            micros,
            left: usize::MAX,
        };
        let start = Tuning::default_for(&caps());
        search(&mut watch, &caps(), &SHAPES, start, &mut |p| told.push(p)).expect("it is well");
        assert!(
            told.iter()
                .enumerate()
                .all(|(i, progress)| progress.done == i)
        );
        assert!(told.last().is_some_and(|last| last.done + 1 == last.of));
    }
}
