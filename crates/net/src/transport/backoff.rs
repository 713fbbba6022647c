//! How long to wait before dialling again.
//!
//! Guarantees: a pure function; never zero, never above the cap. Not here: where randomness comes
//! from.

const FIRST_MICROS: u64 = 10_000;
const CAP_MICROS: u64 = 1_000_000;

/// The wait before attempt number `attempt` (0 is the first repetition): 10 ms, doubling up to 1 s,
/// of which `random` decides the upper half, so that many peers that lost one other do not come back
/// at once.
///
/// ```
/// use outrigger_net::transport::backoff_micros;
/// assert_eq!(backoff_micros(0, 0), 5_000);
/// assert!((500_000..=1_000_000).contains(&backoff_micros(40, 12345)));
/// ```
#[must_use]
pub fn backoff_micros(attempt: u32, random: u64) -> u64 {
    // 2^7 times 10 ms is already above the cap.
    let full = (FIRST_MICROS << attempt.min(7)).min(CAP_MICROS);
    let half = full / 2;
    half + random % (half + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_cap_and_jitter_by_half() {
        for (attempt, full) in
            [(0, 10_000), (1, 20_000), (6, 640_000), (7, 1_000_000), (u32::MAX, 1_000_000)]
        {
            assert_eq!(backoff_micros(attempt, 0), full / 2);
            assert_eq!(backoff_micros(attempt, full / 2), full);
            for random in [1, 77, 123_456_789, u64::MAX] {
                assert!((full / 2..=full).contains(&backoff_micros(attempt, random)));
            }
        }
    }
}
