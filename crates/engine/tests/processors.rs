//! The same numbers on every processor: sums of integers are exact, and floats are added in one order. What stands here was
//! computed on x86-64; `.ci/run arm` computes it with each kernel set for aarch64.
#![expect(
    clippy::unwrap_used,
    reason = "files that are not what they should be fail the test"
)]

mod common;

use troika_base::DType;
use troika_engine::{CpuDevice, Session};
use troika_gguf::ModelFile;

use common::{encode, generate, greedy, load, requantize::requantize, stories};

/// Long enough for full tiles of tokens and for what is left of them; as short as a chunk of attention, since joining
/// chunks takes the exponential of the system's library.
const PROMPT: &str = "Once upon a time there was a little dog named Max. Max liked to run in the park and to play with his red \
    ball. One day the ball rolled down the hill and into the river. Max was very";

/// The formats in files, how the story goes on, and the sum of the bits of all logits of the prompt.
const STORIES: [(DType, &str, u64); 3] = [
    (
        DType::Q8_0,
        " happy and ran around the river.\nMax saw a big, red",
        0xacec_7a3e_c04e_6ca6,
    ),
    (
        DType::Q4_K,
        " happy and couldn't wait to play with his ball.\nMax's",
        0xac79_a424_a2e9_a7c0,
    ),
    (
        DType::F16,
        " happy and ran around the river.\nMax saw a big, red",
        0x8f36_17fc_cd47_e5d4,
    ),
];

#[test]
fn a_story_goes_on_the_same_everywhere() {
    let have = STORIES.map(|(dtype, ..)| story(dtype));
    let want = STORIES.map(|(_, text, sum)| (text.to_owned(), sum));
    assert_eq!(have, want);
}

/// How the story goes on in a format, and the sum of its logits.
fn story(dtype: DType) -> (String, u64) {
    let bytes = requantize(&stories(), dtype);
    let file = ModelFile::from_bytes("stories", bytes).unwrap();
    let mut model = load(&file, &CpuDevice::batch_invariant(2));
    let prompt = encode(&model, PROMPT);
    assert_eq!(prompt.len(), 44);
    let logits = Session::new(&mut model).score(&prompt).unwrap();
    let sum = logits.rows().flatten().fold(0, |sum: u64, logit| {
        // The order counts, and every bit.
        sum.rotate_left(7).wrapping_add(logit.to_bits().into())
    });
    let (_, text, _) = generate(&mut Session::new(&mut model), &prompt, &greedy(14));
    (text, sum)
}
