//! Any bytes, read as a block. What must hold is in `bodies/block.rs`.
#![no_main]

#[path = "../bodies/block.rs"]
mod block;

libfuzzer_sys::fuzz_target!(|input: &[u8]| block::run(input));
