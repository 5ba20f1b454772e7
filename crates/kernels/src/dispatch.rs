//! The table of kernels, one column per instruction set, chosen once at start.
//!
//! The table is the proof: [`Kernels::all`] lists a set only after its `available()` said yes, so calling through it
//! is sound. Slices are checked here, at the door; behind it are pointers.

use std::sync::LazyLock;

use troika_base::DType;

#[cfg(target_arch = "aarch64")]
use crate::aarch64;
use crate::activations::{BLOCK, QuantizedTile};
use crate::float::attention::{Attend, State, padded};
use crate::float::elementwise::Gating;
use crate::packed::{PANEL_ROWS, panel_bytes};
use crate::quant::Unsupported;
use crate::scalar;
use crate::tiled::Tiled;
use crate::unpacked::Unpacked;
#[cfg(target_arch = "x86_64")]
use crate::x86_64;

/// `(format, panels, their number, n_in, x, out)`
type IntProduct = unsafe fn(DType, &[u8], usize, usize, QuantizedTile<'_>, &mut [f32]);

/// `(format, panels, their number, n_in, x, n_tok, out)`
type FloatProduct = unsafe fn(DType, &[u8], usize, usize, &[f32], usize, &mut [f32]);

/// `(format, weights, their importance, out)`
type QuantizeRow = unsafe fn(DType, &[f32], Option<&[f32]>, &mut [u8]) -> Result<(), Unsupported>;

/// Every set that this CPU can run.
static SETS: LazyLock<Vec<Kernels>> = LazyLock::new(Kernels::all);

/// The kernels of one instruction set.
pub struct Kernels {
    /// `scalar`, `avx2`, `avxvnni`, `avx512vnni`, `amx`, `neon`, `dotprod`, `i8mm`: what `TROIKA_ISA` takes and reports
    /// print.
    pub name: &'static str,
    /// Bytes per weight of a panel taken apart.
    pub(crate) unpacked_weight_bytes: usize,
    gemv: IntProduct,
    gemm_packed: Option<IntProduct>,
    unpack: unsafe fn(DType, &[u8], usize, &mut Unpacked),
    gemm: unsafe fn(DType, &[Unpacked], usize, QuantizedTile<'_>, &mut [f32]),
    product: FloatProduct,
    quantize: unsafe fn(&[f32], usize, &mut [i8], &mut [f32]),
    quantize_row: QuantizeRow,
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    gate: unsafe fn(Gating, &mut [f32], &[f32]),
    gelu: unsafe fn(&mut [f32]),
    attend: unsafe fn(&Attend<'_>, State<'_>),
    /// The matrix unit for products with many tokens, where there is one.
    pub(crate) tiled: Option<Tiled>,
}

impl Kernels {
    /// Every set that this CPU can run, slowest first; `[0]` is the scalar reference. The only constructor.
    pub fn all() -> Vec<Self> {
        let mut sets = vec![Self {
            name: "scalar",
            unpacked_weight_bytes: 1,
            gemv: scalar::int::gemv,
            gemm_packed: None,
            unpack: scalar::int::unpack,
            gemm: scalar::int::gemm,
            product: scalar::float::product,
            quantize: scalar::float::quantize,
            quantize_row: scalar::float::quantize_row,
            rms_norm: scalar::float::rms_norm,
            gate: scalar::float::gate,
            gelu: scalar::float::gelu,
            attend: scalar::float::attend,
            tiled: None,
        }];
        #[cfg(target_arch = "x86_64")]
        if x86_64::avx2::available() {
            sets.push(Self {
                name: "avx2",
                unpacked_weight_bytes: 2,
                gemv: x86_64::avx2::int::gemv,
                gemm_packed: None,
                unpack: x86_64::avx2::int::unpack,
                gemm: x86_64::avx2::int::gemm,
                product: x86_64::avx2::float::product,
                quantize: x86_64::avx2::float::quantize,
                quantize_row: x86_64::avx2::float::quantize_row,
                rms_norm: x86_64::avx2::float::rms_norm,
                gate: x86_64::avx2::float::gate,
                gelu: x86_64::avx2::float::gelu,
                attend: x86_64::avx2::float::attend,
                tiled: None,
            });
        }
        #[cfg(target_arch = "x86_64")]
        if x86_64::avx2::vnni_available() {
            sets.push(Self {
                name: "avxvnni",
                unpacked_weight_bytes: 1,
                gemv: x86_64::avx2::vnni::gemv,
                gemm_packed: None,
                unpack: x86_64::avx2::vnni::unpack,
                gemm: x86_64::avx2::vnni::gemm,
                product: x86_64::avx2::float::product,
                quantize: x86_64::avx2::float::quantize,
                quantize_row: x86_64::avx2::float::quantize_row,
                rms_norm: x86_64::avx2::float::rms_norm,
                gate: x86_64::avx2::float::gate,
                gelu: x86_64::avx2::float::gelu,
                attend: x86_64::avx2::float::attend,
                tiled: None,
            });
        }
        #[cfg(target_arch = "x86_64")]
        if x86_64::avx512::available() {
            sets.push(Self::avx512vnni());
        }
        #[cfg(target_arch = "x86_64")]
        if x86_64::avx512::available() {
            match x86_64::amx::unit() {
                Some(unit) if unit.is_native() => sets.push(Self::amx()),
                // To be asked for by name: it is the slowest of all.
                Some(_) if cfg!(feature = "amx-emulator") => sets.insert(1, Self::amx()),
                _ => {}
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if aarch64::available() {
                sets.push(Self::neon());
            }
            if aarch64::dotprod_available() {
                sets.push(Self::dotprod());
            }
            if aarch64::i8mm_available() {
                sets.push(Self::i8mm());
            }
        }
        sets
    }

    /// For [`all`](Self::all), on CPUs that have it.
    #[cfg(target_arch = "x86_64")]
    fn avx512vnni() -> Self {
        Self {
            name: "avx512vnni",
            unpacked_weight_bytes: 1,
            gemv: x86_64::avx512::int::gemv,
            gemm_packed: Some(x86_64::avx512::int::gemm_packed),
            unpack: x86_64::avx512::int::unpack,
            gemm: x86_64::avx512::int::gemm,
            product: x86_64::avx512::float::product,
            quantize: x86_64::avx512::float::quantize,
            quantize_row: x86_64::avx512::float::quantize_row,
            rms_norm: x86_64::avx512::float::rms_norm,
            gate: x86_64::avx512::float::gate,
            gelu: x86_64::avx512::float::gelu,
            attend: x86_64::avx512::float::attend,
            tiled: None,
        }
    }

    /// AVX-512 VNNI, which every CPU with AMX has, and its matrix unit.
    #[cfg(target_arch = "x86_64")]
    fn amx() -> Self {
        Self {
            name: "amx",
            tiled: Some(x86_64::amx::TILED),
            ..Self::avx512vnni()
        }
    }

    /// For [`all`](Self::all), on CPUs that have it.
    #[cfg(target_arch = "aarch64")]
    fn neon() -> Self {
        Self {
            name: "neon",
            unpacked_weight_bytes: 1,
            gemv: aarch64::neon::gemv,
            gemm_packed: None,
            unpack: aarch64::neon::unpack,
            gemm: aarch64::neon::gemm,
            product: aarch64::float::product,
            quantize: aarch64::float::quantize,
            quantize_row: aarch64::float::quantize_row,
            rms_norm: aarch64::float::rms_norm,
            gate: aarch64::float::gate,
            gelu: aarch64::float::gelu,
            attend: aarch64::float::attend,
            tiled: None,
        }
    }

    /// NEON, and integers by `sdot`.
    #[cfg(target_arch = "aarch64")]
    fn dotprod() -> Self {
        Self {
            name: "dotprod",
            gemv: aarch64::dotprod::gemv,
            unpack: aarch64::dotprod::unpack,
            gemm: aarch64::dotprod::gemm,
            ..Self::neon()
        }
    }

    /// As [`dotprod`](Self::dotprod), and integers of several tokens by `smmla`.
    #[cfg(target_arch = "aarch64")]
    fn i8mm() -> Self {
        Self {
            name: "i8mm",
            unpack: aarch64::i8mm::unpack,
            gemm: aarch64::i8mm::gemm,
            ..Self::dotprod()
        }
    }

    /// The AMX set on whatever executes it, for tests.
    #[cfg(all(test, target_arch = "x86_64"))]
    pub(crate) fn amx_on_any_unit() -> Option<Self> {
        (x86_64::avx512::available() && x86_64::amx::unit().is_some()).then(Self::amx)
    }

    /// The set that `TROIKA_ISA` names, else the fastest.
    ///
    /// A name that this CPU cannot run is answered with the list of those that it can.
    pub fn from_env() -> Result<&'static Self, UnknownSet> {
        match std::env::var("TROIKA_ISA") {
            Ok(name) if !name.is_empty() => {
                SETS.iter()
                    .find(|set| set.name == name)
                    .ok_or_else(|| UnknownSet {
                        asked: name,
                        known: SETS.iter().map(|set| set.name).collect(),
                    })
            }
            _ => Ok(SETS.last().expect("the scalar set is always there")),
        }
    }

    /// The fastest set that computes a token the same to the bit in a batch of any size: one without a matrix unit.
    pub fn batch_invariant() -> &'static Self {
        let mut sets = SETS.iter().rev();
        sets.find(|set| set.tiled.is_none())
            .expect("the scalar set is always there")
    }

    /// `count` packed panels (`dtype`, `n_in` columns) times one token: `out` `[count, 16]`, overwritten.
    pub(crate) fn gemv(
        &self,
        dtype: DType,
        panels: &[u8],
        count: usize,
        n_in: usize,
        x: QuantizedTile<'_>,
        out: &mut [f32],
    ) {
        assert_eq!(
            Some(panels.len()),
            panel_bytes(dtype, n_in).map(|bytes| bytes * count),
            "panels and shape"
        );
        assert_eq!(
            (x.len, x.q.len()),
            (1, n_in),
            "one token of n_in activations"
        );
        assert_eq!(out.len(), count * PANEL_ROWS, "16 outputs a panel");
        if count > 0 {
            // SAFETY: the set is available (see `all`), and sizes were checked above.
            unsafe { (self.gemv)(dtype, panels, count, n_in, x, out) }
        }
    }

    /// Whether [`gemm_packed`](Self::gemm_packed) is there.
    pub(crate) fn has_gemm_packed(&self) -> bool {
        self.gemm_packed.is_some()
    }

    /// `count` packed panels (`dtype`, `n_in` columns) times a tile of tokens: `out` `[count, x.len, 16]`, overwritten.
    ///
    /// # Panics
    /// If the set has no such kernel.
    pub(crate) fn gemm_packed(
        &self,
        dtype: DType,
        panels: &[u8],
        count: usize,
        n_in: usize,
        x: QuantizedTile<'_>,
        out: &mut [f32],
    ) {
        let bytes = panel_bytes(dtype, n_in).map(|bytes| bytes * count);
        assert_eq!(Some(panels.len()), bytes, "panels and shape");
        assert_eq!(x.q.len(), x.len * n_in, "a tile of n_in columns");
        assert_eq!(out.len(), count * x.len * PANEL_ROWS, "16 outputs a token");
        let kernel = self.gemm_packed.expect("asked for, and there");
        if count > 0 {
            // SAFETY: the set is available (see `all`), and sizes were checked above.
            unsafe { kernel(dtype, panels, count, n_in, x, out) }
        }
    }

    /// Takes one packed panel apart into `out`.
    pub(crate) fn unpack(&self, dtype: DType, panel: &[u8], n_in: usize, out: &mut Unpacked) {
        assert_eq!(
            Some(panel.len()),
            panel_bytes(dtype, n_in),
            "panel and shape"
        );
        assert!(
            out.q.len() >= n_in * PANEL_ROWS * self.unpacked_weight_bytes,
            "room for the panel"
        );
        // SAFETY: the set is available (see `all`), and sizes were checked above.
        unsafe { (self.unpack)(dtype, panel, n_in, out) }
    }

    /// Panels taken apart times a tile of tokens: `out` `[w.len(), x.len, 16]`, overwritten.
    pub(crate) fn gemm(
        &self,
        dtype: DType,
        w: &[Unpacked],
        n_in: usize,
        x: QuantizedTile<'_>,
        out: &mut [f32],
    ) {
        for w in w {
            assert!(
                w.q.len() >= n_in * PANEL_ROWS * self.unpacked_weight_bytes,
                "a panel of n_in columns"
            );
        }
        assert_eq!(
            (x.q.len(), x.scale.len()),
            (x.len * n_in, x.len * n_in / BLOCK),
            "a tile of n_in columns"
        );
        assert_eq!(
            out.len(),
            w.len() * x.len * PANEL_ROWS,
            "16 outputs a panel and token"
        );
        // SAFETY: the set is available (see `all`), and sizes were checked above.
        unsafe { (self.gemm)(dtype, w, n_in, x, out) }
    }

    /// Panels of F32, F16 or BF16 weights times a tile of tokens: `out` `[count, n_tok, 16]`, overwritten. `x` is
    /// `[n_in, n_tok]`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a kernel's operands and their sizes"
    )]
    pub(crate) fn product(
        &self,
        dtype: DType,
        panels: &[u8],
        count: usize,
        n_in: usize,
        x: &[f32],
        n_tok: usize,
        out: &mut [f32],
    ) {
        assert_eq!(
            Some(panels.len()),
            panel_bytes(dtype, n_in).map(|bytes| bytes * count),
            "panels and shape"
        );
        assert_eq!(x.len(), n_tok * n_in, "a tile of n_in columns");
        assert_eq!(out.len(), count * n_tok * PANEL_ROWS, "16 outputs a token");
        if count > 0 && n_in > 0 {
            // SAFETY: the set is available (see `all`), and sizes were checked above.
            unsafe { (self.product)(dtype, panels, count, n_in, x, n_tok, out) }
        }
    }

    /// Quantizes groups of `group` values; see [`scalar::float::quantize`]. Never writes -128.
    pub(crate) fn quantize(&self, x: &[f32], group: usize, q: &mut [i8], scale: &mut [f32]) {
        assert!(
            group.is_multiple_of(BLOCK) && x.len().is_multiple_of(group),
            "whole groups"
        );
        assert_eq!(
            (q.len(), scale.len()),
            (x.len(), x.len() / group),
            "one scale a group"
        );
        // SAFETY: the set is available (see `all`), and sizes were checked above.
        unsafe { (self.quantize)(x, group, q, scale) }
    }

    /// Weights in blocks of `dtype`: [`quant::quantize_row_weighted`](crate::quant::quantize_row_weighted), and the same to the bit, but with
    /// the set's instructions.
    ///
    /// # Errors
    /// If the format is not computed.
    ///
    /// # Panics
    /// If the lengths disagree.
    pub fn quantize_row(
        &self,
        dtype: DType,
        x: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), Unsupported> {
        // SAFETY: the set is available (see `all`); lengths are checked behind the door.
        unsafe { (self.quantize_row)(dtype, x, importance, out) }
    }

    /// One row: `y = x / sqrt(mean(x²) + eps) * weight`; all of the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
        assert_eq!(
            (x.len(), y.len()),
            (weight.len(), weight.len()),
            "rows of one length"
        );
        // SAFETY: the set is available (see `all`), and sizes were checked above.
        unsafe { (self.rms_norm)(x, weight, eps, y) }
    }

    /// Joins `gate` and `up` into `gate`, element by element.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gate(&self, gating: Gating, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "one gate for each value");
        // SAFETY: the set is available (see `all`), and sizes were checked above.
        unsafe { (self.gate)(gating, gate, up) }
    }

    /// `x * Φ(x)` with the normal distribution's `Φ`, element by element: GELU in its exact form, within 3e-7.
    /// [`Gating::Gelu`] has the other one.
    pub fn gelu(&self, x: &mut [f32]) {
        // SAFETY: the set is available (see `all`).
        unsafe { (self.gelu)(x) }
    }

    /// Adds pages of keys and values to the softmax state of some queries.
    pub(crate) fn attend(&self, job: &Attend<'_>, state: State<'_>) {
        let (n_query, width) = (job.visible.len(), padded(job.layout.head_dim));
        assert_eq!(
            job.q.len(),
            n_query * job.layout.head_dim,
            "q is [n_query, head_dim]"
        );
        assert_eq!(
            (state.max.len(), state.sum.len(), state.out.len()),
            (n_query, n_query, n_query * width),
            "state of every query"
        );
        let bytes = job.layout.bytes();
        assert!(
            job.pages.iter().all(|page| page.len() == bytes),
            "whole pages"
        );
        // SAFETY: the set is available (see `all`), and sizes were checked above.
        unsafe { (self.attend)(job, state) }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}

/// `TROIKA_ISA` names a kernel set that this CPU cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownSet {
    /// What was asked for.
    pub asked: String,
    /// What there is, slowest first.
    pub known: Vec<&'static str>,
}

impl std::fmt::Display for UnknownSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TROIKA_ISA={}: this CPU runs {}",
            self.asked,
            self.known.join(", ")
        )
    }
}

impl std::error::Error for UnknownSet {}
