//! Thresholds for students of whom everything is known.

use super::*;

/// A repeatable stream of numbers in [0, 1).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A student whose answers are right as often as its score says, and in which grades lie between.
fn student(n: usize, seed: u64, graded: bool, remote_right: f64) -> Vec<Example> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..8 {
        random.next();
    }
    (0..n)
        .map(|_| {
            let score = random.next().sqrt().sqrt();
            let right = random.next() < score;
            let local = match (graded, right) {
                (true, false) => 0.8 * random.next(),
                _ => f64::from(u8::from(right)),
            };
            let remote = f64::from(u8::from(random.next() < remote_right));
            Example {
                score: Some(score),
                local,
                remote,
            }
        })
        .collect()
}

fn aim(target: f64, confidence: f64) -> Aim {
    Aim::Quality { target, confidence }
}

/// How many of `seeds` thresholds break their promise on fresh examples, and the mean share that they keep.
fn broken(n: usize, seeds: u64, target: f64, graded: bool, remote_right: f64) -> (usize, f64) {
    let fresh = student(200_000, 999_999, graded, remote_right);
    let (mut broken, mut kept) = (0, 0.0);
    for seed in 0..seeds {
        let examples = student(n, seed, graded, remote_right);
        let Some(threshold) = threshold(&examples, aim(target, 0.95)) else {
            continue;
        };
        let pairs: Vec<Pair> = fresh.iter().map(|e| e.pair(e.is_kept(threshold))).collect();
        broken += usize::from(ratio(&pairs) < target);
        kept += fresh.iter().filter(|e| e.is_kept(threshold)).count() as f64 / fresh.len() as f64;
    }
    (broken, kept / seeds as f64)
}

#[test]
fn promises_hold_on_fresh_examples() {
    for (graded, remote_right, least_kept) in
        [(false, 1.0, 0.35), (true, 1.0, 0.3), (false, 0.9, 0.3)]
    {
        let (broken, kept) = broken(400, 100, 0.95, graded, remote_right);
        assert!(
            broken <= 5,
            "graded {graded}, remote {remote_right}: {broken} of 100 broken"
        );
        // A promise that keeps nothing would be easy.
        assert!(
            kept > least_kept,
            "graded {graded}, remote {remote_right}: {kept} kept"
        );
    }
}

#[test]
fn what_is_held_out_is_not_optimistic() {
    // The held-out quality is that of fresh examples, on average; its interval holds it.
    let (mut bias, mut missed) = (0.0, 0);
    for seed in 0..60 {
        let examples = student(300, seed, false, 1.0);
        let found = calibrate(&examples, Aim::Keep { share: 0.5 }, 0.95);
        // Of the half with the surest answers, what is missing is the mean of 1 - s over s in [0.5^(1/4), 1].
        let truth = 1.0 - (0.5 - 0.8 * (1.0 - 0.5_f64.powf(1.25)));
        bias += found.held_out.quality.value - truth;
        let quality = found.held_out.quality;
        missed += usize::from(!(quality.low..=quality.high).contains(&truth));
    }
    assert!((bias / 60.0).abs() < 0.01, "{}", bias / 60.0);
    assert!(missed <= 6, "{missed}");
}

fn all(n: usize, score: f64, local: f64) -> Vec<Example> {
    let example = Example {
        score: Some(score),
        local,
        remote: 1.0,
    };
    vec![example; n]
}

#[test]
fn extremes_come_out_as_they_should() {
    // All right: everything stays, as soon as there are enough examples to say so.
    let found = calibrate(&all(200, 0.8, 1.0), aim(0.98, 0.95), 0.95);
    assert!(found.threshold.is_some_and(|t| t < 0.01), "{found:?}");
    assert_eq!((found.kept, found.quality), (1.0, 1.0));
    assert_eq!(examples_for(0.98, 0.95), 149);
    assert!(threshold(&all(149, 0.8, 1.0), aim(0.98, 0.95)).is_some());
    assert_eq!(threshold(&all(148, 0.8, 1.0), aim(0.98, 0.95)), None);
    assert!(promise_max(148, 0.95) < 0.98 && promise_max(149, 0.95) >= 0.98);
    // All wrong: nothing does.
    let found = calibrate(&all(200, 0.8, 0.0), aim(0.98, 0.95), 0.95);
    assert_eq!(
        (found.threshold, found.kept, found.quality),
        (None, 0.0, 1.0)
    );
    assert_eq!(found.held_out.without, found.held_out.folds);
    // No score: nothing does either.
    let mut unscored = all(200, 0.8, 1.0);
    unscored.iter_mut().for_each(|example| example.score = None);
    assert_eq!(threshold(&unscored, aim(0.98, 0.95)), None);
    assert_eq!(threshold(&unscored, Aim::Keep { share: 0.5 }), None);
}

#[test]
fn ties_stay_together() {
    // A third of those that look alike are wrong: they cannot be told apart, and all go.
    let mut examples = all(200, 0.9, 1.0);
    for score in [0.5; 100] {
        let wrong = examples.len().is_multiple_of(3);
        examples.extend(all(1, score, f64::from(u8::from(!wrong))));
    }
    let found = threshold(&examples, aim(0.97, 0.95)).expect("the surest stay");
    assert!(found > 0.5 && found <= 0.9, "{found}");
    // A share that would part them keeps them all.
    let found = calibrate(&examples, Aim::Keep { share: 0.8 }, 0.95);
    assert_eq!((found.threshold, found.kept), (Some(0.5), 1.0));
}

#[test]
fn a_student_that_beats_its_teacher_is_given_credit() {
    // Both are wrong one time in ten, each on its own account.
    let mut examples = student(800, 5, false, 0.9);
    for (i, example) in examples.iter_mut().enumerate() {
        example.local = f64::from(u8::from(i % 20 > 0));
    }
    let found = calibrate(&examples, aim(0.98, 0.95), 0.95);
    assert!(found.kept > 0.95, "{found:?}");
    assert!(found.quality > 1.0);
    let quality = found.held_out.quality;
    assert!(
        quality.low > 0.98 && quality.high > quality.value,
        "{quality:?}"
    );
}

#[test]
fn a_promise_of_more_than_everything_is_never_kept() {
    assert_eq!(threshold(&all(5000, 0.8, 1.0), aim(1.0, 0.95)), None);
}
