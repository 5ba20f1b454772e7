//! OpenVINO's C API, made safe: a library that is loaded once, what it reads, compiles and runs, and who owns what.
//!
//! The only files of this module with `unsafe`. They know nothing of language models. Every object frees what it holds
//! when it is dropped, and keeps alive what it was made by; every status becomes an [`Error`](crate::Error), and no call
//! panics.
//!
//! # Threads
//! A [`Core`] and a [`CompiledModel`] may be used by several threads at once, as OpenVINO promises for the objects
//! behind them. An [`InferRequest`] is one thread's at a time, and may go to another thread between runs: hence `Send`
//! without `Sync`. The text of an error is one for the whole process, so that two calls which fail at the same moment
//! may be told each other's.
#![expect(
    unsafe_code,
    reason = "C functions are called here, and nowhere else in this crate"
)]

mod core;
mod library;
mod request;
mod tensor;

pub(crate) use core::{CompiledModel, Core};
pub(crate) use library::{Library, NAME};
pub(crate) use openvino_sys::ov_element_type_e as ElementType;
pub(crate) use request::{InferRequest, Output};
pub(crate) use tensor::{Element, Port, Truth};

#[cfg(test)]
mod tests;
