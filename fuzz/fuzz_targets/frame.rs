//! Any bytes, read as a stream of frames. What must hold is in `bodies/frame.rs`.
#![no_main]

#[path = "../bodies/frame.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|input: &[u8]| frame::run(input));
