//! Reading a compressed payload. Guarantee: the output is exactly as long as the (verified, bounded)
//! header says, or an error; a payload that would grow past that is refused, not followed.
//! Not here: writing one.

use bytes::Bytes;

use super::error::BlockError;

/// Decompresses one zstd payload to exactly `plain_len` bytes, which the caller has bounded.
pub(super) fn zstd_exact(stored: &[u8], plain_len: usize) -> Result<Bytes, BlockError> {
    // One call with the whole output at hand: zstd then needs no window of a size that the payload
    // names, and fails when the output does not fit.
    let plain =
        zstd::bulk::decompress(stored, plain_len).map_err(|_cause| BlockError::Compression)?;
    if plain.len() == plain_len { Ok(plain.into()) } else { Err(BlockError::Compression) }
}
