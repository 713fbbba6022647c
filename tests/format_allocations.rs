//! How much memory the format takes, as the allocator sees it: nothing for a length that is not
//! true, nothing more for a bomb than the header's bounded length, no copy for sealing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use outrigger_wal::format::{
    Block, BlockBuilder, BlockError, BlockHeader, COMPRESSION_ZSTD, MAX_BLOCK_BYTES, RecordFlag,
    Seal,
};
use outrigger_wal::{LogId, Lsn, RunningHash};

const LOG: LogId = LogId(1);

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which notes the largest request of each thread.
struct Noting;

// SAFETY: every request goes to `System` as it came; noting a size allocates nothing.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static NOTING: Noting = Noting;

/// What `run` returns, and the largest single request it made.
fn noting<T>(run: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.set(0);
    let done = run();
    (done, LARGEST.get())
}

fn seal() -> Seal {
    Seal {
        log: LOG,
        lsn: Lsn::ZERO,
        epoch: 1,
        hash_before: RunningHash::default(),
        durable: Lsn::ZERO,
        commit: Lsn::ZERO,
        sealed_micros: 0,
    }
}

fn data(body: &[u8]) -> Block {
    let mut open = BlockBuilder::new();
    open.push(body, RecordFlag::Record);
    open.seal(&seal())
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    let block = data(&[7; 1000]);
    for (true_len, stored_len) in [
        (u32::MAX, u32::MAX),
        (MAX_BLOCK_BYTES, MAX_BLOCK_BYTES),
        (MAX_BLOCK_BYTES + 1, MAX_BLOCK_BYTES + 1),
        (u32::MAX, 96),
        (96, u32::MAX),
        (0, 0),
    ] {
        for compression in [0, COMPRESSION_ZSTD] {
            let lying = BlockHeader {
                true_len,
                stored_len,
                compression,
                ..*block.header()
            };
            let stored = Bytes::from([&lying.encode(LOG), &[0; 4000][..]].concat());
            let (opened, largest) = noting(|| Block::open(stored, Lsn::ZERO, LOG));
            assert!(opened.is_err());
            assert!(
                largest < 1024,
                "{true_len}, {stored_len}: {largest} bytes at once"
            );
        }
    }
}

#[test]
fn a_bomb_takes_no_more_than_the_length_its_header_states() {
    let payload = zstd::bulk::compress(&vec![0; 32 << 20], 3).unwrap_or_default();
    let stored_len = u32::try_from(96 + payload.len()).unwrap_or(u32::MAX);
    let header = BlockHeader {
        compression: COMPRESSION_ZSTD,
        payload_crc: crc32fast::hash(&payload),
        true_len: 1 << 20,
        stored_len,
        ..*data(b"").header()
    };
    let stored = Bytes::from([&header.encode(LOG), &payload[..]].concat());
    let (plain, largest) = noting(|| Block::open(stored, Lsn::ZERO, LOG)?.plain());
    assert_eq!(plain, Err(BlockError::Compression));
    assert!(largest <= 1 << 20, "{largest} bytes at once");
}

#[test]
fn sealing_and_reading_a_block_copy_no_payload() {
    let mut open = BlockBuilder::with_capacity(1 << 20);
    for _ in 0..100 {
        open.push(&[7; 10_000], RecordFlag::Record);
    }
    let (read, largest) = noting(|| {
        let block = open.seal(&seal());
        let block = Block::open(block.stored().clone(), Lsn::ZERO, LOG)?;
        Ok::<_, BlockError>(block.records()?.filter(Result::is_ok).count())
    });
    assert_eq!(read, Ok(100));
    assert!(largest < 1024, "{largest} bytes at once");
}
