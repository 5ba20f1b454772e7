//! Intel's way: OpenVINO's C library, a stateful graph and its NPU plugin.
