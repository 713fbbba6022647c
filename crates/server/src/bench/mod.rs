//! Measurements.

pub(crate) mod memory;
