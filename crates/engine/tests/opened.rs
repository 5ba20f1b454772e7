//! A model is opened once, and loaded as often as there are devices.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{cpu, requantize::requantize, stories};
use troika_base::DType;
use troika_device::LoadOptions;
use troika_engine::{Error, Model, Opened};
use troika_gguf::{Metadata, ModelFile, Writer};

fn load(opened: &Arc<Opened>, file: &ModelFile) -> Result<Model, Error> {
    let options = LoadOptions::new(64);
    Model::load_opened(opened, file, &cpu(1), options, &mut |_| {
        ControlFlow::Continue(())
    })
}

#[test]
fn what_is_known_without_weights_is_shared() {
    let file = stories();
    let opened = Arc::new(Opened::new(&file).unwrap());
    let models = [load(&opened, &file).unwrap(), load(&opened, &file).unwrap()];
    for model in &models {
        assert!(Arc::ptr_eq(model.tokenizer(), opened.tokenizer()));
        assert_eq!(model.spec(), opened.spec());
        assert_eq!(model.name(), opened.name());
    }
    assert_eq!(models[0].fingerprint(), models[1].fingerprint());
    let [a, b] = models.each_ref().map(|model| model.constraints().unwrap());
    assert!(Arc::ptr_eq(a, b));
}

/// The file written again with changes.
fn rewrite(file: &ModelFile, metadata: Metadata, change: impl Fn(&str, &mut [u8])) -> ModelFile {
    let tensors: Vec<Vec<u8>> = file
        .tensors()
        .iter()
        .map(|tensor| {
            let mut bytes = file.read_all(tensor).expect("a good file");
            change(&tensor.name, &mut bytes);
            bytes
        })
        .collect();
    let mut writer = Writer::new(metadata);
    for (tensor, bytes) in file.tensors().iter().zip(&tensors) {
        writer.tensor_bytes(&tensor.name, tensor.dtype, &tensor.shape, bytes);
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("memory takes it");
    ModelFile::from_bytes("stories.gguf", bytes).expect("a file that can be read")
}

#[test]
fn a_file_that_was_replaced_is_refused() {
    let file = stories();
    let opened = Arc::new(Opened::new(&file).unwrap());
    let first = load(&opened, &file).unwrap();
    let requantized = requantize(&file, DType::Q4_0);
    let requantized = ModelFile::from_bytes("stories.gguf", requantized).unwrap();
    let trained = rewrite(&file, file.metadata().clone(), |name, bytes| {
        if name == "blk.1.ffn_down.weight" {
            *bytes.last_mut().unwrap() ^= 1;
        }
    });
    let mut metadata = file.metadata().clone();
    metadata.insert("llama.rope.freq_base", 12_345.0f32);
    let turned = rewrite(&file, metadata, |_, _| {});
    for other in [requantized, trained, turned] {
        match load(&opened, &other) {
            Err(Error::OtherFile { file }) => assert_eq!(file, "stories.gguf"),
            other => panic!("{other:?}"),
        }
    }
    // A name is no part of what is computed.
    let mut metadata = file.metadata().clone();
    metadata.insert("general.name", "Stories, renamed");
    let renamed = load(&opened, &rewrite(&file, metadata, |_, _| {})).unwrap();
    assert_eq!(renamed.fingerprint(), first.fingerprint());
}
