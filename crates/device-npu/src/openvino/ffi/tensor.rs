//! Numbers and shapes, as they go to OpenVINO and come from it.

use std::any::Any;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use half::f16;
use openvino_sys as sys;
use sys::{ov_element_type_e as ElementType, ov_status_e as Status};

use super::library::{Library, take_text};
use crate::Error;

/// Numbers that a tensor can hold, and that are the same in Rust.
///
/// # Safety
/// `TYPE` has the size and the alignment of `Self`, and every pattern of its bits is a value.
pub(crate) unsafe trait Element: Copy + Send + 'static {
    /// What OpenVINO calls them.
    const TYPE: ElementType;
}

/// A byte that means true if it is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Truth(pub(crate) u8);

// SAFETY: IEEE 754 of four bytes on both sides.
unsafe impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;
}
// SAFETY: IEEE 754 of two bytes on both sides.
unsafe impl Element for f16 {
    const TYPE: ElementType = ElementType::F16;
}
// SAFETY: integers of eight bytes on both sides.
unsafe impl Element for i64 {
    const TYPE: ElementType = ElementType::I64;
}
// SAFETY: integers of four bytes on both sides.
unsafe impl Element for i32 {
    const TYPE: ElementType = ElementType::I32;
}
// SAFETY: bytes on both sides.
unsafe impl Element for u8 {
    const TYPE: ElementType = ElementType::U8;
}
// SAFETY: bytes on both sides; OpenVINO writes 0 and 1.
unsafe impl Element for Truth {
    const TYPE: ElementType = ElementType::OV_BOOLEAN;
}

/// Lengths as C has them. A length that is no `i64` is no memory's either, and is refused when memory is counted.
fn lengths(shape: &[usize]) -> Vec<i64> {
    shape
        .iter()
        .map(|&n| i64::try_from(n).unwrap_or(i64::MAX))
        .collect()
}

/// A tensor, and the memory that it lies in if that is ours.
#[derive(Debug)]
pub(super) struct Tensor {
    raw: NonNull<sys::ov_tensor_t>,
    /// Freed after the tensor, as fields are dropped after their owner.
    _memory: Option<Box<dyn Any + Send>>,
}

impl Tensor {
    /// A tensor that lies in these values.
    pub(super) fn of<T: Element>(
        library: &Library,
        doing: &str,
        shape: &[usize],
        mut values: Vec<T>,
    ) -> Result<Self, Error> {
        let wanted = shape.iter().try_fold(1usize, |n, &by| n.checked_mul(by));
        if wanted != Some(values.len()) {
            let have = values.len();
            return Err(library.error(doing, format!("{have} values are not of shape {shape:?}")));
        }
        let mut dims = lengths(shape);
        let shape = sys::ov_shape_t {
            rank: i64::try_from(dims.len()).unwrap_or(i64::MAX),
            dims: dims.as_mut_ptr(),
        };
        let mut raw = null_mut();
        // SAFETY: the shape is as long as it says, and is copied; the values are as many as the shape says, of the
        // type's size, and stay where they are, since the heap memory of a `Vec` does not move with it.
        let status = unsafe {
            sys::ov_tensor_create_from_host_ptr(
                T::TYPE,
                shape,
                values.as_mut_ptr().cast::<c_void>(),
                &mut raw,
            )
        };
        library.check(doing, status)?;
        Ok(Self {
            raw: library.made(doing, raw)?,
            _memory: Some(Box::new(values)),
        })
    }

    /// Takes over a tensor of the library's own memory.
    pub(super) fn from_raw(raw: NonNull<sys::ov_tensor_t>) -> Self {
        Self { raw, _memory: None }
    }

    pub(super) fn raw(&self) -> *const sys::ov_tensor_t {
        self.raw.as_ptr()
    }

    pub(super) fn element(&self, library: &Library, doing: &str) -> Result<ElementType, Error> {
        let mut element = ElementType::DYNAMIC;
        // SAFETY: the tensor is alive, and `element` is written to.
        let status = unsafe { sys::ov_tensor_get_element_type(self.raw(), &mut element) };
        library.check(doing, status)?;
        Ok(element)
    }

    pub(super) fn shape(&self, library: &Library, doing: &str) -> Result<Vec<usize>, Error> {
        let mut shape = sys::ov_shape_t {
            rank: 0,
            dims: null_mut(),
        };
        // SAFETY: the tensor is alive, and `shape` is written to.
        let status = unsafe { sys::ov_tensor_get_shape(self.raw(), &mut shape) };
        library.check(doing, status)?;
        let rank = usize::try_from(shape.rank).unwrap_or(0);
        let lengths = match shape.dims.is_null() {
            true => &[][..],
            // SAFETY: the call has put as many lengths there as the rank says.
            false => unsafe { std::slice::from_raw_parts(shape.dims, rank) },
        };
        let lengths = lengths.iter().map(|&n| usize::try_from(n).unwrap_or(0));
        let lengths = lengths.collect();
        // SAFETY: filled by the library, and freed once.
        unsafe { sys::ov_shape_free(&mut shape) };
        Ok(lengths)
    }

    /// Its values, which are `n_value`.
    pub(super) fn values<T: Element>(
        &self,
        library: &Library,
        doing: &str,
        n_value: usize,
    ) -> Result<&[T], Error> {
        let element = self.element(library, doing)?;
        if element != T::TYPE {
            let want = T::TYPE;
            let told = format!("its values are {element:?}, and {want:?} is expected");
            return Err(library.error(doing, told));
        }
        let (mut n_byte, mut data) = (0, null_mut());
        // SAFETY: the tensor is alive, and `n_byte` is written to.
        let status = unsafe { sys::ov_tensor_get_byte_size(self.raw(), &mut n_byte) };
        library.check(doing, status)?;
        if n_byte != n_value * size_of::<T>() {
            let told = format!("{n_byte} bytes are not {n_value} values");
            return Err(library.error(doing, told));
        }
        if n_value == 0 {
            return Ok(&[]);
        }
        // SAFETY: the tensor is alive, and `data` is written to.
        let status = unsafe { sys::ov_tensor_data(self.raw(), &mut data) };
        library.check(doing, status)?;
        let data = library.made(doing, data.cast::<T>())?;
        if !data.is_aligned() {
            return Err(library.error(doing, "its values are not aligned".to_owned()));
        }
        // SAFETY: not null, aligned, of `T` by its type and its bytes; it lives as long as the tensor, which is
        // borrowed, and nobody writes to it as long as the request behind it is.
        Ok(unsafe { std::slice::from_raw_parts(data.as_ptr(), n_value) })
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: made by the library, and owned by this value alone.
        unsafe { sys::ov_tensor_free(self.raw.as_ptr()) };
    }
}

/// A shape that an input is to have, as C has it.
pub(super) struct StaticShape(Vec<sys::ov_dimension_t>);

impl StaticShape {
    pub(super) fn new(shape: &[usize]) -> Self {
        let dimension = |n| sys::ov_dimension_t { min: n, max: n };
        Self(lengths(shape).into_iter().map(dimension).collect())
    }

    /// Good as long as this is.
    pub(super) fn raw(&mut self) -> sys::ov_partial_shape_t {
        let rank = i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        sys::ov_partial_shape_t {
            rank: sys::ov_dimension_t {
                min: rank,
                max: rank,
            },
            dims: self.0.as_mut_ptr(),
        }
    }
}

/// What a model asks for or gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) element: ElementType,
    /// Lengths of its axes, `None` where any will do; none at all where not even their number is known.
    pub(crate) shape: Option<Vec<Option<usize>>>,
}

type Count<T> = unsafe fn(*const T, *mut usize) -> Status;
type ByIndex<T> = unsafe fn(*const T, usize, *mut *mut sys::ov_output_const_port_t) -> Status;

/// The ports of a model.
///
/// # Safety
/// `of` is alive, and both functions take it and return ports that are the caller's.
pub(super) unsafe fn ports<T>(
    library: &Library,
    of: *const T,
    count: Count<T>,
    by_index: ByIndex<T>,
) -> Result<Vec<Port>, Error> {
    let (doing, mut n) = ("reading the model's ports", 0);
    // SAFETY: by this function's contract; `n` is written to.
    library.check(doing, unsafe { count(of, &mut n) })?;
    let port = |i| {
        let mut raw = null_mut();
        // SAFETY: by this function's contract; `raw` is written to.
        library.check(doing, unsafe { by_index(of, i, &mut raw) })?;
        RawPort(library.made(doing, raw)?).read(library, doing)
    };
    (0..n).map(port).collect()
}

struct RawPort(NonNull<sys::ov_output_const_port_t>);

impl RawPort {
    fn read(&self, library: &Library, doing: &str) -> Result<Port, Error> {
        let (raw, mut name, mut element) = (self.0.as_ptr(), null_mut(), ElementType::DYNAMIC);
        // SAFETY: the port is alive, and `name` is written to.
        library.check(doing, unsafe { sys::ov_port_get_any_name(raw, &mut name) })?;
        // SAFETY: the call has handed its text over.
        let name = unsafe { take_text(name) }.unwrap_or_default();
        // SAFETY: the port is alive, and `element` is written to.
        library.check(doing, unsafe {
            sys::ov_port_get_element_type(raw, &mut element)
        })?;
        let mut shape = sys::ov_partial_shape_t {
            rank: sys::ov_dimension_t { min: 0, max: 0 },
            dims: null_mut(),
        };
        // SAFETY: the port is alive, and `shape` is written to.
        library.check(doing, unsafe {
            sys::ov_port_get_partial_shape(raw, &mut shape)
        })?;
        let lengths = (shape.rank.min == shape.rank.max).then(|| {
            let rank = usize::try_from(shape.rank.min).unwrap_or(0);
            match rank == 0 || shape.dims.is_null() {
                true => Vec::new(),
                // SAFETY: the call has put as many lengths there as the rank says.
                false => unsafe { std::slice::from_raw_parts(shape.dims, rank) }
                    .iter()
                    .map(|n| usize::try_from(n.min).ok().filter(|_| n.min == n.max))
                    .collect(),
            }
        });
        // SAFETY: filled by the library, and freed once.
        unsafe { sys::ov_partial_shape_free(&mut shape) };
        Ok(Port {
            name,
            element,
            shape: lengths,
        })
    }
}

impl Drop for RawPort {
    fn drop(&mut self) {
        // SAFETY: made by the library, and owned by this value alone.
        unsafe { sys::ov_output_const_port_free(self.0.as_ptr()) };
    }
}
