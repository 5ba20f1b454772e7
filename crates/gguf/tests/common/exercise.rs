//! What must hold for any bytes at all. The property tests and the fuzz target both end here.

use troika_gguf::{ModelFile, Writer, checked_tensor_bytes};

/// Opens the bytes as a model. Whether they were accepted.
///
/// # Panics
/// If an accepted model has a tensor that cannot be read in full, or cannot be written and read again.
pub fn exercise(bytes: &[u8]) -> bool {
    let model = match ModelFile::from_bytes("any bytes", bytes.to_vec()) {
        Ok(model) => model,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    for (key, value) in model.metadata().iter() {
        // By address, since a NaN is not equal to itself.
        assert!(std::ptr::eq(
            model.metadata().get(key).expect("it is listed"),
            value
        ));
        assert!(!format!("{value}{value:?}").is_empty() || key.is_empty());
    }
    for tensor in model.tensors() {
        let data = model
            .read_all(tensor)
            .expect("an accepted tensor can be read");
        assert_eq!(data.len() as u64, tensor.bytes);
        assert_eq!(
            checked_tensor_bytes(tensor.dtype, &tensor.shape),
            Ok(tensor.bytes)
        );
        assert!(tensor.offset + tensor.bytes <= model.bytes());
        let found = model.tensor(&tensor.name).expect("it is listed");
        assert!(std::ptr::eq(found, tensor), "a name is one tensor's");
        assert!(model.read(tensor, 1, &mut vec![0; data.len()]).is_err());
    }
    let copy = rewritten(&model);
    let reopened =
        ModelFile::from_bytes("a copy", copy.clone()).expect("what is written can be read");
    assert_eq!(reopened.tensors().len(), model.tensors().len());
    assert!(rewritten(&reopened) == copy, "a copy of a copy is the same");
    true
}

/// The model as the writer writes it.
pub fn rewritten(model: &ModelFile) -> Vec<u8> {
    let mut writer = Writer::new(model.metadata().clone());
    for tensor in model.tensors() {
        writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, |out| {
            Ok(out.write_all(&model.read_all(tensor)?)?)
        });
    }
    let mut bytes = Vec::new();
    writer
        .write_to(&mut bytes)
        .expect("what was read can be written");
    bytes
}
