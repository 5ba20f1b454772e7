//! Checkpoints that are no good: `import` says what is wrong, and writes nothing.

use super::*;

#[test]
fn what_cannot_be_imported_is_said() {
    let home = directory("import");
    let (from, out) = (home.join("checkpoint"), home.join("out.gguf"));
    std::fs::create_dir_all(&from).unwrap();
    let paths = [&from, &out].map(|path| path.to_str().unwrap().to_owned());
    let refused = |words: &str| {
        let output = troika_in(&home, &["import", &paths[0], &paths[1]], b"");
        assert_eq!(code(&output), Some(1));
        assert!(
            stderr(&output).contains(words),
            "{words}: {}",
            stderr(&output)
        );
        assert!(!out.exists());
    };
    refused("no config.json");
    let config = from.join("config.json");
    std::fs::write(&config, r#"{"architectures": ["OtherForCausalLM"]}"#).unwrap();
    refused("architecture `OtherForCausalLM` is not imported");
    std::fs::write(&config, r#"{"architectures": ["LlamaForCausalLM"]}"#).unwrap();
    std::fs::write(from.join("pytorch_model.bin"), b"").unwrap();
    refused("pickle");
    std::fs::write(&out, b"").unwrap();
    let output = troika_in(&home, &["import", &paths[0], &paths[1]], b"");
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
}
