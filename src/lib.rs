//! What an embedder adds: the engine's crates under one name.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
