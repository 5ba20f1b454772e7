//! The store, the worker and the device with compilers that crash, hang, fill the disk and talk nonsense.
//!
//! A compiling process is this test program again: the "test" [`child`] is what it runs then.

mod device;
mod fake;
mod store;
mod worker;
