//! A running hash of what happened, so that two runs of one seed can be compared.
//!
//! Not here: anything that must resist somebody.

use outrigger_wal::Micros;
use outrigger_wal::disk::{Dir, FileId, Io, IoDone, IoFault, OpId};

use crate::rng::mix;

/// The hash so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Trace(u64);

impl Trace {
    pub(super) const fn hash(self) -> u64 {
        self.0
    }

    pub(super) const fn add(&mut self, value: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ value);
    }

    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            // One multiplication a word: contents are the bulk of what is hashed.
            self.0 = (self.0 ^ u64::from_le_bytes(*word))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29);
        }
        for byte in rest {
            self.add(u64::from(*byte));
        }
    }

    pub(super) fn add_submitted(&mut self, now: Micros, op: OpId, io: &Io) {
        self.add(now.0);
        self.add(op.0);
        match io {
            Io::Write { file, at, parts, dsync } => {
                self.add_file(1 + u64::from(*dsync), *file);
                self.add(*at);
                for part in parts {
                    self.add_bytes(part);
                }
            }
            Io::Zero { file, at, len } => {
                self.add_file(3, *file);
                self.add(*at);
                self.add(*len);
            }
            Io::Sync(file) => self.add_file(4, *file),
            Io::Read { file, at, len } => {
                self.add_file(5, *file);
                self.add(*at);
                self.add(u64::from(*len));
            }
            Io::Create(file) => self.add_file(6, *file),
            Io::Rename(from, to) => {
                self.add_file(7, *from);
                self.add_file(8, *to);
            }
            Io::Remove(file) => self.add_file(9, *file),
            Io::SyncDir(dir) => self.add_dir(10, *dir),
            Io::Len(file) => self.add_file(11, *file),
            Io::List(dir) => self.add_dir(12, *dir),
        }
    }

    pub(super) fn add_completed(
        &mut self,
        now: Micros,
        op: OpId,
        result: &Result<IoDone, IoFault>,
    ) {
        self.add(now.0);
        self.add(op.0);
        match result {
            Ok(IoDone::Done) => self.add(1),
            Ok(IoDone::Bytes(bytes)) => self.add_bytes(bytes),
            Ok(IoDone::Len(len)) => self.add(len.map_or(0, |len| len.wrapping_add(1))),
            Ok(IoDone::Files { ours, foreign }) => {
                ours.iter().for_each(|file| self.add_file(2, *file));
                foreign.iter().for_each(|name| self.add_bytes(name.as_bytes()));
            }
            Err(fault) => self.add_bytes(fault.to_string().as_bytes()),
        }
    }

    fn add_file(&mut self, kind: u64, file: FileId) {
        self.add(kind);
        self.add_bytes(file.name().as_bytes());
    }

    const fn add_dir(&mut self, kind: u64, dir: Dir) {
        self.add(kind);
        self.add(match dir {
            Dir::Log => 0,
            Dir::Saved => 1,
            Dir::Instance => 2,
        });
    }
}
