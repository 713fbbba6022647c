//! Writing several buffers at one place of a file, wholly or with an error.
//!
//! Guarantees: with `dsync` a return without an error means durable. Not here: which file.

use std::fs::File;
use std::io::{self, IoSlice};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// How many buffers the operating system takes in one call (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Writes `parts` one behind the other from byte `at`.
///
/// # Errors
/// The operating system's; a write that takes nothing is one too.
pub(super) fn write_all(file: &File, at: u64, parts: &[Bytes], dsync: bool) -> io::Result<()> {
    let total = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.len() as u64));
    super::end_of_write(at, total)?;
    let flags = if dsync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
    match write_pieces(at, parts, |slices, at| pwritev2(file, slices, at, flags)) {
        // File systems and kernels without RWF_DSYNC say so before they write anything.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) if dsync => {
            write_all(file, at, parts, false)?;
            file.sync_data()
        }
        result => Ok(result?),
    }
}

/// Calls `write` until every byte is taken: short writes go on behind what they wrote.
fn write_pieces(
    at: u64,
    parts: &[Bytes],
    mut write: impl FnMut(&[IoSlice<'_>], u64) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    let mut slices: Vec<IoSlice<'_>> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    let mut at = at;
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(MAX_SLICES)];
        match write(batch, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(wrote) => {
                at = at.checked_add(wrote as u64).ok_or(Errno::OVERFLOW)?;
                IoSlice::advance_slices(&mut rest, wrote);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes into memory, at most `most` bytes a call, with an answer of its own every third.
    fn write_in_pieces(
        parts: &[&'static [u8]],
        most: usize,
        third: Result<usize, Errno>,
    ) -> Result<(Vec<u8>, usize), Errno> {
        let parts: Vec<Bytes> = parts.iter().map(|part| Bytes::from_static(part)).collect();
        let (mut written, mut calls) = (vec![0; 5], 0);
        write_pieces(5, &parts, |slices, at| {
            calls += 1;
            if calls % 3 == 0 {
                return third;
            }
            assert_eq!(at, written.len() as u64);
            assert!(slices.len() <= MAX_SLICES);
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let took = all.len().min(most);
            written.extend_from_slice(&all[..took]);
            Ok(took)
        })?;
        Ok((written, calls))
    }

    #[test]
    fn short_and_interrupted_writes_go_on_where_they_stopped() {
        for most in 1..12 {
            let parts: [&[u8]; 4] = [b"abc", b"", b"defgh", b"i"];
            let (written, _) = write_in_pieces(&parts, most, Err(Errno::INTR)).unwrap();
            assert_eq!(written, b"\0\0\0\0\0abcdefghi");
        }
    }

    #[test]
    fn a_write_that_takes_nothing_is_an_error() {
        assert_eq!(write_in_pieces(&[b"abcdef"], 1, Ok(0)), Err(Errno::IO));
        assert_eq!(write_in_pieces(&[b"abcdef"], 1, Err(Errno::NOSPC)), Err(Errno::NOSPC));
    }

    #[test]
    fn more_buffers_than_one_call_takes_are_all_written() {
        let parts: Vec<&'static [u8]> = vec![b"x"; 2500];
        let (written, calls) = write_in_pieces(&parts, usize::MAX, Err(Errno::INTR)).unwrap();
        assert_eq!(written.len(), 5 + 2500);
        assert_eq!(calls, 4);
    }
}
