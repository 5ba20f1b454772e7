//! Which conversation reads what, with a graph whose logits tell the text that it has read.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::*;

const N_VOCAB: usize = 8;

/// Logits of a text: eight numbers that no other text has.
fn logits(text: &[TokenId]) -> Vec<f32> {
    let mut state = 17u32;
    let mut mix = |x: u32| {
        state = (state ^ x).wrapping_mul(0x9e37_79b1).rotate_left(13);
        state as f32
    };
    text.iter().for_each(|token| _ = mix(token.0));
    (0..N_VOCAB).map(|_| mix(1)).collect()
}

#[derive(Default)]
struct Told {
    begun: AtomicUsize,
    runs: Mutex<Vec<Range<usize>>>,
    /// The run, counted from now, that hears an interrupt; or that fails.
    breaks_at: AtomicUsize,
    fails_at: AtomicUsize,
}

struct Fake {
    manner: Manner,
    told: Arc<Told>,
}

struct Reader {
    told: Arc<Told>,
    read: Vec<TokenId>,
}

impl Graph for Fake {
    type Conversation = Reader;

    fn manner(&self) -> Manner {
        self.manner
    }

    fn begin(&self) -> Result<Reader, crate::Error> {
        self.told.begun.fetch_add(1, Relaxed);
        let (told, read) = (Arc::clone(&self.told), Vec::new());
        Ok(Reader { told, read })
    }
}

impl Conversation for Reader {
    fn read(
        &mut self,
        tokens: &[TokenId],
        position: usize,
        wanted: Option<&mut Vec<f32>>,
        _: &Interrupt,
    ) -> Result<bool, crate::Error> {
        let due = |count: &AtomicUsize| {
            let left = count.load(Relaxed);
            count.store(left.saturating_sub(1), Relaxed);
            left == 1
        };
        if position == 0 {
            self.read.clear();
        }
        // As much as is read before a run ends early is nobody's to know.
        self.read.extend_from_slice(tokens);
        if due(&self.told.breaks_at) {
            return Ok(false);
        }
        if due(&self.told.fails_at) {
            return Err(crate::Error::Cancelled);
        }
        assert_eq!(
            self.read.len(),
            position + tokens.len(),
            "it goes on where it was"
        );
        self.told
            .runs
            .lock()
            .unwrap()
            .push(position..position + tokens.len());
        if let Some(wanted) = wanted {
            wanted.extend(logits(&self.read));
        }
        Ok(true)
    }
}

const FREE: Manner = Manner {
    n_ctx: 128,
    chunk: 16,
    prompt: None,
    restarts: false,
};
const OF_PROMPTS: Manner = Manner {
    prompt: Some(128),
    restarts: true,
    ..FREE
};

fn resident(manner: Manner, n_slot: usize) -> (GraphResident<Fake>, Arc<Told>) {
    let told = Arc::<Told>::default();
    let graph = Fake {
        manner,
        told: Arc::clone(&told),
    };
    let spec = ModelSpec {
        architecture: "llama".to_owned(),
        name: None,
        n_layer: 1,
        n_embd: 1,
        n_head: 1,
        n_head_kv: 1,
        head_dim: 1,
        n_ff: 1,
        n_vocab: N_VOCAB,
        n_ctx: 128,
        norm_eps: 1e-5,
        experts: None,
        window: None,
        is_causal: true,
    };
    let resident = GraphResident::new("fake".to_owned(), spec, Bytes(1), graph, n_slot);
    (resident, told)
}

fn text(seed: u32, n_tok: u32) -> Vec<TokenId> {
    (0..n_tok)
        .map(|i| TokenId((seed + i * i) % N_VOCAB as u32))
        .collect()
}

fn step(
    resident: &mut GraphResident<Fake>,
    tokens: &[TokenId],
    position: usize,
    pages: &[usize],
    output: Output,
) -> Result<Vec<f32>, Error> {
    let sequences = [Sequence {
        tokens,
        position,
        pages,
        output,
    }];
    let outputs = resident.step(&Batch {
        sequences: &sequences,
    });
    outputs.map(|outputs| outputs.logits.values)
}

#[test]
fn an_answer_goes_on_with_its_conversation() {
    for manner in [FREE, OF_PROMPTS] {
        let (mut resident, told) = resident(manner, 1);
        let all = text(1, 40);
        step(&mut resident, &all[..20], 0, &[0], Output::LastLogits).unwrap();
        for at in 20..40 {
            let have = step(
                &mut resident,
                &all[at..=at],
                at,
                &[0, 1],
                Output::LastLogits,
            );
            assert_eq!(have.unwrap(), logits(&all[..=at]));
        }
        assert_eq!(told.begun.load(Relaxed), 1);
        let n_read: usize = told.runs.lock().unwrap().iter().map(Range::len).sum();
        assert_eq!(n_read, 40, "nothing is read twice");
    }
}

#[test]
fn texts_that_take_turns_are_right_with_any_number_of_slots() {
    for manner in [FREE, OF_PROMPTS] {
        for n_slot in 1..4 {
            let (mut resident, told) = resident(manner, n_slot);
            let all = [1, 2, 3].map(|seed| text(seed, 30));
            for end in 10..30 {
                for (i, text) in all.iter().enumerate() {
                    let start = if end == 10 { 0 } else { end - 1 };
                    // A slot has four pages; with one there are no more.
                    let page = if n_slot == 1 { [i] } else { [i + 3] };
                    let have = step(
                        &mut resident,
                        &text[start..end],
                        start,
                        &page,
                        Output::LastLogits,
                    );
                    assert_eq!(have.unwrap(), logits(&text[..end]));
                }
            }
            if n_slot == 3 {
                assert_eq!(told.begun.load(Relaxed), 3);
                let n_read: usize = told.runs.lock().unwrap().iter().map(Range::len).sum();
                assert_eq!(n_read, 3 * 29);
            }
        }
    }
}

#[test]
fn every_row_that_is_asked_for_is_there() {
    for manner in [FREE, OF_PROMPTS] {
        let (mut resident, _) = resident(manner, 1);
        let all = text(5, 40);
        let want: Vec<f32> = (1..=40).flat_map(|end| logits(&all[..end])).collect();
        assert_eq!(
            step(&mut resident, &all, 0, &[0, 1], Output::AllLogits).unwrap(),
            want
        );
        let end = step(&mut resident, &all[30..], 30, &[0, 1], Output::AllLogits);
        assert_eq!(end.unwrap(), want[30 * N_VOCAB..]);
        assert_eq!(
            step(&mut resident, &all, 0, &[2, 3], Output::Nothing).unwrap(),
            Vec::<f32>::new()
        );
    }
}

#[test]
fn a_prompt_in_pieces_is_read_when_all_of_it_is_known() {
    let (mut resident, told) = resident(OF_PROMPTS, 1);
    let all = text(4, 60);
    step(&mut resident, &all[..32], 0, &[0], Output::Nothing).unwrap();
    assert!(told.runs.lock().unwrap().is_empty());
    let have = step(&mut resident, &all[32..], 32, &[0, 1], Output::LastLogits);
    assert_eq!(have.unwrap(), logits(&all));
    assert_eq!(*told.runs.lock().unwrap(), vec![0..60]);
}

#[test]
fn what_was_broken_off_or_failed_is_read_again() {
    for manner in [FREE, OF_PROMPTS] {
        for breaks in [true, false] {
            let (mut resident, told) = resident(manner, 1);
            let all = text(6, 50);
            step(&mut resident, &all[..20], 0, &[0], Output::LastLogits).unwrap();
            let count = if breaks {
                &told.breaks_at
            } else {
                &told.fails_at
            };
            count.store(1, Relaxed);
            let ended = step(&mut resident, &all[20..], 20, &[0, 1], Output::LastLogits);
            match ended.unwrap_err() {
                Error::Interrupted => assert!(breaks),
                Error::Failed { .. } => assert!(!breaks),
                other => panic!("{other}"),
            }
            let again = step(&mut resident, &all[20..], 20, &[0, 1], Output::LastLogits);
            assert_eq!(again.unwrap(), logits(&all));
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let (mut resident, _) = resident(FREE, 2);
    let all = text(7, 129);
    let pages: Vec<usize> = (0..5).collect();
    let mut refused = |tokens: &[TokenId], position, output| match step(
        &mut resident,
        tokens,
        position,
        &pages,
        output,
    ) {
        Err(Error::Batch { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refused(&all, 0, Output::LastLogits).contains("compiled for 128"));
    assert!(refused(&all[..4], 3, Output::LastLogits).contains("token 0 was never read here"));
    assert!(refused(&all[..4], 0, Output::AllHidden).contains("hidden states"));
}
