//! The story model in other number formats, so that every format has a trained model to be judged by.

use troika_base::DType;
use troika_gguf::{ModelFile, Writer};
use troika_kernels::quant;

/// `file` with its matrices in `dtype`, where rows are whole blocks of it. Norms stay as they are.
pub(crate) fn requantize(file: &ModelFile, dtype: DType) -> Vec<u8> {
    let converted: Vec<(DType, Vec<u8>)> = file
        .tensors()
        .iter()
        .map(|tensor| {
            let bytes = file.read_all(tensor).expect("a good file");
            let n_in = tensor.row_len() as usize;
            let Some(row_bytes) = dtype.row_bytes(n_in).filter(|_| tensor.shape.len() > 1) else {
                return (tensor.dtype, bytes);
            };
            let mut out = vec![0; row_bytes * tensor.n_rows() as usize];
            let mut row = vec![0.0; n_in];
            let rows = bytes.chunks_exact(tensor.dtype.row_bytes(n_in).expect("whole blocks"));
            for (from, to) in rows.zip(out.chunks_exact_mut(row_bytes)) {
                quant::dequantize_row(tensor.dtype, from, &mut row).expect("a computed format");
                quant::quantize_row(dtype, &row, to).expect("a computed format");
            }
            (dtype, out)
        })
        .collect();
    let mut writer = Writer::new(file.metadata().clone());
    for (tensor, (dtype, bytes)) in file.tensors().iter().zip(&converted) {
        writer.tensor_bytes(&tensor.name, *dtype, &tensor.shape, bytes);
    }
    let mut out = Vec::new();
    writer.write_to(&mut out).expect("memory takes it");
    out
}
