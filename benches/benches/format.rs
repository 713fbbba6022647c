//! What one block costs: building and sealing it, checking it, reading its records.
#![expect(missing_docs, reason = "criterion makes a public function")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use outrigger_wal::format::{
    Block, BlockBuilder, HEADER_BYTES, RecordFlag, Seal, record_frame_bytes,
};
use outrigger_wal::{LogId, Lsn, RunningHash};

const LOG: LogId = LogId(7);
const BLOCK_BYTES: usize = 256 << 10;
const SEAL: Seal = Seal {
    log: LOG,
    lsn: Lsn(4096),
    epoch: 1,
    hash_before: RunningHash(0),
    durable: Lsn::ZERO,
    commit: Lsn::ZERO,
    sealed_micros: 0,
};

fn open_block(record_bytes: usize) -> BlockBuilder {
    let record = vec![7; record_bytes];
    let mut block = BlockBuilder::new();
    let frame = record_frame_bytes(record_bytes);
    while u64::from(block.true_len()) + frame <= BLOCK_BYTES as u64 {
        block.push(&record, RecordFlag::Record);
    }
    block
}

fn format(criterion: &mut Criterion) {
    for record_bytes in [128, 4096] {
        let mut group = criterion.benchmark_group(format!("block of {record_bytes} B records"));
        let sealed = open_block(record_bytes).seal(&SEAL);
        group.throughput(Throughput::Bytes((sealed.stored().len() - HEADER_BYTES) as u64));
        group.bench_function("encode", |bencher| bencher.iter(|| open_block(record_bytes)));
        group.bench_function("seal", |bencher| {
            bencher.iter_batched(
                || open_block(record_bytes),
                |block| block.seal(&SEAL),
                BatchSize::LargeInput,
            );
        });
        group.bench_function("open", |bencher| {
            bencher.iter(|| Block::open(sealed.stored().clone(), Lsn(4096), LOG));
        });
        group.bench_function("scan", |bencher| {
            bencher.iter(|| sealed.records().map(|records| records.filter(Result::is_ok).count()));
        });
        group.finish();
    }
}

criterion_group!(benches, format);
criterion_main!(benches);
