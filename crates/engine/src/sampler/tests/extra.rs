//! The samplers that few ask for: against what llama.cpp's tests say of them, and against plain references.

use super::*;

/// The shares that are left of tokens with these, in order of the tokens; 0 where one is left out.
fn left(params: SamplingParams, shares: &[f32], said: &[u32]) -> Vec<f32> {
    let logits: Vec<_> = shares.iter().map(|share| share.ln()).collect();
    let mut sampler = sampler(params, logits.len());
    let said: Vec<_> = said.iter().copied().map(TokenId).collect();
    sampler.observe(&said);
    let mut left = vec![0.0; shares.len()];
    for (token, share) in sampler.distribution(&logits).expect("finite") {
        left[token.index()] = share;
    }
    left
}

#[track_caller]
fn assert_close(have: &[f32], want: &[f32]) {
    let is_close = |(have, want): (&f32, &f32)| (have - want).abs() < 1e-4;
    assert!(
        have.len() == want.len() && have.iter().zip(want).all(is_close),
        "{have:?} {want:?}"
    );
}

#[test]
fn typical_keeps_what_surprises_as_expected() {
    let typical = |typical_p| SamplingParams {
        typical_p,
        ..params()
    };
    assert_close(
        &left(typical(0.5), &[0.97, 0.01, 0.01, 0.01], &[]),
        &[1.0, 0.0, 0.0, 0.0],
    );
    let third = 1.0 / 3.0;
    assert_close(
        &left(typical(0.5), &[0.4, 0.2, 0.2, 0.2], &[]),
        &[0.0, third, third, third],
    );
    // At least one, and not the likeliest here.
    assert_close(
        &left(typical(0.0), &[0.4, 0.2, 0.2, 0.2], &[]),
        &[0.0, 1.0, 0.0, 0.0],
    );
}

#[test]
fn xtc_leaves_out_all_likely_tokens_but_one() {
    let xtc = |probability, threshold| SamplingParams {
        xtc: Xtc {
            probability,
            threshold,
        },
        ..params()
    };
    let shares = [0.4, 0.3, 0.2, 0.1];
    assert_close(&left(xtc(1.0, 0.09), &shares, &[]), &[0.0, 0.0, 0.0, 1.0]);
    assert_close(
        &left(xtc(1.0, 0.19), &shares, &[]),
        &[0.0, 0.0, 2.0 / 3.0, 1.0 / 3.0],
    );
    assert_close(
        &left(xtc(1.0, 0.29), &shares, &[]),
        &[0.0, 0.5, 2.0 / 6.0, 1.0 / 6.0],
    );
    for (probability, threshold) in [(1.0, 0.39), (1.0, 0.51), (0.0, 0.09)] {
        assert_close(&left(xtc(probability, threshold), &shares, &[]), &shares);
    }
    // Half of the time.
    assert_close(
        &left(xtc(0.5, 0.29), &shares, &[]),
        &[0.2, 0.4, 0.8 / 3.0, 0.4 / 3.0],
    );
}

#[test]
fn dry_holds_down_what_would_repeat() {
    let dry = |multiplier, base| SamplingParams {
        dry: Dry {
            multiplier,
            base,
            ..Dry::default()
        },
        ..params()
    };
    let quarter = [0.25; 4];
    assert_close(&left(dry(1.0, 1.1), &quarter, &[0, 1]), &quarter);
    assert_close(
        &left(dry(1.0, 1.1), &quarter, &[0, 1, 2, 0, 1]),
        &[0.296_923, 0.296_923, 0.109_232, 0.296_923],
    );
    // Three tokens are repeated: 2 * 1.5 to the first power.
    let fifth = [0.2f32; 5];
    let down = 0.2 * (-3.0f32).exp();
    let rest = 0.2 / (0.8 + down);
    assert_close(
        &left(dry(2.0, 1.5), &fifth, &[0, 1, 2, 3, 0, 1, 2]),
        &[rest, rest, rest, down / (0.8 + down), rest],
    );
    let mut sampler = sampler(dry(1.0, 1.1), 4);
    sampler.break_at(vec![TokenId(1)]);
    sampler.observe(&[0, 1, 2, 0, 1].map(TokenId));
    let even = sampler.distribution(&[0.0; 4]).expect("finite");
    assert!(even.iter().all(|&(_, share)| share == 0.25), "{even:?}");
}

#[test]
fn the_temperature_moves_with_how_sure_the_model_is() {
    let moved = |range, exponent| SamplingParams {
        dynatemp: Dynatemp { range, exponent },
        ..params()
    };
    let shares = [0.7f32, 0.2, 0.1];
    let entropy: f32 = shares.iter().map(|share| -share * share.ln()).sum();
    for (range, exponent) in [(0.5, 1.0), (0.5, 2.0), (2.0, 0.5)] {
        let coldest = (1.0f32 - range).max(1e-3);
        let share = (entropy / 3f32.ln()).powf(exponent);
        let temperature = coldest + (1.0 + range - coldest) * share;
        let weights = shares.map(|share| share.powf(1.0 / temperature));
        let total: f32 = weights.iter().sum();
        assert_close(
            &left(moved(range, exponent), &shares, &[]),
            &weights.map(|it| it / total),
        );
    }
    assert_close(&left(moved(0.0, 1.0), &shares, &[]), &shares);
}

/// Tokens as likely as words are in a language.
fn zipf(n: usize) -> Vec<f32> {
    (0..n).map(|rank| -((rank + 1) as f32).ln()).collect()
}

#[test]
fn mirostat_keeps_surprise_at_its_level() {
    let logits = zipf(500);
    for tau in [2.0, 4.0] {
        let mirostat = Some(Mirostat { tau, eta: 0.1 });
        let mut sampler = sampler(
            SamplingParams {
                mirostat,
                ..params()
            },
            logits.len(),
        );
        let mut surprise = 0.0;
        let (warm, counted) = (200, 2000);
        for i in 0..warm + counted {
            let shares = sampler.distribution(&logits).expect("finite");
            let token = sampler.sample(&logits).expect("finite").token;
            let share = shares
                .iter()
                .find(|(it, _)| *it == token)
                .expect("one of them")
                .1;
            sampler.accept(token);
            if i >= warm {
                surprise -= f64::from(share.log2());
            }
        }
        let mean = surprise / f64::from(counted);
        assert!(
            (mean - f64::from(tau)).abs() < 0.05,
            "{mean} instead of {tau}"
        );
    }
}

#[test]
fn what_was_refused_does_not_move_the_level() {
    let logits = zipf(100);
    let params = SamplingParams {
        mirostat: Some(Mirostat::default()),
        ..params()
    };
    let mut sampler = sampler(params, logits.len());
    let before = sampler.distribution(&logits).expect("finite");
    let token = sampler.sample(&logits).expect("finite").token;
    sampler.accept(TokenId((token.0 + 1) % 100));
    assert_eq!(sampler.distribution(&logits).expect("finite"), before);
}

#[test]
fn numbers_of_samplers_are_checked() {
    let check = |change: &dyn Fn(&mut ExtraSampling)| {
        let mut extra = ExtraSampling::default();
        change(&mut extra);
        let checked = params().with(&extra).and_then(|params| params.validate());
        checked.expect_err("refused").field().expect("a parameter")
    };
    assert_eq!(check(&|it| it.typical_p = Some(1.5)), "typical_p");
    assert_eq!(
        check(&|it| it.xtc_probability = Some(f32::NAN)),
        "xtc_probability"
    );
    assert_eq!(check(&|it| it.dry_base = Some(0.5)), "dry_base");
    assert_eq!(
        check(&|it| it.dry_allowed_length = Some(-1)),
        "dry_allowed_length"
    );
    assert_eq!(
        check(&|it| it.dry_penalty_last_n = Some(-2)),
        "dry_penalty_last_n"
    );
    assert_eq!(check(&|it| it.mirostat = Some(1)), "mirostat");
    let level = |it: &mut ExtraSampling| (it.mirostat, it.mirostat_eta) = (Some(2), Some(-1.0));
    assert_eq!(check(&level), "mirostat_eta");
}

proptest! {
    /// Whatever is asked for together, the draw is from what is said to be drawn from.
    #[test]
    fn what_is_drawn_is_of_the_distribution(
        logits in prop::collection::vec(-8f32..8.0, 1..60),
        (typical_p, top_p, min_p) in (0f32..=1.0, 0.1f32..=1.0, 0f32..0.3),
        (top_k, threshold, range, mirostat) in (0u32..20, 0f32..0.6, 0f32..2.0, any::<bool>()),
        said in prop::collection::vec(0u32..60, 0..40),
        seed in any::<u64>(),
    ) {
        let params = SamplingParams {
            typical_p, top_p, min_p, top_k,
            xtc: Xtc { probability: 0.5, threshold },
            dry: Dry { multiplier: 0.8, ..Dry::default() },
            dynatemp: Dynatemp { range, exponent: 1.0 },
            mirostat: mirostat.then(Mirostat::default),
            seed: Some(seed),
            ..params()
        };
        let mut sampler = sampler(params, logits.len());
        let said: Vec<_> = said.into_iter().map(TokenId).collect();
        sampler.observe(&said);
        for _ in 0..8 {
            let shares = sampler.distribution(&logits).expect("finite");
            let total: f32 = shares.iter().map(|(_, share)| share).sum();
            prop_assert!((total - 1.0).abs() < 1e-4, "{}", total);
            let token = sampler.sample(&logits).expect("finite").token;
            prop_assert!(shares.iter().any(|&(it, _)| it == token), "{:?} {:?}", token, shares);
            sampler.accept(token);
        }
    }
}
