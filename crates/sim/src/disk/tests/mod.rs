//! What the simulated disk promises beyond the conformance tests, and what it takes away.

mod faults;
mod power;
mod time;

use bytes::Bytes;
use outrigger_wal::disk::{DiskExt, FileId, Io, IoDone, IoFault};

use super::{SimDisk, SimDiskOptions};

const FILE: FileId = FileId::Segment(1);
const PAGES: u64 = 16;

fn run(disk: &mut SimDisk, io: Io) -> Result<IoDone, IoFault> {
    disk.blocking().run(io)
}

fn done(disk: &mut SimDisk, io: Io) {
    assert_eq!(run(disk, io), Ok(IoDone::Done));
}

fn write_io(at: u64, bytes: impl Into<Bytes>, dsync: bool) -> Io {
    Io::Write { file: FILE, at, parts: vec![bytes.into()], dsync }
}

/// Fills so many bytes with one value.
fn fill(disk: &mut SimDisk, at: u64, len: u64, value: u8) {
    done(disk, write_io(at, vec![value; usize::try_from(len).unwrap()], false));
}

/// A disk with one file of `PAGES` pages of ones, durable.
fn with_file(seed: u64) -> SimDisk {
    let disk = SimDisk::new(SimDiskOptions::immediate(seed));
    disk.set_file(FILE, &vec![1; usize::try_from(PAGES * 4096).unwrap()]);
    disk
}

fn content(disk: &SimDisk) -> Bytes {
    disk.file_bytes(FILE).unwrap_or_default()
}

/// The value of each sector; a sector with several values fails the test.
fn sectors(disk: &SimDisk) -> Vec<u8> {
    content(disk)
        .chunks(512)
        .map(|sector| {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
            sector[0]
        })
        .collect()
}
