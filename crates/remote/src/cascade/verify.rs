//! The judge that asks: the local model reads its own answer, and is asked whether it is right.

use troika_engine::chat::{ChatMessage, Content};
use troika_job::{
    ApiError, ChatPrompt, Choice, Format, Job, Prompt, Report, Sampling, TokenLogprob,
};

use super::{Local, Sureness};

/// What the model is asked. One word is wanted, whose first token tells.
const QUESTION: &str = "Is your last answer right and complete? Say only yes or no.";

/// The same after a text that goes on, where there is no conversation.
const QUESTION_OF_TEXT: &str =
    "\n\nIs the text above right and complete? Say only yes or no.\nAnswer:";

/// The likeliest tokens that are looked through for a yes and a no.
const RIVALS: usize = 20;

/// A model that gives less than this to yes and no together answers something else.
const LEAST_SAID: f64 = 0.1;

/// How sure the model is that its answer is right, and what asking it took.
pub(super) async fn verify(
    local: &dyn Local,
    job: &Job,
    choice: &Choice,
) -> (Sureness, Option<Box<Report>>) {
    let Some(question) = question(job, choice) else {
        let why = "a prompt of bare tokens has nothing to ask about".to_owned();
        return (Sureness::Unknown(why), None);
    };
    let asked = async { local.submit(question).await?.collect().await };
    match asked.await {
        Ok(completed) => {
            let tokens = completed.choices.first().map(|choice| &*choice.tokens);
            (says_yes(tokens.unwrap_or_default()), completed.usage.report)
        }
        Err(ApiError { message, .. }) => {
            let why = format!("the model could not be asked about its answer: {message}");
            (Sureness::Unknown(why), None)
        }
    }
}

/// The job that asks. It goes on from the conversation, whose tokens are in the prefix cache.
fn question(job: &Job, choice: &Choice) -> Option<Job> {
    let answer = spoken(choice);
    let prompt = match &job.prompt {
        Prompt::Chat(chat) => Prompt::Chat(Box::new(asked(chat, &answer))),
        Prompt::Text(text) => Prompt::Text(format!("{text}{answer}{QUESTION_OF_TEXT}")),
        Prompt::Rendered(text) => Prompt::Rendered(format!("{text}{answer}{QUESTION_OF_TEXT}")),
        Prompt::Tokens(_) => return None,
    };
    Some(Job {
        model: job.model.clone(),
        prompt,
        n: 1,
        max_tokens: Some(1),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        stop: Vec::new(),
        ignore_end: false,
        top_logprobs: Some(RIVALS),
        format: Format::Text,
        ..job.clone()
    })
}

/// The conversation with the answer and the question after it.
fn asked(chat: &ChatPrompt, answer: &str) -> ChatPrompt {
    let mut chat = chat.clone();
    match chat.messages.last_mut() {
        Some(last) if chat.continue_last => {
            let begun = last.content.as_text().unwrap_or_default();
            last.content = Content::Text(begun + answer);
        }
        _ => chat.messages.push(ChatMessage::new("assistant", answer)),
    }
    chat.messages.push(ChatMessage::new("user", QUESTION));
    chat.continue_last = false;
    // A thought would come before the word that is waited for, and a call instead of it.
    chat.thinking = Some(false);
    chat.tools = Vec::new();
    chat
}

/// What an answer says, calls as the JSON that they are: no template shows a call that nobody has answered.
fn spoken(choice: &Choice) -> String {
    let calls = choice.tool_calls.iter().map(|call| {
        let function = &call.function;
        format!("{}({})", function.name, function.arguments)
    });
    let content = (!choice.content.is_empty()).then(|| choice.content.clone());
    let all: Vec<String> = content.into_iter().chain(calls).collect();
    all.join("\n")
}

/// The probability of a yes, of yes and no together.
fn says_yes(tokens: &[TokenLogprob]) -> Sureness {
    let Some(first) = tokens.first() else {
        return Sureness::Unknown("the model says nothing about its answer".to_owned());
    };
    // The token that was chosen is mostly among the likeliest, and must not count twice.
    let rest = first.top.iter().filter(|token| token.id != first.id);
    let (mut yes, mut no) = (0.0, 0.0);
    for token in std::iter::once(first).chain(rest) {
        let probability = f64::from(token.logprob).exp();
        match word(&token.text()) {
            Some(true) => yes += probability,
            Some(false) => no += probability,
            None => {}
        }
    }
    let said: f64 = yes + no;
    if said.is_finite() && said >= LEAST_SAID {
        Sureness::Score(yes / said)
    } else {
        Sureness::Unknown("the model says neither yes nor no of its answer".to_owned())
    }
}

/// Whether a token is a yes, a no, or the beginning of one: small vocabularies write words in pieces.
fn word(token: &str) -> Option<bool> {
    let is_edge = |c: char| c.is_whitespace() || c.is_ascii_punctuation() || c == '\u{2581}';
    let word = token.trim_matches(is_edge).to_lowercase();
    match &*word {
        "y" | "ye" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use troika_job::FinishReason;

    use super::*;

    fn token(id: u32, text: &str, probability: f32) -> TokenLogprob {
        TokenLogprob {
            id,
            bytes: text.as_bytes().to_vec(),
            logprob: probability.ln(),
            top: Vec::new(),
        }
    }

    #[test]
    fn a_yes_counts_once_however_it_is_written() {
        let mut first = token(1, " Yes", 0.5);
        first.top = vec![
            token(1, " Yes", 0.5),
            token(2, "yes", 0.1),
            token(3, "No.", 0.2),
            token(4, "Yesterday", 0.1),
        ];
        let Sureness::Score(score) = says_yes(&[first]) else {
            panic!("yes and no are among them");
        };
        assert!((score - 0.75).abs() < 1e-6, "{score}");
    }

    #[test]
    fn what_is_neither_yes_nor_no_is_not_known() {
        let mut first = token(1, "<think>", 0.95);
        first.top = vec![token(2, "Yes", 0.05)];
        assert!(matches!(says_yes(&[first]), Sureness::Unknown(_)));
        assert!(matches!(says_yes(&[]), Sureness::Unknown(_)));
    }

    #[test]
    fn the_question_goes_on_from_the_conversation() {
        let mut chat = ChatPrompt {
            messages: vec![ChatMessage::new("user", "2 + 2?")],
            ..ChatPrompt::default()
        };
        let turns = |chat: &ChatPrompt| -> Vec<(String, String)> {
            let turns = chat.messages.iter();
            turns
                .map(|turn| (turn.role.clone(), turn.content.as_text().expect("text")))
                .collect()
        };
        let owned = |role: &str, text: &str| (role.to_owned(), text.to_owned());
        assert_eq!(
            turns(&asked(&chat, "4")),
            [
                owned("user", "2 + 2?"),
                owned("assistant", "4"),
                owned("user", QUESTION)
            ]
        );
        chat.messages.push(ChatMessage::new("assistant", "It is"));
        chat.continue_last = true;
        let continued = asked(&chat, " 4");
        assert_eq!(turns(&continued)[1], owned("assistant", "It is 4"));
        assert!(!continued.continue_last);
    }

    #[test]
    fn bare_tokens_cannot_be_asked_about() {
        let choice = Choice {
            content: "x".to_owned(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            tokens: Vec::new(),
            finish: FinishReason::EndOfText,
        };
        let mut job = Job {
            prompt: Prompt::Tokens(vec![1]),
            ..Job::default()
        };
        assert!(question(&job, &choice).is_none());
        job.prompt = Prompt::Text("Once".to_owned());
        job.format = Format::JsonObject;
        job.stop = vec!["o".to_owned()];
        let asked = question(&job, &choice).expect("a text");
        assert_eq!(asked.format, Format::Text);
        assert!(asked.stop.is_empty() && asked.max_tokens == Some(1));
    }
}
