//! Cards of models that are known by their ports.
//!
//! Whoever has such a file need not write a card. A port's name and shape are all that is looked at, so each of these
//! cards names its ports.

use troika_device_npu::exec::Port;

use super::Card;

static CARDS: [(&str, &str); 4] = [
    (
        "MediaPipe's selfie segmentation",
        include_str!("builtin/selfie_segmentation_landscape.toml"),
    ),
    ("MNIST by CNTK", include_str!("builtin/mnist_cntk.toml")),
    (
        "MNIST by PyTorch",
        include_str!("builtin/mnist_pytorch.toml"),
    ),
    ("MNIST by rten", include_str!("builtin/mnist_rten.toml")),
];

/// The card of a model that has exactly these ports, if it is known.
pub fn builtin(inputs: &[Port], outputs: &[Port]) -> Option<Card> {
    cards().find(|card| card.check(inputs, outputs).is_ok())
}

fn cards() -> impl Iterator<Item = Card> {
    CARDS.iter().map(|(name, text)| {
        Card::parse(text, &format!("built in: {name}"), None)
            .expect("cards that are built in are sound. This is a bug.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::Job;

    #[test]
    fn each_names_its_ports_and_no_two_are_alike() {
        let ports: Vec<_> = cards()
            .map(|card| {
                let output = match &card.job {
                    Job::Segment(mask) => &mask.output,
                    Job::Classify(scores) => &scores.output,
                    Job::Detect(boxes) => &boxes.output,
                    Job::Embed(vector) => &vector.output,
                };
                assert!(
                    card.picture.input.is_some() && output.is_some(),
                    "{}",
                    card.origin
                );
                (card.picture.input.clone(), output.clone())
            })
            .collect();
        assert_eq!(ports.len(), CARDS.len());
        for (index, one) in ports.iter().enumerate() {
            assert!(!ports[index + 1..].contains(one), "{one:?}");
        }
    }
}
