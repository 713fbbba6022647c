//! A log alone: append from several threads, wait until durable, read back after a restart.
//!
//! `cargo run --example log`
#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::error::Error;
use std::thread;

use outrigger::wal::{Lsn, Wal, WalOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = WalOptions { create: true, ..WalOptions::default() };

    let wal = Wal::open(dir.path(), &options)?;
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let wal = wal.clone();
                scope.spawn(move || {
                    for n in 0..100 {
                        let at = wal.append(format!("writer {writer}, record {n}").as_bytes())?;
                        wal.wait_durable(at.end).blocking()?;
                    }
                    Ok::<_, outrigger::wal::Error>(())
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(result) => result.map_err(Box::<dyn Error>::from),
            Err(_) => Err("a writer panicked".into()),
        })
    })?;
    println!("durable up to {}", wal.durable());
    wal.close()?;

    let wal = Wal::open(dir.path(), &options)?;
    let mut reader = wal.reader(Lsn::ZERO)?;
    let mut records = 0;
    while reader.next()?.is_some() {
        records += 1;
    }
    println!("{records} records are there after a restart");
    wal.close()?;
    Ok(())
}
