//! The model against what is known of it by hand: sizes, intervals, and how speeds move with their causes.

use super::*;
use crate::model::Experts;
use crate::model::llama_8b;
use troika_base::{Bytes, DeviceKind, MemoryPool, NumberFormat, Rate, Unit};

fn card(bandwidth: f64, memory_gb: u64) -> DeviceProfile {
    DeviceProfile {
        vendor: "nvidia".into(),
        family: Some("ada".into()),
        memory: Some(Bytes(memory_gb << 30)),
        memory_pool: MemoryPool::Own,
        bandwidth_peak_gbs: Some(bandwidth),
        rates: vec![Rate {
            format: NumberFormat::Int8,
            unit: Unit::Matrix,
            dense_tops: Some(660.0),
            sparse_tops: Some(1320.0),
        }],
        watts_limit: Some(450.0),
        ..DeviceProfile::unknown("card", DeviceKind::Gpu)
    }
}

fn processor() -> DeviceProfile {
    DeviceProfile {
        memory: Some(Bytes(64 << 30)),
        memory_pool: MemoryPool::Shared,
        bandwidth_measured_gbs: Some(60.0),
        rates_measured: vec![Rate {
            format: NumberFormat::Int8,
            unit: Unit::Matrix,
            dense_tops: Some(4.0),
            sparse_tops: None,
        }],
        ..DeviceProfile::unknown("processor", DeviceKind::Cpu)
    }
}

fn on<'a>(devices: &[&'a DeviceProfile]) -> Setup<'a> {
    Setup::by_layers(devices.iter().map(|device| Slot::all_of(device)), None)
}

fn work() -> Work {
    Work {
        gen_tokens: 128,
        context: 4096,
        ..Work::alone(512, 0)
    }
}

fn q4() -> Quantization {
    Quantization::parse("Q4_K_M").expect("known")
}

fn ask(setup: &Setup<'_>, work: &Work) -> Forecast {
    forecast(setup, &llama_8b(), &q4(), work, None).expect("it fits")
}

#[test]
fn a_fast_card_is_as_fast_as_such_cards_are() {
    let card = card(1008.0, 24);
    let got = ask(&on(&[&card]), &work());
    assert!(
        (100.0..180.0).contains(&got.decode_tps.value),
        "{:?}",
        got.decode_tps
    );
    let prefill = got.prefill_tps.expect("rates are known");
    assert!((4_000.0..14_000.0).contains(&prefill.value), "{prefill:?}");
    assert!(got.ttft_s.expect("known").value < 0.2);
    let watts = got.watts_decode.expect("a limit is known");
    assert!(watts.low < watts.value && watts.high <= 450.0);
    let idle = got.watts_idle.expect("a limit is known");
    assert!(
        0.0 < idle.low && idle.high < watts.low,
        "{idle:?} at rest, {watts:?} at work"
    );
}

#[test]
fn more_bandwidth_is_faster_and_more_depth_is_slower() {
    let (slow, fast) = (card(500.0, 24), card(1000.0, 24));
    let at = |device, depth| {
        ask(
            &on(&[device]),
            &Work {
                depth,
                context: 65_536,
                ..work()
            },
        )
        .decode_tps
        .value
    };
    assert!(at(&fast, 0) > 1.5 * at(&slow, 0));
    assert!(at(&slow, 32_768) < 0.8 * at(&slow, 0));
}

#[test]
fn a_batch_writes_more_in_all_and_less_for_each() {
    let card = card(1008.0, 24);
    let at = |batch| ask(&on(&[&card]), &Work { batch, ..work() });
    let (one, eight) = (at(1), at(8));
    assert!(eight.decode_tps_all.value > 4.0 * one.decode_tps_all.value);
    assert!(eight.decode_tps.value < one.decode_tps.value);
}

#[test]
fn what_does_not_fit_spills_to_the_processor_or_is_refused() {
    let small = card(1008.0, 4);
    let processor = processor();
    let refusal =
        forecast(&on(&[&small]), &llama_8b(), &q4(), &work(), None).expect_err("5 GB into 4");
    assert!(
        matches!(refusal, Refusal::DoesNotFit { needs, has } if needs > has),
        "{refusal}"
    );
    let split = ask(&on(&[&small, &processor]), &work());
    assert_eq!(split.layers.iter().sum::<u32>(), 32);
    assert!(
        split.layers.iter().all(|&layers| layers > 0),
        "{:?}",
        split.layers
    );
    assert!(!split.notes.is_empty(), "a spill is told");
    let big = card(1008.0, 24);
    assert!(split.decode_tps.value < ask(&on(&[&big]), &work()).decode_tps.value / 2.0);
}

#[test]
fn two_cards_halve_the_memory_and_by_tensors_the_time() {
    let card = card(936.0, 24);
    let mut pair = on(&[&card, &card]);
    let layers = ask(&pair, &work());
    assert_eq!(layers.layers, [16, 16]);
    let one = ask(&on(&[&card]), &work());
    assert!(
        layers.decode_tps.value <= one.decode_tps.value,
        "one after the other"
    );
    pair.split = Split::Tensors;
    pair.link_gbs = Some(50.0);
    let tensors = ask(&pair, &work());
    assert!(
        tensors.decode_tps.value > 1.2 * one.decode_tps.value,
        "at once"
    );
}

/// 32 layers of 128 experts, of which a token goes to 8.
fn mixture() -> ModelShape {
    ModelShape {
        params: 30_000_000_000,
        params_active: 3_000_000_000,
        n_ff: 0,
        experts: Some(Experts {
            count: 128,
            active: 8,
            n_ff: 500,
            shared_n_ff: 0,
            dense_layers: 0,
        }),
        ..llama_8b()
    }
}

#[test]
fn a_mixture_whose_experts_stay_in_the_file_takes_those_of_a_layer() {
    let (processor, mixture) = (processor(), mixture());
    let of = |setup: &Setup<'_>, model: &ModelShape| streamed(setup, model, &q4(), &work());
    let setup = on(&[&processor]);
    let found = of(&setup, &mixture).expect("has experts");
    let weights = mixture.weights(&q4());
    let whole = memory_need(&setup, &mixture, &q4(), &work()).expect("has a device");
    let token = weights.experts / 16.0;
    assert!((found.read_per_step as f64 - token).abs() < 2.0);
    let saved = (whole.total() - found.memory.total()) as f64;
    assert!(
        (saved - (weights.experts - token / 32.0)).abs() < 4.0,
        "{saved}"
    );
    // What has no experts, or is no processor alone, leaves nothing in the file.
    assert_eq!(of(&setup, &llama_8b()), None);
    let card = card(1008.0, 48);
    assert_eq!(of(&on(&[&card]), &mixture), None);
    assert_eq!(of(&on(&[&processor, &card]), &mixture), None);
}

#[test]
fn a_mixture_reads_its_active_experts_only() {
    let card = card(1008.0, 48);
    let mixture = mixture();
    let got = forecast(&on(&[&card]), &mixture, &q4(), &work(), None).expect("it fits");
    let dense = ask(&on(&[&card]), &work());
    assert!(got.memory.weights > 2 * dense.memory.weights);
    assert!(got.decode_tps.value > dense.decode_tps.value);
}

#[test]
fn a_measurement_moves_the_middle_and_narrows_the_interval() {
    let card = card(1008.0, 24);
    let calibration = Calibration {
        decode: Some(0.8),
        prefill: None,
    };
    let plain = ask(&on(&[&card]), &work());
    let got = forecast(
        &on(&[&card]),
        &llama_8b(),
        &q4(),
        &work(),
        Some(&calibration),
    )
    .expect("it fits");
    assert!((got.decode_tps.value / plain.decode_tps.value - 0.8).abs() < 1e-9);
    let width = |estimate: Estimate| estimate.high / estimate.low;
    assert!(width(got.decode_tps) < width(plain.decode_tps));
}

#[test]
fn what_is_not_known_is_said_and_not_guessed() {
    let mut nameless = card(1008.0, 24);
    nameless.bandwidth_peak_gbs = None;
    let refusal =
        forecast(&on(&[&nameless]), &llama_8b(), &q4(), &work(), None).expect_err("no bandwidth");
    assert!(
        matches!(
            refusal,
            Refusal::Unknown {
                what: "memory bandwidth",
                ..
            }
        ),
        "{refusal}"
    );
    let mut rateless = card(1008.0, 24);
    rateless.rates.clear();
    rateless.watts_limit = None;
    let got = ask(&on(&[&rateless]), &work());
    assert_eq!(
        (got.prefill_tps, got.ttft_s, got.watts_decode),
        (None, None, None)
    );
    assert!(
        got.notes.iter().any(|note| note.contains("rate")),
        "{:?}",
        got.notes
    );
}

#[test]
fn every_number_can_be_explained() {
    let card = card(1008.0, 24);
    let got = ask(&on(&[&card]), &work());
    for name in [
        "weights",
        "bandwidth of card",
        "step on card",
        "reading the prompt on card",
        "power of card",
    ] {
        let term = got.terms.iter().find(|term| term.name == name);
        assert!(
            term.is_some_and(|term| term.value > 0.0 && !term.source.is_empty()),
            "{name}: {term:?}"
        );
    }
}

#[test]
fn devices_share_what_is_no_cache_by_their_layers() {
    let need = MemoryNeed {
        weights: 800,
        cache: 100,
        scratch: 10,
        runtime: 10,
    };
    let bytes = need.without_cache(&[6, 2, 0]);
    assert_eq!(bytes, [Bytes(610), Bytes(210), Bytes(0)]);
    assert_eq!(need.without_cache(&[4]), [Bytes(820)]);
    assert_eq!(need.without_cache(&[]), []);
}
