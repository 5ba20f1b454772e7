//! Sessions and sequences over the story model: what is computed again, what is shared, and how an answer ends.

mod common;

use std::ops::ControlFlow;

use common::{cpu, encode, generate, greedy, load, load_with, stories};
use troika_base::TokenId;
use troika_device::{Output, PAGE_TOKENS};
use troika_engine::sampler::SamplingParams;
use troika_engine::{
    CpuDevice, DraftModel, Drafter, Error, Event, Finish, GenerateOptions, Model, PromptLookup,
    Sequence, Session, Step,
};

const PROMPT: &str = "Once upon a time, there was a little girl named Lily. She had a";

/// The story model with room for `n_ctx` tokens.
fn story_model(n_ctx: usize) -> Model {
    load_with(&stories(), &CpuDevice::batch_invariant(2), n_ctx)
}

fn step<'s>(sequence: &'s mut Sequence, tokens: &'s [TokenId]) -> Step<'s> {
    Step {
        sequence,
        tokens,
        output: Output::LastLogits,
    }
}

fn argmax(logits: &[f32]) -> TokenId {
    let largest = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1);
    let found = logits.iter().enumerate().max_by(largest);
    let (token, _) = found.expect("a vocabulary has tokens");
    TokenId(token as u32)
}

#[test]
fn a_longer_conversation_reads_only_what_is_new() {
    let mut model = story_model(512);
    let prompt = encode(&model, PROMPT);
    let mut session = Session::new(&mut model);
    let (answer, _, first) = generate(&mut session, &prompt, &greedy(12));
    assert_eq!((first.cached_tokens, first.generated_tokens), (0, 12));
    // The last token was written, but never read.
    let held = prompt.len() + 11;
    assert_eq!(session.tokens().len(), held);

    let question = encode(session.model(), " Then the big dog");
    let longer = [&prompt[..], &answer, &question[1..]].concat();
    let (_, text, second) = generate(&mut session, &longer, &greedy(20));
    assert_eq!(
        (second.prompt_tokens, second.cached_tokens),
        (longer.len(), held)
    );

    let (_, fresh, summary) = generate(&mut Session::new(&mut model), &longer, &greedy(20));
    assert_eq!((text, 0), (fresh, summary.cached_tokens));
}

#[test]
fn another_conversation_keeps_what_it_has_in_common() {
    let mut model = story_model(512);
    let prompt = encode(&model, PROMPT);
    let mut other = prompt.clone();
    other[9] = TokenId(other[9].0 + 1);
    let want = generate(&mut Session::new(&mut model), &other, &greedy(10)).1;
    let mut session = Session::new(&mut model);
    generate(&mut session, &prompt, &greedy(10));
    let (_, text, summary) = generate(&mut session, &other, &greedy(10));
    assert_eq!((summary.cached_tokens, text), (9, want));
}

#[test]
fn an_answer_that_is_taken_back_is_written_again() {
    let mut model = story_model(512);
    let prompt = encode(&model, PROMPT);
    let mut session = Session::new(&mut model);
    let (_, first, _) = generate(&mut session, &prompt, &greedy(40));
    for kept in [prompt.len() + 7, prompt.len(), 3, 0] {
        session.truncate(kept);
        assert_eq!((session.tokens().len(), session.room()), (kept, 512 - kept));
        let (_, again, summary) = generate(&mut session, &prompt, &greedy(40));
        assert_eq!(again, first);
        // The prompt's last token is read again for its logits.
        assert_eq!(summary.cached_tokens, kept.min(prompt.len() - 1));
    }
}

#[test]
fn stop_strings_may_lie_across_tokens() {
    let mut model = story_model(512);
    let prompt = encode(&model, PROMPT);
    let mut session = Session::new(&mut model);
    let mut pieces = Vec::new();
    session
        .generate(&prompt, &greedy(24), &mut |event| {
            if let Event::Text(piece) = event {
                pieces.push(piece.to_owned());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let whole = pieces.concat();
    for pair in pieces.windows(2).filter(|pair| pair[0].len() > 1) {
        let (end, begin) = (
            &pair[0][pair[0].len() - 2..],
            &pair[1][..2.min(pair[1].len())],
        );
        let options = GenerateOptions {
            stop: vec![
                "never in a story for children".to_owned(),
                [end, begin].concat(),
            ],
            ..greedy(24)
        };
        let (_, text, summary) = generate(&mut session, &prompt, &options);
        let stop = whole.find(&options.stop[1]).unwrap();
        assert_eq!(text, whole[..stop], "stopped at {:?}", options.stop[1]);
        assert_eq!(summary.finish, Finish::StopString);
    }
    let options = GenerateOptions {
        stop: vec![format!("{}x", &whole[whole.len() - 3..])],
        ..greedy(24)
    };
    let (_, text, summary) = generate(&mut session, &prompt, &options);
    assert_eq!(
        (text, summary.finish),
        (whole, Finish::MaxTokens),
        "what is held back comes at the end"
    );
}

#[test]
fn an_answer_has_as_many_tokens_as_asked_for() {
    let mut model = story_model(512);
    let prompt = encode(&model, PROMPT);
    let mut session = Session::new(&mut model);
    let (all, ..) = generate(&mut session, &prompt, &greedy(9));
    for n in [0, 1, 2, 9] {
        let (tokens, text, summary) = generate(&mut session, &prompt, &greedy(n));
        assert_eq!(tokens, all[..n]);
        assert_eq!(
            (summary.generated_tokens, summary.finish),
            (n, Finish::MaxTokens)
        );
        assert_eq!(text.is_empty(), n == 0);
    }
}

#[test]
fn a_story_ends_where_the_model_ends_it() {
    let mut model = story_model(512);
    let prompt = encode(&model, PROMPT);
    let options = GenerateOptions {
        max_tokens: None,
        ..greedy(0)
    };
    let (tokens, text, summary) = generate(&mut Session::new(&mut model), &prompt, &options);
    assert_eq!(summary.finish, Finish::EndOfText, "{text}");
    let end = |token: &TokenId| model.tokenizer().is_end_of_generation(*token);
    assert!(
        !tokens.iter().any(end),
        "what ends the text is no part of it"
    );
}

#[test]
fn a_context_that_is_full_ends_the_answer() {
    let mut model = story_model(PAGE_TOKENS);
    let prompt = encode(&model, PROMPT);
    let mut session = Session::new(&mut model);
    let (_, text, summary) = generate(&mut session, &prompt, &greedy(1000));
    assert_eq!(summary.finish, Finish::ContextFull);
    // One more than there is room for: the last one need not be read.
    assert_eq!(summary.generated_tokens, PAGE_TOKENS - prompt.len() + 1);
    assert_eq!((session.room(), text.is_empty()), (0, false));
    assert!(matches!(
        session.decode(TokenId(1)),
        Err(Error::CacheFull { .. })
    ));

    let long: Vec<TokenId> = prompt
        .iter()
        .copied()
        .cycle()
        .take(PAGE_TOKENS + 1)
        .collect();
    let too_long = session.generate(&long, &greedy(1), &mut |_| ControlFlow::Continue(()));
    let want = (PAGE_TOKENS + 1, PAGE_TOKENS);
    assert!(
        matches!(too_long, Err(Error::PromptTooLong { prompt, context }) if (prompt, context) == want)
    );
    let empty = session.generate(&[], &greedy(1), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(empty, Err(Error::EmptyPrompt)));
    // A prompt that fills it to the last place still has a next token.
    let (tokens, _, summary) = generate(&mut session, &long[..PAGE_TOKENS], &greedy(5));
    assert_eq!((tokens.len(), summary.finish), (1, Finish::ContextFull));
}

#[test]
fn what_is_broken_off_can_go_on() {
    let mut model = story_model(1024);
    let prompt = encode(&model, &PROMPT.repeat(40));
    assert!(prompt.len() > 600, "more than one step of prefill");
    let (_, want, _) = generate(&mut Session::new(&mut model), &prompt, &greedy(8));
    let mut session = Session::new(&mut model);

    let mut heard = 0;
    let summary = session
        .generate(&prompt, &greedy(8), &mut |event| match event {
            Event::Prompt { done, total } => {
                assert_eq!(total, prompt.len());
                heard = done;
                ControlFlow::Break(())
            }
            _ => panic!("nothing was to be written"),
        })
        .unwrap();
    assert_eq!(
        (summary.finish, summary.generated_tokens),
        (Finish::Cancelled, 0)
    );
    assert!(heard > 0 && heard < prompt.len());
    assert_eq!(session.tokens(), &prompt[..heard]);

    let mut tokens = 0;
    let summary = session
        .generate(&prompt, &greedy(8), &mut |event| {
            tokens += usize::from(matches!(event, Event::Token { .. }));
            match tokens {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
        .unwrap();
    assert_eq!(
        (summary.finish, summary.generated_tokens),
        (Finish::Cancelled, 3)
    );
    assert_eq!(summary.cached_tokens, heard);
    let (_, text, summary) = generate(&mut session, &prompt, &greedy(8));
    assert_eq!((text, summary.finish), (want, Finish::MaxTokens));
}

#[test]
fn the_same_seed_writes_the_same_text_on_any_number_of_threads() {
    let options = |seed| GenerateOptions {
        max_tokens: Some(40),
        sampling: SamplingParams {
            temperature: 1.0,
            seed: Some(seed),
            ..SamplingParams::default()
        },
        ..GenerateOptions::default()
    };
    let write = |threads, seed| {
        let mut model = load(&stories(), &cpu(threads));
        let prompt = encode(&model, PROMPT);
        let (tokens, text, summary) =
            generate(&mut Session::new(&mut model), &prompt, &options(seed));
        assert_eq!(summary.seed, seed);
        (tokens, text)
    };
    let one = write(1, 7);
    assert_eq!(write(2, 7), one);
    assert_eq!(write(3, 7), one);
    assert_ne!(write(2, 8), one);
}

#[test]
fn log_probabilities_are_those_of_a_distribution() {
    let mut model = story_model(512);
    let prompt = encode(&model, PROMPT);
    let n_vocab = model.tokenizer().n_vocab();
    for n_top in [5, n_vocab] {
        let options = GenerateOptions {
            top_logprobs: n_top,
            ..greedy(6)
        };
        let mut places = 0;
        Session::new(&mut model)
            .generate(&prompt, &options, &mut |event| {
                if let Event::Token { sampled, top } = event {
                    places += 1;
                    assert_eq!(top.len(), n_top);
                    assert_eq!(
                        top[0],
                        (sampled.token, sampled.logprob),
                        "greedy takes the first"
                    );
                    assert!(top.is_sorted_by(|a, b| a.1 >= b.1));
                    let sum: f64 = top
                        .iter()
                        .map(|(_, logprob)| f64::from(*logprob).exp())
                        .sum();
                    let is_all = (sum - 1.0).abs() < 1e-4;
                    assert!(if n_top == n_vocab { is_all } else { sum < 1.0 }, "{sum}");
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(places, 6);
    }
}

#[test]
fn forks_share_pages_and_go_on_alike() {
    let mut model = story_model(9 * PAGE_TOKENS);
    let prompt: Vec<TokenId> = encode(&model, &PROMPT.repeat(6))[..2 * PAGE_TOKENS + 5].to_vec();
    let mut first = Sequence::default();
    let outputs = model.step(&mut [step(&mut first, &prompt)]).unwrap();
    assert_eq!(model.n_free(), 6 * PAGE_TOKENS);
    let mut fork = first.fork(prompt.len());
    let shorter = first.fork(2 * PAGE_TOKENS);
    assert_eq!(model.n_free(), 6 * PAGE_TOKENS, "a fork takes nothing");

    // Side by side, and each on its own.
    let next = [argmax(outputs.logits.last().unwrap())];
    let both = model
        .step(&mut [step(&mut first, &next), step(&mut fork, &next)])
        .unwrap();
    assert_eq!(model.n_free(), 5 * PAGE_TOKENS, "one page was copied");
    let rows: Vec<&[f32]> = both.logits.rows().collect();
    assert_eq!(rows[0], rows[1]);
    let mut others = [first.clone(), fork.clone()];
    for (sequence, token) in others.iter_mut().zip([TokenId(300), TokenId(301)]) {
        model.step(&mut [step(sequence, &[token])]).unwrap();
    }
    let next = [argmax(rows[0])];
    let one = model.step(&mut [step(&mut first, &next)]).unwrap();
    let other = model.step(&mut [step(&mut fork, &next)]).unwrap();
    assert_eq!(one, other, "what their forks wrote is not seen");

    let whole = first.tokens().to_vec();
    let mut fresh = Sequence::default();
    let fresh_outputs = model.step(&mut [step(&mut fresh, &whole)]).unwrap();
    assert_eq!(
        fresh_outputs.logits.last().map(argmax),
        one.logits.last().map(argmax)
    );
    drop((first, fork, others, fresh));
    assert_eq!(
        model.n_free(),
        7 * PAGE_TOKENS,
        "the shorter fork holds two"
    );
    drop(shorter);
    assert_eq!(model.n_free(), 9 * PAGE_TOKENS);
}

#[test]
fn a_step_that_fails_changes_nothing() {
    let mut model = story_model(4 * PAGE_TOKENS);
    let long: Vec<TokenId> = encode(&model, &PROMPT.repeat(8))[..3 * PAGE_TOKENS].to_vec();
    let (mut first, mut second) = (Sequence::default(), Sequence::default());
    model
        .step(&mut [
            step(&mut first, &long[..40]),
            step(&mut second, &long[..20]),
        ])
        .unwrap();
    assert_eq!(model.n_free(), PAGE_TOKENS);
    let next = [long[40]];
    let want = model.step(&mut [step(&mut first.clone(), &next)]).unwrap();

    let full = model.step(&mut [step(&mut first, &next), step(&mut second, &long)]);
    assert!(matches!(full, Err(Error::CacheFull { .. })), "{full:?}");
    // A fork's page is not copied for a step that another sequence has no room for.
    let mut fork = first.fork(39);
    let full = model.step(&mut [step(&mut fork, &next), step(&mut second, &next.repeat(40))]);
    assert!(
        matches!(full, Err(Error::CacheFull { wanted: 2, free: 1 })),
        "{full:?}"
    );
    assert_eq!(model.n_free(), PAGE_TOKENS);
    drop(fork);
    let unknown = [TokenId(u32::MAX)];
    let bad = model.step(&mut [step(&mut second, &long[..20]), step(&mut first, &unknown)]);
    assert!(matches!(bad, Err(Error::Device(_))), "{bad:?}");
    let empty = model.step(&mut [step(&mut second, &[]), step(&mut first, &next)]);
    assert!(matches!(empty, Err(Error::Device(_))), "{empty:?}");
    assert!(matches!(model.step(&mut []), Err(Error::Device(_))));

    assert_eq!(
        (first.tokens(), second.tokens()),
        (&long[..40], &long[..20])
    );
    assert_eq!(model.n_free(), PAGE_TOKENS);
    assert_eq!(model.step(&mut [step(&mut first, &next)]).unwrap(), want);
    // There is room again as soon as somebody leaves.
    drop(first);
    model.step(&mut [step(&mut second, &long[..60])]).unwrap();
}

/// Drafts that are right, wrong, too long, and none: what they are is up to the text.
struct Muddled {
    truth: Vec<TokenId>,
    calls: usize,
}

impl Drafter for Muddled {
    fn draft(
        &mut self,
        text: &[TokenId],
        most: usize,
        out: &mut Vec<TokenId>,
    ) -> Result<(), Error> {
        self.calls += 1;
        let right = self.truth.iter().skip(text.len()).take(most);
        out.extend(right);
        // Wrong from a place on that wanders.
        for token in out.iter_mut().skip(self.calls % 5) {
            *token = TokenId((token.0 + 1) % 100);
        }
        out.truncate(self.calls % 7);
        Ok(())
    }
}

#[test]
fn drafts_change_no_token() {
    let mut model = story_model(256);
    let prompt = encode(&model, PROMPT);
    let sampling = |seed| GenerateOptions {
        max_tokens: Some(60),
        sampling: SamplingParams {
            seed: Some(seed),
            ..SamplingParams::default()
        },
        ..GenerateOptions::default()
    };
    for options in [greedy(60), sampling(1), sampling(2)] {
        let mut session = Session::new(&mut model);
        let (plain, text, summary) = generate(&mut session, &prompt, &options);
        assert_eq!(summary.drafted, (0, 0));
        let truth = [&prompt[..], &plain].concat();
        let mut muddled = Muddled { truth, calls: 0 };
        let mut written = String::new();
        let mut session = Session::new(&mut model);
        let on = &mut |event: Event<'_>| {
            if let Event::Text(piece) = event {
                written.push_str(piece);
            }
            ControlFlow::Continue(())
        };
        let summary = session.generate_with_drafts(&prompt, &options, &mut muddled, 12, on);
        let (drafted, right) = summary.expect("written").drafted;
        assert_eq!(written, text);
        assert!(0 < right && right < drafted, "{right} of {drafted}");
        assert!(muddled.calls < plain.len(), "{} steps", muddled.calls);
        // What was drafted and not used is not held; the last token was never read.
        assert_eq!(
            session.tokens(),
            &[&prompt[..], &plain[..plain.len() - 1]].concat()
        );
    }
}

#[test]
fn a_draft_model_and_the_text_itself_draft_what_is_right() {
    let mut model = story_model(256);
    let mut small = story_model(200);
    let prompt = encode(&model, PROMPT);
    let options = greedy(50);
    let (_, text, _) = generate(&mut Session::new(&mut model), &prompt, &options);
    let draft = |drafter: &mut dyn Drafter, model: &mut Model| {
        let mut written = String::new();
        let on = &mut |event: Event<'_>| {
            if let Event::Text(piece) = event {
                written.push_str(piece);
            }
            ControlFlow::Continue(())
        };
        let mut session = Session::new(model);
        let summary = session.generate_with_drafts(&prompt, &options, drafter, 8, on);
        let drafted = summary.expect("written").drafted;
        assert_eq!(written, text);
        drafted
    };
    let session = Session::new(&mut small);
    let mut same = DraftModel::new(session, &model).expect("the same vocabulary");
    let (drafted, right) = draft(&mut same, &mut model);
    // It is the model itself.
    assert_eq!(drafted, right);
    assert!(right >= 40, "{right}");
    let (drafted, right) = draft(&mut PromptLookup::default(), &mut model);
    assert!(right <= drafted, "{right} of {drafted}");
}
