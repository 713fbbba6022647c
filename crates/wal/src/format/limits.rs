//! The sizes that the format allows. All are constants of the format: a log within them can be read
//! by everyone who reads Format 1.

/// The largest record body, whatever the segment size: 16 MiB.
pub const MAX_RECORD_BYTES: u32 = 16 << 20;

/// The largest block but Pad, as `true_len`: the header and one framed record of
/// [`MAX_RECORD_BYTES`], rounded up to a page.
pub const MAX_BLOCK_BYTES: u32 = MAX_RECORD_BYTES + 4096;

/// The smallest segment: 1 MiB.
pub const MIN_SEGMENT_BYTES: u64 = 1 << 20;

/// The largest segment: 1 GiB.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// The segment size of a log that was not told otherwise: 64 MiB.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;

/// The largest record body in a log with this segment size: a quarter of a segment, at most
/// [`MAX_RECORD_BYTES`]. An atomic batch is held to the same size: its framed bytes are at most
/// [`record_frame_bytes`](super::record_frame_bytes) of this.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "bounded by a u32 one line above")]
pub const fn max_record_bytes(segment_bytes: u64) -> u32 {
    let quarter = segment_bytes / 4;
    if quarter < MAX_RECORD_BYTES as u64 { quarter as u32 } else { MAX_RECORD_BYTES }
}

/// Whether a log may have segments of this size: a power of two from [`MIN_SEGMENT_BYTES`] to
/// [`MAX_SEGMENT_BYTES`].
#[must_use]
pub const fn is_segment_bytes(bytes: u64) -> bool {
    bytes.is_power_of_two() && MIN_SEGMENT_BYTES <= bytes && bytes <= MAX_SEGMENT_BYTES
}
