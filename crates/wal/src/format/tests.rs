//! What the format promises, tried on every bit and on random input.
