//! Float kernels, written once over [`Lanes`](crate::lanes::Lanes) and compiled per instruction set.
//!
//! [`float_kernels!`] makes the entry points of a set: functions compiled with its features, into which the generic
//! bodies are inlined.

pub(crate) mod attention;
pub(crate) mod cache;
pub(crate) mod elementwise;
pub(crate) mod product;

/// Defines the float entry points of a kernel set: `float_kernels!(lanes type, target features)`.
macro_rules! float_kernels {
    ($lanes:ty $(, $features:literal)?) => {
        use troika_base::DType;
        use crate::float::{attention, elementwise, product};
        use crate::quant::{self, Unsupported};

        /// See [`product::product`].
        ///
        /// # Safety
        /// The CPU has the features; sizes as in [`product::product`].
        $(#[target_feature(enable = $features)])?
        pub(crate) unsafe fn product(
            dtype: DType, panels: &[u8], count: usize, n_in: usize, x: &[f32], n_tok: usize, out: &mut [f32],
        ) {
            // SAFETY: forwarded from the caller.
            unsafe { product::product::<$lanes>(dtype, panels, count, n_in, x, n_tok, out) }
        }

        /// See [`quant::quantize_row_weighted`].
        ///
        /// # Safety
        /// The CPU has the features.
        $(#[target_feature(enable = $features)])?
        pub(crate) unsafe fn quantize_row(
            dtype: DType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8],
        ) -> Result<(), Unsupported> {
            // SAFETY: forwarded from the caller.
            unsafe { quant::quantize_row_in::<$lanes>(dtype, x, importance, out) }
        }

        /// See [`elementwise::quantize`].
        ///
        /// # Safety
        /// The CPU has the features; sizes as in [`elementwise::quantize`].
        $(#[target_feature(enable = $features)])?
        pub(crate) unsafe fn quantize(x: &[f32], group: usize, q: &mut [i8], scale: &mut [f32]) {
            // SAFETY: forwarded from the caller.
            unsafe { elementwise::quantize::<$lanes>(x, group, q, scale) }
        }

        /// See [`elementwise::rms_norm`].
        ///
        /// # Safety
        /// The CPU has the features.
        $(#[target_feature(enable = $features)])?
        pub(crate) unsafe fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
            // SAFETY: forwarded from the caller.
            unsafe { elementwise::rms_norm::<$lanes>(x, weight, eps, y) }
        }

        /// See [`elementwise::gate`].
        ///
        /// # Safety
        /// The CPU has the features.
        $(#[target_feature(enable = $features)])?
        pub(crate) unsafe fn gate(gating: elementwise::Gating, gate: &mut [f32], up: &[f32]) {
            // SAFETY: forwarded from the caller.
            unsafe { elementwise::gate::<$lanes>(gating, gate, up) }
        }

        /// See [`elementwise::gelu`].
        ///
        /// # Safety
        /// The CPU has the features.
        $(#[target_feature(enable = $features)])?
        pub(crate) unsafe fn gelu(x: &mut [f32]) {
            // SAFETY: forwarded from the caller.
            unsafe { elementwise::gelu::<$lanes>(x) }
        }

        /// See [`attention::attend`].
        ///
        /// # Safety
        /// The CPU has the features; sizes as in [`attention::attend`].
        $(#[target_feature(enable = $features)])?
        pub(crate) unsafe fn attend(job: &attention::Attend<'_>, state: attention::State<'_>) {
            // SAFETY: forwarded from the caller.
            unsafe { attention::attend::<$lanes>(job, state) }
        }
    };
}
pub(crate) use float_kernels;
