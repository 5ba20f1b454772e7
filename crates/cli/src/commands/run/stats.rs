//! An answer's numbers, for people and for programs.

use serde::Serialize;
use troika_engine::{Finish, Model, Summary};

use super::Origin;
use super::writer::Answer;
use crate::output::number;

/// The line below an answer: what ran it, how fast.
pub(super) fn line(origin: &Origin, answer: &Answer, n_ctx: usize) -> String {
    format!(
        "{} · {} · {} · seed {}",
        origin.device.name(),
        origin.device.description(),
        speeds(&answer.summary, n_ctx),
        answer.summary.seed
    )
}

/// How much was read and written, how fast, and why it ended if the model did not end it.
pub(super) fn speeds(summary: &Summary, n_ctx: usize) -> String {
    let cached = match summary.cached_tokens {
        0 => String::new(),
        n => format!(" ({n} cached)"),
    };
    let mut text = format!(
        "prompt {}{cached}{} · answer {}{}",
        tokens(summary.prompt_tokens),
        rate(summary.prefill_tps()),
        tokens(summary.generated_tokens),
        rate(summary.decode_tps()),
    );
    if let (drafted @ 1.., right) = summary.drafted {
        text.push_str(&format!(" · drafted {drafted}, {right} right"));
    }
    match summary.finish {
        Finish::MaxTokens => text.push_str(" · stopped at --max-tokens"),
        Finish::ContextFull => {
            text.push_str(&format!(
                " · stopped: the context of {n_ctx} tokens is full"
            ));
        }
        Finish::Cancelled => text.push_str(" · stopped by you"),
        _ => {}
    }
    text
}

fn tokens(n: usize) -> String {
    match n {
        1 => "1 token".to_owned(),
        n => format!("{n} tokens"),
    }
}

fn rate(tps: Option<f64>) -> String {
    tps.map_or_else(String::new, |tps| format!(", {} tokens/s", number(tps)))
}

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    model: &'a str,
    device: String,
    kernels: String,
    threads: usize,
    n_ctx: usize,
    prompt_tokens: usize,
    cached_tokens: usize,
    generated_tokens: usize,
    prefill_tps: Option<f64>,
    decode_tps: Option<f64>,
    load_ms: f64,
    ttft_ms: Option<f64>,
    /// Tokens that were guessed ahead, and of these the ones that were right.
    #[serde(skip_serializing_if = "Option::is_none")]
    drafted_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_tokens: Option<usize>,
    finish: &'static str,
    seed: u64,
    text: &'a str,
}

impl<'a> Report<'a> {
    pub(super) fn new(origin: &'a Origin, model: &'a Model, answer: &'a Answer) -> Self {
        let summary = &answer.summary;
        Self {
            model: model.name(),
            device: origin.device.name(),
            kernels: origin.device.kernels(),
            threads: origin.device.threads(),
            n_ctx: model.n_ctx(),
            prompt_tokens: summary.prompt_tokens,
            cached_tokens: summary.cached_tokens,
            generated_tokens: summary.generated_tokens,
            prefill_tps: summary.prefill_tps(),
            decode_tps: summary.decode_tps(),
            load_ms: origin.load.as_secs_f64() * 1e3,
            ttft_ms: answer.ttft.map(|ttft| ttft.as_secs_f64() * 1e3),
            drafted_tokens: answer.drafts.then_some(summary.drafted.0),
            accepted_tokens: answer.drafts.then_some(summary.drafted.1),
            finish: finish_name(summary.finish),
            seed: summary.seed,
            text: &answer.text,
        }
    }
}

fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::EndOfText => "end_of_text",
        Finish::StopString => "stop",
        Finish::MaxTokens => "max_tokens",
        Finish::ContextFull => "context_full",
        Finish::Cancelled => "cancelled",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn speeds_are_one_line() {
        let mut summary = Summary {
            finish: Finish::EndOfText,
            prompt_tokens: 5,
            cached_tokens: 0,
            generated_tokens: 201,
            prefill: Duration::from_millis(10),
            decode: Duration::from_secs(2),
            seed: 42,
            drafted: (0, 0),
        };
        assert_eq!(
            speeds(&summary, 512),
            "prompt 5 tokens, 500 tokens/s · answer 201 tokens, 100 tokens/s"
        );
        summary.drafted = (90, 60);
        assert!(speeds(&summary, 512).ends_with("100 tokens/s · drafted 90, 60 right"));
        summary.drafted = (0, 0);
        summary.cached_tokens = 4;
        summary.generated_tokens = 1;
        summary.finish = Finish::ContextFull;
        assert_eq!(
            speeds(&summary, 512),
            "prompt 5 tokens (4 cached), 100 tokens/s · answer 1 token · stopped: the context of 512 tokens is full"
        );
    }
}
