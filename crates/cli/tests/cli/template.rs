//! A model that chats: the one inside, with a chat template of this test's.

use std::path::{Path, PathBuf};
use troika_gguf::{ModelFile, Writer};

use crate::{code, json, stderr, stdout, troika};

/// The story model under another name and with this template.
fn model_with_template(name: &str, template: &str) -> PathBuf {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/stories.gguf");
    let file = ModelFile::open(&assets).expect("the asset is sound");
    let mut metadata = file.metadata().clone();
    metadata.insert("tokenizer.chat_template", template);
    metadata.insert("general.name", "Chatty\u{1b}[2J");
    let mut writer = Writer::new(metadata);
    for tensor in file.tensors() {
        writer.tensor(tensor.name.clone(), tensor.dtype, &tensor.shape, |out| {
            Ok(out.write_all(&file.read_all(tensor)?)?)
        });
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    writer.write_file(&path).expect("is written");
    path
}

const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{{ message.role }} says {{ message.content }}. {% endfor %}Once";

#[test]
fn messages_go_through_the_template_and_the_answer_stands_alone() {
    let path = model_with_template("chatty.gguf", TEMPLATE);
    let path = path.to_str().expect("is text");
    let args = [
        "run", path, "hello", "--system", "a rule", "-n5", "--seed", "7", "-vv",
    ];
    let output = troika(&args);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("<|story|>system says a rule. user says hello. Once\n---"),
        "{said}"
    );
    // The beginning is one token, and there is one of it.
    assert!(said.contains("tokens: [TokenId(0), "), "{said}");
    assert!(!said.contains("TokenId(0), TokenId(0)"), "{said}");
    assert!(
        !said.contains('\u{1b}'),
        "the model's name is not obeyed: {said:?}"
    );
    assert!(
        !stdout(&output).contains("hello"),
        "the prompt is not repeated"
    );

    let raw = troika(&["run", path, "hello", "--raw", "-n5", "--seed", "7", "-q"]);
    assert!(stdout(&raw).starts_with("hello"), "{}", stdout(&raw));
}

#[test]
fn templates_are_printed_and_measured() {
    let path = model_with_template("printed.gguf", TEMPLATE);
    let path = path.to_str().expect("is text");
    let printed = troika(&["show", path, "--template"]);
    assert_eq!(stdout(&printed).trim_end(), TEMPLATE);
    let shown = json(&troika(&["show", path, "--json"]));
    assert_eq!(shown["chat_template_bytes"], TEMPLATE.len());
    assert!(!stdout(&troika(&["show", path])).contains('\u{1b}'));
}

#[test]
fn a_broken_template_is_an_error_with_a_way_out() {
    let path = model_with_template("broken-template.gguf", "{% for %}");
    let path = path.to_str().expect("is text");
    let output = troika(&["run", path, "hello"]);
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("--raw"), "{}", stderr(&output));
    assert!(
        troika(&["run", path, "hello", "--raw", "-n2", "-q"])
            .status
            .success()
    );
    let shown = json(&troika(&["show", path, "--json"]));
    assert_eq!(shown["runs"], true, "it runs, though it does not chat");
    assert!(shown["chat_template_error"].is_string());
}

#[test]
fn a_template_may_refuse_a_conversation() {
    let path = model_with_template("refuses.gguf", "{{ raise_exception('not like this') }}");
    let output = troika(&["run", path.to_str().expect("is text"), "hello"]);
    assert_eq!(code(&output), Some(1));
    assert!(
        stderr(&output).contains("not like this"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "");
}
