//! Files as the programs write them, files that are broken, and any bytes at all.

use proptest::prelude::*;

use super::*;

fn import(text: &str) -> Import {
    read(text.as_bytes(), None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refused(text: &str) -> String {
    let error = read(text.as_bytes(), None).expect_err("gives nothing");
    error.to_string()
}

const LLAMA_BENCH: &str = r#"[
  {
    "build_commit": "8ce3ff1d", "build_number": 6123,
    "cpu_info": "AMD Ryzen 9 7950X", "gpu_info": "NVIDIA GeForce RTX 4090", "backends": "CUDA",
    "model_filename": "/srv/secret/llama-8b.gguf", "model_type": "llama 8B Q4_K - Medium",
    "model_size": 4912898048, "model_n_params": 8030261248,
    "n_batch": 2048, "n_ubatch": 512, "n_threads": 16, "type_k": "f16", "type_v": "f16",
    "n_gpu_layers": 99, "flash_attn": true, "use_mmap": true,
    "n_prompt": 512, "n_gen": 0, "n_depth": 4096, "test_time": "2026-11-20T10:00:00Z",
    "avg_ns": 1, "stddev_ns": 1, "avg_ts": 1000.5, "stddev_ts": 10.5, "samples_ts": [ 990.0, 1011.0 ]
  },
  { "n_prompt": 0, "n_gen": 128, "avg_ts": 50.0, "backends": "CPU", "cpu_info": "some cpu", "gpu_info": "" },
  { "n_prompt": 512, "n_gen": 128, "avg_ts": 70.0 },
  { "n_prompt": 0, "n_gen": 0, "avg_ts": 70.0 },
  { "n_prompt": 512, "n_gen": 0, "avg_ts": -1 },
  7
]"#;

#[test]
fn llama_bench_is_read() {
    let import = import(LLAMA_BENCH);
    assert_eq!(import.format, Format::LlamaBench);
    let [prefill, decode, combined] = &import.measurements[..] else {
        panic!("three are sound: {import:?}");
    };
    assert_eq!((prefill.what, prefill.value), (What::PrefillTps, 1000.5));
    assert_eq!((prefill.low, prefill.high), (Some(990.0), Some(1011.0)));
    assert_eq!(prefill.source, "llama-bench b6123 (8ce3ff1d)");
    assert_eq!(prefill.device.as_deref(), Some("NVIDIA GeForce RTX 4090"));
    assert_eq!(prefill.backend.as_deref(), Some("cuda"));
    assert_eq!(prefill.model.as_deref(), Some("llama 8B"));
    assert_eq!(prefill.quant.as_deref(), Some("Q4_K_M"));
    assert_eq!(prefill.when.as_deref(), Some("2026-11-20T10:00:00Z"));
    let conditions = &prefill.conditions;
    assert_eq!(conditions.prompt_tokens, Some(512.0));
    assert_eq!(conditions.depth, Some(4096.0));
    assert_eq!(conditions.repeats, Some(2.0));
    assert_eq!(conditions.more["flash_attn"], "true");
    assert_eq!(conditions.more["model_file"], "llama-8b.gguf");
    assert_eq!((decode.what, decode.value), (What::DecodeTps, 50.0));
    assert_eq!(decode.device.as_deref(), Some("some cpu"));
    assert_eq!(combined.what, What::CombinedTps);
    let told: Vec<_> = import
        .skipped
        .iter()
        .map(|s| (&*s.place, &*s.why))
        .collect();
    assert_eq!(
        told,
        [
            (
                "entry 4",
                "`n_prompt` and `n_gen` are both 0: what was measured is not told"
            ),
            ("entry 5", "`avg_ts` is -1, not a number above zero"),
            ("entry 6", "7 is no object"),
        ]
    );
}

#[test]
fn llama_bench_has_three_forms() {
    let lines = "{\"n_prompt\":512,\"n_gen\":0,\"avg_ts\":10.0}\n{\"n_prompt\":0,\"n_gen\":8,\"avg_ts\":5.0}\n{\"n_pro";
    let jsonl = import(lines);
    assert_eq!(jsonl.measurements.len(), 2);
    assert_eq!(jsonl.skipped.len(), 1);
    assert_eq!(jsonl.skipped[0].place, "line 3");
    let csv = "build_commit,build_number,backends,model_type,n_prompt,n_gen,avg_ts,stddev_ts\n\
               \"8ce3ff1d\",\"6123\",\"CUDA,Vulkan\",\"gpt-oss 20B MXFP4 MoE\",\"0\",\"128\",\"51.25\",\"0.5\"\n\
               \"8ce3ff1d\",\"6123\",\"CUDA\",\"x\",\"0\",\"128\",\"n/a\",\"0\"\n";
    let csv = import(csv);
    let measurement = &csv.measurements[0];
    assert_eq!(
        (measurement.what, measurement.value),
        (What::DecodeTps, 51.25)
    );
    assert_eq!(measurement.backend.as_deref(), Some("cuda+vulkan"));
    assert_eq!(measurement.quant.as_deref(), Some("MXFP4"));
    assert_eq!(csv.skipped[0].place, "line 3");
}

#[test]
fn descriptions_of_models_are_taken_apart() {
    for (text, model, quant) in [
        ("llama 8B Q4_K - Medium", "llama 8B", "Q4_K_M"),
        ("llama 8B Q3_K - Large", "llama 8B", "Q3_K_L"),
        ("llama 8B Q2_K - Medium", "llama 8B", "Q2_K"),
        ("qwen3moe 30B.A3B Q6_K", "qwen3moe 30B.A3B", "Q6_K"),
        ("gemma3 4B IQ4_XS - 4.25 bpw", "gemma3 4B", "IQ4_XS"),
        ("llama 7B mostly Q4_0", "llama 7B", "Q4_0"),
        ("phi3 3B BF16", "phi3 3B", "BF16"),
        ("llama 7B all F32", "llama 7B", "F32"),
    ] {
        let (got_model, got_quant) = llama_bench::split_model_type(text);
        assert_eq!(
            (got_model.as_deref(), got_quant.as_deref()),
            (Some(model), Some(quant)),
            "{text}"
        );
    }
    assert_eq!(
        llama_bench::split_model_type("something else"),
        (Some("something else".to_owned()), None)
    );
}

#[test]
fn mlperf_client_is_read() {
    let import = import(
        r#"{"BuildVer":"1.5.0","Config":"Configuration tested by MLCommons","Scenario Name":"llama3","Model Name":"Llama 3.1 8B Instruct",
        "Execution Provider Name":"NativeOpenVINO","EP Configuration":{"device_type":"NPU"},"Iterations":3,"Benchmark Success":true,
        "Benchmark Start Time":"2026-05-04 10:11:12","Device Type":"NPU","overall_results":{"Geomean Time to First Token":2.0,
        "Geomean 2nd+ Token Generation Rate":10.0},"category_results":{"Code Analysis":{"Avg Time to First Token":1.5,
        "Avg 2nd+ Token Generation Rate":11.25,"Avg Input Tokens":400,"Avg Generated Tokens":200},"Creative Writing":{
        "Avg Time to First Token":0.0,"Avg 2nd+ Token Generation Rate":12.0}},"SysInfo_CPUModel":"Some Core Ultra","SysInfo_GPUNames":["a","b"]}
        |{"Benchmark Success":false,"Error Message":"out of memory\nmore","category_results":null}"#
            .replace("\n        ", "")
            .replace('|', "\n")
            .as_str(),
    );
    assert_eq!(import.format, Format::MlperfClient);
    let got: Vec<_> = import
        .measurements
        .iter()
        .map(|m| (m.what, m.value, m.conditions.depth))
        .collect();
    assert_eq!(
        got,
        [
            (What::TtftS, 1.5, Some(0.0)),
            (What::DecodeTps, 11.25, Some(400.0)),
            (What::DecodeTps, 12.0, None),
        ]
    );
    let first = &import.measurements[0];
    assert_eq!(first.source, "MLPerf Client 1.5.0");
    assert_eq!(first.backend.as_deref(), Some("nativeopenvino"));
    assert_eq!(first.device.as_deref(), Some("Some Core Ultra"));
    assert_eq!(first.conditions.more["device_type"], "NPU");
    assert_eq!(first.conditions.more["category"], "Code Analysis");
    assert_eq!(import.skipped.len(), 2, "{:?}", import.skipped);
    assert!(
        import
            .skipped
            .iter()
            .any(|s| s.why == "the run failed: out of memory")
    );
}

#[test]
fn procyon_gives_scores_and_nothing_else() {
    let import = import(
        "<?xml version=\"1.0\"?>\n<benchmark>\n<result id=\"1\">\n\
         <AiTextGenerationPhiOverallScore>1523</AiTextGenerationPhiOverallScore>\n\
         <AiTextGenerationLlama3OverallScore>0</AiTextGenerationLlama3OverallScore>\n\
         <x:AIImageGenerationOverallScore unit=\"p\">77.5</x:AIImageGenerationOverallScore>\n\
         <AiTextGenerationMistralOverallScore>fast</AiTextGenerationMistralOverallScore>\n</result></benchmark>",
    );
    let got: Vec<_> = import
        .measurements
        .iter()
        .map(|m| (m.what, m.value, m.model.as_deref()))
        .collect();
    assert_eq!(
        got,
        [
            (What::Score, 1523.0, Some("Phi-3.5-mini")),
            (What::Score, 77.5, None)
        ]
    );
    assert_eq!(
        import.measurements[0].conditions.more["test"],
        "AiTextGenerationPhi"
    );
    let told: Vec<_> = import.skipped.iter().map(|s| &*s.place).collect();
    assert_eq!(
        told,
        [
            "line 5, AiTextGenerationLlama3OverallScore",
            "line 7, AiTextGenerationMistralOverallScore"
        ]
    );
    assert_eq!(calibrate(&import.measurements, |_| Some(1.0)), None);
    assert!(refused("<html><body>no</body></html>").contains("XML without an element"));
}

#[test]
fn our_own_bench_is_read() {
    let import = import(
        r#"[{"test":"roofline","threads":2,"read_gbs":20.0},
            {"test":"tg128","n_prompt":0,"n_gen":128,"depth":16,"batch":2,"rounds":5,"tps_median":12.5,"tps_min":12.0,"tps_max":13.0,
             "tps_bound":null,"rss_bytes_peak":1000000,"model":"stories","quantization":"Q8_0","device":"cpu0","processor":"a cpu","threads":2,
             "troika":"0.1.0"}]"#,
    );
    assert_eq!(import.format, Format::TroikaBench);
    assert_eq!(import.measurements.len(), 2);
    let speed = &import.measurements[0];
    assert_eq!(
        (speed.what, speed.value, speed.low, speed.high),
        (What::DecodeTps, 12.5, Some(12.0), Some(13.0))
    );
    assert_eq!(speed.source, "troika bench 0.1.0");
    assert_eq!(speed.device.as_deref(), Some("a cpu"));
    assert_eq!(
        (import.measurements[1].what, import.measurements[1].value),
        (What::BytesPeak, 1e6)
    );
    assert_eq!(import.skipped.len(), 1);
}

fn joules(text: &str) -> f64 {
    let import = import(text);
    assert_eq!(import.format, Format::Meter);
    assert_eq!(import.measurements[0].what, What::EnergyJ);
    import.measurements[0].value
}

/// The same four seconds, 10 to 30 W, as different loggers write them: 20 W on average are 80 J.
#[test]
fn meters_are_integrated_however_they_write() {
    for text in [
        "time,watts\n0,10\n2,20\n4,30\n",
        "timestamp,power_w\n1790000000,10\n1790000002,20\n1790000004,30\n",
        "timestamp,power_mw\n1790000000000,10000\n1790000002000,20000\n1790000004000,30000\n",
        "# a remark\nZeit;Time;Leistung (W)\nx;0;10,0\nx;2;20,0\nx;4;30,0\n",
        "Date,Time,Active Power (kW),Apparent Power (VA),Energy (kWh)\n\
         21.11.2026,12:00:00,0.010,99,1\n21.11.2026,12:00:02,0.020,99,1\n21.11.2026,12:00:04,0.030,99,1\n",
        "time\tPower\n2026-11-21T12:00:00Z\t10 W\n2026-11-21T12:00:02Z\t20W\n2026-11-21T12:00:04Z\t0.03 kW\n",
        "Datetime,W\n2026-11-21 23:59:58,10\n2026-11-22 00:00:00,20\n2026-11-22 00:00:02,30\n",
        "datetime,W\n11/21/2026 12:00:00 PM,10\n11/21/2026 12:00:02 PM,20\n11/21/2026 12:00:04 PM,30\n",
        "time,power draw\n12:00:00,10\n12:00:02,20\n12:00:04,30\n",
        "\u{feff}elapsed,W\r\n0,10\r\n2,20\r\n4,30\r\n",
    ] {
        let got = joules(text);
        assert!((got - 80.0).abs() < 1e-6, "{got} J\n{text}");
    }
}

#[test]
fn gaps_and_nonsense_of_meters_are_left_out_and_told() {
    let mut text = "time,watts\n".to_owned();
    for second in 0..10 {
        text.push_str(&format!("{second},10\n"));
    }
    // After a gap of 991 s, a row without power, one that goes back, one below zero, and one that is sound.
    text.push_str("1000,10\n1001,n/a\n999,10\n1001.5,-4\n1002,10\n");
    let import = import(&text);
    let energy = &import.measurements[0];
    assert_eq!(
        (energy.value, energy.conditions.seconds),
        (110.0, Some(11.0))
    );
    let mut told: Vec<_> = import
        .skipped
        .iter()
        .map(|s| (&*s.place, &*s.why))
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            (
                "line 12",
                "a gap of 991.0 s before it, which is not counted"
            ),
            ("line 13", "the power is no number: \"n/a\""),
            ("line 14", "its time is not after the row before it"),
            ("line 15", "a power of -4 W is not possible"),
        ]
    );
    let mean = &import.measurements[1];
    assert_eq!(
        (mean.what, mean.value, mean.low, mean.high),
        (What::WattsMean, 10.0, Some(10.0), Some(10.0))
    );
}

#[test]
fn what_is_no_result_is_refused() {
    for (text, want) in [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        (
            "hello",
            "this is none of the results that can be read: it begins with \"hello\"",
        ),
        (
            "a,b\n1,2\n",
            "this is none of the results that can be read: no column of it is a power in watts; it has a, b",
        ),
        (
            "watts,apparent va\n1,2\n",
            "this is none of the results that can be read: no column of it is a time",
        ),
        (
            "time,watts\n",
            "the column of times: its entries are neither",
        ),
        (
            "time,watts\n0,1\n",
            "nothing was measured: the table: there are not two rows",
        ),
        (
            "time,watts\nnoon,1\nevening,2\n",
            "the column of times: its entries are neither",
        ),
        (
            "{\"a\": 1}",
            "this is none of the results that can be read: entry 1: its fields are of no known program",
        ),
        (
            "[]",
            "this is none of the results that can be read: it is JSON without entries",
        ),
        ("[{\"avg_ts\": 1,\n]", "line 2, column 1: this is not JSON"),
        (
            "[{\"avg_ts\": null}]",
            "nothing was measured: entry 1: there is no `avg_ts`",
        ),
        (
            "| model | size |\n| --- | --- |\n",
            "this is none of the results that can be read: it begins with \"| model",
        ),
    ] {
        let error = refused(text);
        assert!(error.starts_with(want), "{text:?}\n{error}\nis not\n{want}");
    }
    let error = read(b"time,watts\n\xff\n", None).expect_err("is no text");
    assert_eq!(error, ImportError::NotText { offset: 11 });
    let error = read(&vec![b' '; BYTES_MAX + 1], None).expect_err("is too large");
    assert_eq!(
        error,
        ImportError::TooLarge {
            bytes: BYTES_MAX + 1
        }
    );
    let nested = "[".repeat(100_000);
    assert!(read(nested.as_bytes(), None).is_err());
    let error = read(LLAMA_BENCH.as_bytes(), Some(Format::Meter)).expect_err("is another's");
    assert!(error.to_string().contains("it looks like llama-bench"));
}

#[test]
fn utf_16_of_a_shell_is_read() {
    let text = "time,watts\r\n0,10\r\n2,20\r\n4,30\r\n";
    let bytes: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(text.encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    assert_eq!(
        read(&bytes, None).expect("is read").measurements[0].value,
        80.0
    );
}

#[test]
fn records_come_back_as_they_were() {
    let measurements = import(LLAMA_BENCH).measurements;
    let mut text: String = measurements
        .iter()
        .map(|m| record::write(m) + "\n")
        .collect();
    assert_eq!(record::read(&text), (measurements.clone(), Vec::new()));
    text.push_str(
        "{\"version\":2,\"later\":true}\n{\"version\":1}\nnot JSON\n{\"version\":1,\"sou",
    );
    let (again, skipped) = record::read(&text);
    assert_eq!(again, measurements);
    let places: Vec<_> = skipped.iter().map(|s| &*s.place).collect();
    assert_eq!(places, ["line 4", "line 5", "line 6", "line 7"]);
    assert!(skipped[0].why.contains("version 2"));
}

fn all_sound(import: &Import) {
    for measurement in &import.measurements {
        assert!(
            measurement.value.is_finite() && measurement.value >= 0.0,
            "{measurement:?}"
        );
        let line = record::write(measurement);
        assert!(!line.contains('\n'));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(import) = read(&bytes, None) {
            all_sound(&import);
        }
    }

    /// Bytes of the alphabets that the parsers look for, so that they get far.
    #[test]
    fn any_table_is_read_or_refused(rows in "(time|date|t),(watts|power|kW)\n([0-9:. eE+,;WmkTZ/APM-]{0,30}\n){0,20}") {
        if let Ok(import) = read(rows.as_bytes(), None) {
            all_sound(&import);
        }
    }

    #[test]
    fn any_json_is_read_or_refused(
        name in "avg_ts|tps_median|category_results|Benchmark Success|n_gen|test",
        value in "-?[0-9]{1,3}(e[0-9]{1,3})?|\"[ -!#-\\[\\]-~]{0,10}\"|\\{\\}|\\[1\\]|null|true|\\{\"a\":\\{\"Avg Time to First Token\":1\\}\\}",
        tail in "(,\"n_gen\":1|,\"gpu_info\":3|,\"samples_ts\":\\[\\])?",
        cut in 0usize..200,
    ) {
        let text = format!("[{{\"{name}\":{value}{tail}}}]");
        for text in [&text[..], text.get(..cut).unwrap_or_default(), &text[1..]] {
            if let Ok(import) = read(text.as_bytes(), None) {
                all_sound(&import);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(at in 0usize..900, byte in any::<u8>()) {
        let mut bytes = LLAMA_BENCH.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(import) = read(&bytes, None) {
            all_sound(&import);
        }
    }
}
