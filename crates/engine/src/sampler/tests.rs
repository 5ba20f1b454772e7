//! The chain against a plain reference, and the draw against its distribution.

mod extra;

use std::collections::BTreeMap;

use proptest::prelude::*;
use troika_base::ExtraSampling;

use super::*;

fn params() -> SamplingParams {
    SamplingParams {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: Some(7),
        ..SamplingParams::default()
    }
}

fn sampler(params: SamplingParams, n_vocab: usize) -> Sampler {
    Sampler::new(params, n_vocab).expect("valid parameters")
}

/// Probabilities of all tokens after the chain, in f64 and with a full sort, likeliest first; and how far from a
/// boundary top-p and min-p decided.
fn reference(params: &SamplingParams, logits: &[f32]) -> (Vec<(usize, f64)>, f64) {
    let mut ranked: Vec<_> = logits
        .iter()
        .map(|&logit| f64::from(logit))
        .enumerate()
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if params.top_k > 0 {
        ranked.truncate(params.top_k as usize);
    }
    let max = ranked[0].1;
    let mut margin = f64::INFINITY;
    if params.top_p < 1.0 {
        let total: f64 = ranked.iter().map(|(_, logit)| (logit - max).exp()).sum();
        let (mut sum, mut keep) = (0.0, 0);
        for (_, logit) in &ranked {
            sum += (logit - max).exp() / total;
            keep += 1;
            margin = margin.min((sum - f64::from(params.top_p)).abs());
            if sum >= f64::from(params.top_p) {
                break;
            }
        }
        ranked.truncate(keep);
    }
    ranked.retain(|(_, logit)| {
        let share = (logit - max).exp();
        margin = margin.min((share - f64::from(params.min_p)).abs());
        share >= f64::from(params.min_p)
    });
    let weights = ranked
        .iter()
        .map(|(_, logit)| ((logit - max) / f64::from(params.temperature)).exp());
    let weights: Vec<_> = weights.collect();
    let total: f64 = weights.iter().sum();
    let shares = ranked
        .iter()
        .zip(weights)
        .map(|((id, _), weight)| (*id, weight / total))
        .collect();
    (shares, margin)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_chain_leaves_what_the_reference_leaves(
        logits in prop::collection::vec((-40i16..40).prop_map(|eighths| f32::from(eighths) / 8.0), 1..2000),
        top_k in prop_oneof![Just(0u32), 1u32..8, 1u32..3000],
        top_p in prop_oneof![Just(1.0f32), 0.0f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        temperature in 0.1f32..3.0,
    ) {
        let params = SamplingParams { top_k, top_p, min_p, temperature, ..params() };
        let (expect, margin) = reference(&params, &logits);
        // Where f32 and f64 may fall on two sides of a boundary, either is right.
        prop_assume!(margin > 1e-5);
        let have = sampler(params, logits.len()).distribution(&logits).expect("finite");
        // What is less likely than this may come out as impossible.
        let likely = |share: f64| share > 1e-9;
        let have = have.into_iter().map(|(token, share)| (token.index(), f64::from(share)));
        let have: BTreeMap<_, _> = have.filter(|&(_, share)| likely(share)).collect();
        let expect: BTreeMap<_, _> = expect.into_iter().filter(|&(_, share)| likely(share)).collect();
        prop_assert!(have.keys().eq(expect.keys()), "{:?} {:?}", have, expect);
        for (id, exact) in expect {
            prop_assert!((have[&id] - exact).abs() < 1e-5, "{} {}", have[&id], exact);
        }
    }

    #[test]
    fn what_is_drawn_was_left_by_the_chain(
        logits in prop::collection::vec(-10f32..10.0, 1..300),
        top_k in 0u32..20,
        top_p in 0.0f32..=1.0,
        seed in any::<u64>(),
    ) {
        let mut sampler = sampler(SamplingParams { top_k, top_p, seed: Some(seed), ..params() }, logits.len());
        let left = sampler.distribution(&logits).expect("finite");
        let sampled = sampler.sample(&logits).expect("finite");
        prop_assert!(left.iter().any(|&(token, share)| token == sampled.token && share > 0.0));
        let logprobs = top_logprobs(&logits, logits.len()).expect("finite");
        prop_assert!(logprobs.contains(&(sampled.token, sampled.logprob)));
    }
}

/// Pearson's statistic of counts against expected shares.
fn chi_squared(counts: &[u32], shares: &[f64]) -> f64 {
    let draws: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    let terms = counts.iter().zip(shares).map(|(&count, share)| {
        let expected = share * draws;
        (f64::from(count) - expected).powi(2) / expected
    });
    terms.sum()
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [1.0, 3.0, 2.0, 2.5, 0.0, 2.0, -1.0, 3.5];
    for params in [
        params(),
        SamplingParams {
            temperature: 0.5,
            ..params()
        },
        SamplingParams {
            temperature: 2.0,
            top_k: 6,
            ..params()
        },
        SamplingParams {
            top_p: 0.9,
            min_p: 0.1,
            ..params()
        },
    ] {
        let (expect, _) = reference(&params, &logits);
        let mut sampler = sampler(params.clone(), logits.len());
        let mut counts = [0; 8];
        for _ in 0..100_000 {
            counts[sampler.sample(&logits).expect("finite").token.index()] += 1;
        }
        let drawn: Vec<_> = expect.iter().map(|&(id, _)| counts[id]).collect();
        let shares: Vec<_> = expect.iter().map(|&(_, share)| share).collect();
        assert_eq!(
            drawn.iter().sum::<u32>(),
            100_000,
            "nothing else is drawn: {params:?}"
        );
        // With up to 7 degrees of freedom, 24.3 is exceeded once in a thousand; the seed is fixed.
        let statistic = chi_squared(&drawn, &shares);
        assert!(statistic < 24.3, "{statistic} {counts:?} {params:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let logits: Vec<f32> = (0..1000)
        .map(|id| ((id * 37) % 101) as f32 / 20.0)
        .collect();
    let draws = |seed| {
        let params = SamplingParams { seed, ..params() };
        let mut sampler = sampler(params, logits.len());
        let tokens: Vec<_> = (0..50)
            .map(|_| sampler.sample(&logits).expect("finite").token.0)
            .collect();
        (sampler.seed(), tokens)
    };
    assert_eq!(draws(Some(1)), draws(Some(1)));
    assert_ne!(draws(Some(1)).1, draws(Some(2)).1);
    // A made-up seed repeats the text once it is known.
    let (seed, tokens) = draws(None);
    assert_eq!(draws(Some(seed)).1, tokens);
    assert_ne!(draws(None).0, seed);
    // On every machine.
    assert_eq!(draws(Some(42)).1[..8], SEED_42);
}

const SEED_42: [u32; 8] = [229, 240, 764, 532, 969, 376, 188, 526];

#[test]
fn greedy_takes_the_first_of_the_likeliest() {
    let logits = [1.0, 5.0, 5.0, f32::NEG_INFINITY];
    for params in [
        SamplingParams::greedy(),
        SamplingParams {
            top_k: 1,
            ..params()
        },
        SamplingParams {
            top_p: 0.0,
            ..params()
        },
    ] {
        let mut sampler = sampler(params, 4);
        assert_eq!(sampler.distribution(&logits), Ok(vec![(TokenId(1), 1.0)]));
        let sampled = sampler.sample(&logits).expect("finite");
        assert_eq!(sampled.token, TokenId(1));
        assert!(
            (sampled.logprob - -0.702_23).abs() < 1e-4,
            "{}",
            sampled.logprob
        );
    }
}

#[test]
fn tokens_that_are_ruled_out_are_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 500];
    logits[3] = -1000.0;
    logits[400] = -1000.0;
    let mut sampler = sampler(
        SamplingParams {
            logit_bias: vec![(TokenId(3), f32::NEG_INFINITY)],
            ..params()
        },
        500,
    );
    for _ in 0..100 {
        assert_eq!(
            sampler.sample(&logits).expect("one is left").token,
            TokenId(400)
        );
    }
    logits[400] = f32::NEG_INFINITY;
    assert_eq!(sampler.sample(&logits), Err(SampleError::NoCandidate));
    logits[7] = f32::NAN;
    assert!(matches!(
        sampler.sample(&logits),
        Err(SampleError::BadLogit {
            token: TokenId(7),
            ..
        })
    ));
}

proptest! {
    #[test]
    fn a_masked_draw_is_a_draw_of_what_the_mask_leaves(
        logits in prop::collection::vec(-10f32..10.0, 1..300),
        words in prop::collection::vec(any::<u32>(), 10),
        top_k in 0u32..20,
        temperature in prop_oneof![Just(0.0f32), 0.1f32..2.0],
        seed in any::<u64>(),
    ) {
        let mask = TokenMask::from_words(words, logits.len());
        let params = SamplingParams {
            top_k,
            temperature,
            // However much a token is wanted, the mask decides.
            logit_bias: vec![(TokenId(0), 100.0)],
            seed: Some(seed),
            ..params()
        };
        let masked = sampler(params.clone(), logits.len()).sample_masked(&logits, &mask);
        let ruled_out: Vec<f32> = (0u32..)
            .zip(&logits)
            .map(|(id, &logit)| if mask.allows(TokenId(id)) { logit } else { f32::NEG_INFINITY })
            .collect();
        match sampler(params, logits.len()).sample(&ruled_out) {
            Ok(plain) => {
                let masked = masked.expect("one is left");
                prop_assert_eq!(masked.token, plain.token);
                prop_assert!(mask.allows(masked.token));
                let logprobs = top_logprobs(&logits, logits.len()).expect("finite");
                prop_assert!(logprobs.contains(&(masked.token, masked.logprob)), "of the model, not of the mask");
            }
            Err(_) => prop_assert_eq!(masked, Err(SampleError::NoneAllowed)),
        }
    }
}

#[test]
fn an_empty_mask_is_an_error_and_never_any_token() {
    let mut sampler = sampler(params(), 40);
    let nothing = TokenMask::nothing(40);
    assert_eq!(
        sampler.sample_masked(&[1.0; 40], &nothing),
        Err(SampleError::NoneAllowed)
    );
    let mut one = TokenMask::nothing(40);
    one.allow(TokenId(33));
    let mut logits = [1.0; 40];
    assert_eq!(
        sampler.sample_masked(&logits, &one).expect("one").token,
        TokenId(33)
    );
    logits[33] = f32::NEG_INFINITY;
    assert_eq!(
        sampler.sample_masked(&logits, &one),
        Err(SampleError::NoneAllowed)
    );
    logits[2] = f32::NAN;
    assert!(matches!(
        sampler.sample_masked(&logits, &one),
        Err(SampleError::BadLogit { .. })
    ));
}

#[test]
fn bias_is_added_and_penalties_count_what_was_seen() {
    let logits = [2.0, 2.0, -2.0, 2.0, 0.5];
    let params = SamplingParams {
        repeat_penalty: 2.0,
        presence_penalty: 0.25,
        frequency_penalty: 0.5,
        repeat_last_n: 4,
        logit_bias: vec![(TokenId(4), 1.5)],
        ..params()
    };
    let mut sampler = sampler(params, 5);
    let adjusted = |sampler: &mut Sampler| {
        sampler.adjust(&logits, None);
        sampler.adjusted.clone()
    };
    assert_eq!(adjusted(&mut sampler), [2.0, 2.0, -2.0, 2.0, 2.0]);
    // The prompt counts; what is beyond the window or the vocabulary does not.
    sampler.observe(&[TokenId(3), TokenId(99), TokenId(1), TokenId(2)]);
    sampler.accept(TokenId(1));
    assert_eq!(adjusted(&mut sampler), [2.0, -0.25, -4.75, 2.0, 2.0]);
    // Choosing is not accepting.
    sampler.sample(&logits).expect("finite");
    assert_eq!(adjusted(&mut sampler), [2.0, -0.25, -4.75, 2.0, 2.0]);
    sampler.accept(TokenId(4));
    sampler.accept(TokenId(4));
    assert_eq!(adjusted(&mut sampler), [2.0, 0.25, -4.75, 2.0, -0.25]);
}

#[test]
fn without_penalties_history_costs_nothing() {
    let mut sampler = sampler(params(), 5);
    sampler.observe(&[TokenId(1); 100]);
    assert!(!sampler.adjust(&[0.0; 5], None));
}

#[test]
fn parameters_out_of_range_are_refused() {
    assert_eq!(SamplingParams::default().validate(), Ok(()));
    assert_eq!(SamplingParams::greedy().validate(), Ok(()));
    let with = |change: fn(&mut SamplingParams)| {
        let mut params = SamplingParams::default();
        change(&mut params);
        params.validate().expect_err("out of range").to_string()
    };
    for (message, expect) in [
        (
            with(|p| p.temperature = -0.1),
            "temperature is -0.1, but goes from 0 to 100",
        ),
        (
            with(|p| p.temperature = f32::NAN),
            "temperature is NaN, but goes from 0 to 100",
        ),
        (
            with(|p| p.top_p = 1.5),
            "top_p is 1.5, but goes from 0 to 1",
        ),
        (
            with(|p| p.min_p = f32::INFINITY),
            "min_p is inf, but goes from 0 to 1",
        ),
        (
            with(|p| p.repeat_penalty = 0.0),
            "repeat_penalty is 0, but goes from 0.1 to 10",
        ),
        (
            with(|p| p.presence_penalty = 3.0),
            "presence_penalty is 3, but goes from -2 to 2",
        ),
        (
            with(|p| p.frequency_penalty = -3.0),
            "frequency_penalty is -3, but goes from -2 to 2",
        ),
        (
            with(|p| p.logit_bias = vec![(TokenId(1), 200.0)]),
            "logit_bias is 200, but goes from -100 to 100",
        ),
        (
            with(|p| p.logit_bias = vec![(TokenId(1), 1.0), (TokenId(1), 2.0)]),
            "logit_bias names token 1 twice",
        ),
    ] {
        assert_eq!(message, expect);
    }
    let params = SamplingParams {
        logit_bias: vec![(TokenId(9), 1.0)],
        ..SamplingParams::default()
    };
    let unknown = Sampler::new(params, 9).expect_err("beyond the vocabulary");
    assert_eq!(
        unknown,
        SampleError::UnknownToken {
            token: TokenId(9),
            n_vocab: 9
        }
    );
}
