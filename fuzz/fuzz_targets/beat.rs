//! Any bytes, read as heartbeat datagrams. What must hold is in `bodies/beat.rs`.
#![no_main]

#[path = "../bodies/beat.rs"]
mod beat;

libfuzzer_sys::fuzz_target!(|input: &[u8]| beat::run(input));
