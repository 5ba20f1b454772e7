//! Float kernels on arrays: the reference.

use crate::lanes::ArrayLanes;

crate::float::float_kernels!(ArrayLanes);
