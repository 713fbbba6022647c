//! What the log costs without waiting for the device: appending, and reading back.
#![expect(clippy::expect_used, reason = "a bench that cannot run ends")]
#![expect(missing_docs, reason = "criterion makes a public function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use outrigger_wal::{Lsn, Wal, WalOptions};

fn log(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let options = WalOptions { create: true, ..WalOptions::default() };
    let wal = Wal::open(folder.path(), &options).expect("a log");
    let record = [7; 128];

    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append 128 B, not waiting", |bencher| {
        bencher.iter(|| wal.append(&record));
    });
    group.bench_function("append 128 B and wait", |bencher| {
        bencher.iter(|| wal.append(&record).and_then(|at| wal.wait_durable(at.end).blocking()));
    });
    group.finish();

    // As many records as make some blocks, then read from the files: the tail is 8 MiB.
    for _ in 0..200_000 {
        assert!(wal.append(&record).is_ok());
    }
    wal.wait_durable(wal.end()).blocking().expect("durable");
    let mut group = criterion.benchmark_group("read");
    let records = 50_000;
    group.throughput(Throughput::Elements(records));
    group.sample_size(20);
    group.bench_function("50,000 records of 128 B from the files", |bencher| {
        bencher.iter(|| {
            let mut reader = wal.reader(Lsn::ZERO).expect("the start");
            (0..records).filter(|_| matches!(reader.next(), Ok(Some(_)))).count()
        });
    });
    group.finish();
    wal.close().expect("closed");
}

criterion_group!(benches, log);
criterion_main!(benches);
