//! `troika listen` and `troika denoise`. Models and recordings are shared data beside the repository; what needs them is
//! skipped without.

use std::path::Path;

use serde_json::Value;

use crate::{code, directory, shared, stderr, stdout, troika, troika_in};

const RTEN: [&str; 4] = ["--device", "cpu0", "--library", "rten"];

/// Speech in the recording of Kennedy, in seconds, as Silero's own code finds it.
const SPEECH: [(f64, f64); 4] = [
    (0.322, 2.27),
    (3.266, 4.446),
    (5.378, 7.678),
    (8.162, 10.622),
];

fn lines(text: &str) -> Vec<Vec<f64>> {
    let number = |number: &str| number.parse().expect("is a number");
    text.lines()
        .map(|line| line.split_whitespace().map(number).collect())
        .collect()
}

#[track_caller]
fn check_speech(have: &[Vec<f64>]) {
    assert_eq!(have.len(), SPEECH.len(), "{have:?}");
    for (have, want) in std::iter::zip(have, SPEECH) {
        assert!(
            (have[0] - want.0).abs() < 1e-3 && (have[1] - want.1).abs() < 1e-3,
            "{have:?}"
        );
        assert!((0.5..=1.0).contains(&have[2]), "{have:?}");
    }
}

/// The samples of a WAV file: what comes after the header of the chunk `data`.
fn body(wav: &[u8]) -> &[u8] {
    let at = wav.windows(4).position(|word| word == b"data");
    &wav[at.expect("is a WAV file") + 8..]
}

#[test]
fn speech_is_told_in_lines() {
    let (Some(model), Some(sound)) = (shared("audio/silero_vad.onnx"), shared("audio/jfk.wav"))
    else {
        return;
    };
    let listen = |more: &[&str], stdin: &[u8]| {
        let args = [&["listen", "-m", &model][..], &RTEN, more].concat();
        let output = troika_in(Path::new("no-such-home"), &args, stdin);
        assert_eq!(code(&output), Some(0), "{args:?}: {}", stderr(&output));
        output
    };
    let output = listen(&[&sound], b"");
    check_speech(&lines(&stdout(&output)));
    let said = stderr(&output);
    assert!(
        said.contains("7.89 s of speech in 11.0 s · cpu0 · rten 0.27 · "),
        "{said}"
    );
    assert!(
        said.contains("joules unknown") || said.contains(" J"),
        "{said}"
    );
    assert!(said.contains("times real time"), "{said}");

    let wav = std::fs::read(&sound).expect("is there");
    check_speech(&lines(&stdout(&listen(&["-"], &wav))));
    check_speech(&lines(&stdout(&listen(
        &["-", "--rate", "16000"],
        body(&wav),
    ))));
    // Nothing is as sure as that.
    assert_eq!(stdout(&listen(&[&sound, "--threshold", "1"], b"")), "");
    let merged = stdout(&listen(&[&sound, "--min-silence", "3000", "-q"], b""));
    assert_eq!(lines(&merged).len(), 1, "{merged}");
}

#[test]
fn programs_read_a_line_of_json_for_each_stretch() {
    let (Some(model), Some(sound)) = (shared("audio/silero_vad.onnx"), shared("audio/jfk.wav"))
    else {
        return;
    };
    let home = directory("sound-home");
    let installed = home.join("models/onnx");
    std::fs::create_dir_all(&installed).expect("is made");
    std::fs::copy(model, installed.join("silero_vad.onnx")).expect("is copied");
    let args = [&["listen", &sound, "--json"][..], &RTEN].concat();
    let output = troika_in(&home, &args, b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let all: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"))
        .collect();
    let (summary, speech) = all.split_last().expect("something was said");
    let number = |value: &Value, field: &str| value[field].as_f64().expect("is a number");
    let have: Vec<_> = speech
        .iter()
        .inspect(|value| assert_eq!(value["event"], "speech"))
        .map(|value| {
            ["start_s", "end_s", "probability"]
                .map(|field| number(value, field))
                .to_vec()
        })
        .collect();
    check_speech(&have);
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["segments"], 4);
    assert_eq!(
        (&summary["device"], &summary["library"]),
        (&"cpu0".into(), &"rten 0.27".into())
    );
    assert!((number(summary, "length_s") - 11.0).abs() < 1e-9);
    assert!(number(summary, "times_real_time") > 0.0);
    assert!(
        summary["joules"].is_number() != summary["joules_unknown"].is_string(),
        "{summary}"
    );
}

#[test]
fn noise_is_taken_out_of_files_and_streams() {
    let (Some(model), Some(mix)) = (shared("audio/gtcrn_simple.onnx"), shared("audio/mix.wav"))
    else {
        return;
    };
    let directory = directory("denoise");
    let out = directory.join("speech.wav");
    let out = out.to_str().expect("is text");
    let denoise = |more: &[&str], stdin: &[u8]| {
        let args = [&["denoise", "-m", &model][..], &RTEN, more].concat();
        let output = troika_in(Path::new("no-such-home"), &args, stdin);
        assert_eq!(code(&output), Some(0), "{args:?}: {}", stderr(&output));
        output
    };
    let output = denoise(&[&mix, "-o", out], b"");
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("32 ms behind"),
        "{}",
        stderr(&output)
    );
    let (wav, speech) = (
        std::fs::read(&mix).expect("is there"),
        std::fs::read(out).expect("is there"),
    );
    assert_eq!(body(&speech).len(), body(&wav).len());
    assert_eq!(
        std::fs::read_dir(&directory).expect("is there").count(),
        1,
        "nothing else is left"
    );
    // As loud as the authors' own result, which is much less than before.
    let loudness = |bytes: &[u8]| -> f64 {
        let samples = bytes
            .chunks_exact(2)
            .map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])));
        samples.map(|sample| sample * sample).sum::<f64>()
    };
    let published = shared("audio/enh_stream.wav").expect("stands beside it");
    let published = loudness(body(&std::fs::read(published).expect("is there")));
    let have = loudness(body(&speech));
    assert!(
        (have / published - 1.0).abs() < 0.01,
        "{}",
        have / published
    );

    let streamed = denoise(&["-", "-o", "-"], &wav);
    assert_eq!(streamed.stdout, body(&speech));
    let bare = denoise(&["-", "--rate", "16000", "-o", "-", "-q"], body(&wav));
    assert_eq!(bare.stdout, body(&speech));
    assert_eq!(stderr(&bare), "");
}

#[test]
fn wrong_use_is_told_before_anything_is_loaded() {
    for (args, says) in [
        (&["listen"][..], "FILE"),
        (
            &["listen", "a.wav", "--threshold", "1.5"],
            "threshold is 1.5",
        ),
        (
            &["listen", "a.wav", "--negative-threshold", "0.9"],
            "negative threshold is 0.9",
        ),
        (&["listen", "a.wav", "--rate", "10"], "from 1000"),
        (&["listen", "a.wav", "--channels", "2"], "--rate"),
        (&["listen", "a.wav", "--device", "npu7"], "npu7"),
        (&["denoise", "a.wav"], "--output"),
        (
            &["denoise", "a.wav", "-o", "-", "--json"],
            "name a file with -o",
        ),
    ] {
        let output = troika(args);
        let said = stderr(&output);
        assert_eq!(code(&output), Some(2), "{args:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(says),
            "{args:?}: {said}"
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn what_is_lacking_is_named_with_advice() {
    for (args, says) in [
        (&["listen", "a.wav"][..], "silero_vad*.onnx"),
        (&["denoise", "a.wav", "-o", "b.wav"], "gtcrn*.onnx"),
        (&["listen", "a.wav", "-m", "no-such.onnx"], "no-such.onnx"),
    ] {
        let output = troika(args);
        let said = stderr(&output);
        assert_eq!(code(&output), Some(1), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
    let (Some(silero), Some(gtcrn)) = (
        shared("audio/silero_vad.onnx"),
        shared("audio/gtcrn_simple.onnx"),
    ) else {
        return;
    };
    let directory = directory("no-sound");
    let text = directory.join("text.wav");
    std::fs::write(&text, "this is no sound, whatever its name says").expect("is written");
    let text = text.to_str().expect("is text");
    let out = directory.join("out.wav");
    let out = out.to_str().expect("is text");
    for (args, says) in [
        (
            vec!["listen", "-m", &silero, text],
            "text.wav is not sound that can be read here",
        ),
        (
            vec!["listen", "-m", &silero, "no-such.wav"],
            "cannot read no-such.wav",
        ),
        (vec!["listen", "-m", &silero, "-"], "stdin is not sound"),
        (
            vec!["listen", "-m", &silero, "-", "--rate", "16000"],
            "there is no sound",
        ),
        (
            vec!["listen", "-m", &gtcrn, text],
            "not a model of the kind `silero-vad`",
        ),
        (
            vec!["denoise", "-m", &silero, text, "-o", out],
            "not a model of the kind `gtcrn`",
        ),
        (
            vec!["denoise", "-m", &gtcrn, "-", "--rate", "16000", "-o", out],
            "there is no sound",
        ),
        (vec!["listen", "-m", text, text], "cannot open the model"),
    ] {
        let output = troika(&[&args[..], &RTEN].concat());
        let said = stderr(&output);
        assert_eq!(code(&output), Some(1), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    assert!(!Path::new(out).exists() && !directory.join("out.wav.partial").exists());
}
