//! The way of Qualcomm and AMD, and of plain Rust: a pair of ONNX graphs with static shapes over an executor.
