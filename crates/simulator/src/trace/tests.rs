//! Traces as they are read and written, and what is wrong with others.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use troika_scheduler::{Class, Time, Work};

use super::*;

const HEAD: &str = "{\"troika_trace\":1}\n";
const JOB: &str =
    r#"{"at_s":1.5,"kind":"generate","model":"m","class":"agent","prompt_tokens":7,"tokens":3}"#;

fn read(text: &str) -> Result<Vec<Arrival>, TraceError> {
    let known = |name: &str| match name {
        "m" => Ok(()),
        _ => Err(format!("there is no model {name:?}; known are m")),
    };
    TraceReader::new(text.as_bytes(), known)?.collect()
}

fn arrival(at_s: f64, owner: &str) -> Arrival {
    Arrival {
        at: Time::from_seconds(at_s),
        model: "m".to_owned(),
        class: Class::Interactive,
        owner: owner.to_owned(),
        prompt_tokens: 12,
        shared: 0,
        work: Work::Write {
            n: 2,
            max_tokens: 30,
        },
        deadline: Some(Duration::from_secs(9)),
        leaves: None,
        device: None,
    }
}

#[test]
fn what_is_written_is_read() {
    let embed = Arrival {
        work: Work::Embed,
        leaves: Some(Duration::from_millis(1500)),
        device: Some("npu0".to_owned()),
        deadline: None,
        ..arrival(3.25, "k2")
    };
    let again = Arrival {
        shared: 10,
        ..arrival(3.25, "k1")
    };
    let load = [arrival(0.0, "k1"), embed, again];
    let text = String::from_utf8(write_trace(Vec::new(), &load).expect("memory takes all"));
    let text = text.expect("is text");
    insta::assert_snapshot!("trace", text);
    assert_eq!(read(&text).expect("is sound"), load);
}

#[test]
fn each_fault_names_its_line_and_reason() {
    let job = |from: &str, to: &str| format!("{HEAD}{}\n", JOB.replace(from, to));
    let cases = [
        String::new(),
        "\n \n".to_owned(),
        HEAD.to_owned(),
        format!("{JOB}\n"),
        "{\"troika_trace\":2}\n".to_owned(),
        "prompt,answer\n1,2\n".to_owned(),
        format!("{HEAD}{JOB}\n\n{}\n", JOB.replace("1.5", "1.25")),
        job("\"m\"", "\"llama-9\""),
        job("\"m\"", "\"\""),
        job("agent", "urgent"),
        job(":7", ":-7"),
        job(":7", ":0"),
        job(":7", ":99999999999"),
        job(":7", ":7.5"),
        job(":7", ":null"),
        job(":3", ":0"),
        job(",\"tokens\":3", ""),
        job(":3}", ":3,\"max_tokens\":2}"),
        job(":3}", ":3,\"n\":1000}"),
        job(":3}", ":3,\"shared\":8}"),
        job(":3}", ":3,\"shared\":-1}"),
        job(":3}", ":3,\"prompt\":\"Why?\"}"),
        job(":3}", ":3,\"deadline_s\":-1}"),
        job(":3}", ":3,\"leaves_s\":0}"),
        job("1.5", "-1.5"),
        job("1.5", "1e12"),
        job("generate", "embed"),
        job("generate", "sing"),
        job("\"at_s\":1.5,", ""),
        format!("{HEAD}{}\n", &JOB[..40]),
        format!("{HEAD}\u{0}\u{1}\n"),
        format!("{HEAD}{}\n", "[".repeat(10_000)),
        format!("{HEAD}{}\n", JOB.replace('m', &"m".repeat(20_000))),
        format!("{HEAD}{}{JOB}", " ".repeat(40_000)),
    ];
    let mut all = String::new();
    for text in &cases {
        let error = read(text).expect_err("is wrong");
        let shown: String = error.to_string().chars().take(300).collect();
        all += &format!("{shown}\n");
    }
    insta::assert_snapshot!("faults", all);
}

#[test]
fn bytes_that_are_no_text_are_a_fault() {
    let bytes = [HEAD.as_bytes(), b"{\"model\":\"\xff\"}\n"].concat();
    let mut reader = TraceReader::new(&*bytes, |_: &str| Ok(())).expect("the head is sound");
    let error = reader.next().expect("a fault").expect_err("is wrong");
    assert_eq!(error.line, 2);
    assert!(reader.next().is_none(), "after an error it ends");
}

#[test]
fn an_endless_line_is_not_read_to_its_end() {
    let endless = HEAD.as_bytes().chain(io::repeat(b'x'));
    let mut reader =
        TraceReader::new(BufReader::new(endless), |_: &str| Ok(())).expect("the head is sound");
    let error = reader.next().expect("a fault").expect_err("is wrong");
    assert!(matches!(error.fault, TraceFault::Long), "{error}");
}

#[test]
fn lines_wait_for_those_before_them() {
    let lines = |writer: TraceWriter<Vec<u8>>| {
        let text = String::from_utf8(writer.close().expect("memory takes all")).expect("is text");
        text.lines().count() - 1
    };
    let mut out = Vec::new();
    let mut writer = TraceWriter::new(&mut out).expect("memory takes all");
    let (first, second) = (writer.arrived(), writer.arrived());
    let third = writer.arrived();
    writer
        .finished(second, &arrival(2.0, "anna"), Some(64))
        .expect("is written");
    writer.forgotten(third).expect("nothing is written");
    writer
        .finished(first, &arrival(1.0, "bert"), None)
        .expect("is written");
    writer.close().expect("is written");
    let text = String::from_utf8(out).expect("is text");
    let load = read(&text).expect("is in order");
    let owners: Vec<_> = load.iter().map(|arrival| &*arrival.owner).collect();
    assert_eq!(owners, ["k2", "k1"], "numbers, in the order of ends");
    assert!(!text.contains("anna"), "{text}");

    // One that never ends is left out at last.
    let mut writer = TraceWriter::new(Vec::new()).expect("memory takes all");
    let stuck = writer.arrived();
    for _ in 0..5000 {
        let ticket = writer.arrived();
        writer
            .finished(ticket, &arrival(2.0, ""), None)
            .expect("is written");
    }
    assert_eq!(writer.left_out(), 1);
    writer
        .finished(stuck, &arrival(1.0, ""), None)
        .expect("passed over");
    assert_eq!(lines(writer), 5000);
}
