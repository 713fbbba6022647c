//! The open files, by name; the oldest are closed when there are too many.
//!
//! Not here: opening them.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Handle, SharedHandle};
use crate::disk::FileId;

/// How many files are kept open, but for those in use or with writes that are not synced.
pub(in crate::disk::plain) const MAX_IDLE_FILES: usize = 32;

/// The open files, in the order of their opening.
#[derive(Default)]
pub(super) struct Handles {
    by_id: BTreeMap<FileId, SharedHandle>,
    order: VecDeque<FileId>,
}

impl Handles {
    pub(super) fn find(&self, file: FileId) -> Option<SharedHandle> {
        self.by_id.get(&file).cloned()
    }

    pub(super) fn insert(&mut self, file: FileId, opened: File) -> SharedHandle {
        let handle = Arc::new(Handle { file: opened, unsynced: AtomicBool::new(false) });
        self.put(file, Arc::clone(&handle));
        self.close_some();
        handle
    }

    pub(super) fn remove(&mut self, file: FileId) {
        if self.by_id.remove(&file).is_some() {
            self.order.retain(|other| *other != file);
        }
    }

    /// The handle goes with its file, so that what it has to say about earlier writes does too.
    pub(super) fn rename(&mut self, from: FileId, to: FileId) {
        let moved = self.by_id.get(&from).cloned();
        self.remove(from);
        self.remove(to);
        if let Some(handle) = moved {
            self.put(to, handle);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    fn put(&mut self, file: FileId, handle: SharedHandle) {
        self.remove(file);
        self.by_id.insert(file, handle);
        self.order.push_back(file);
    }

    fn close_some(&mut self) {
        let excess = self.by_id.len().saturating_sub(MAX_IDLE_FILES);
        let idle: Vec<FileId> = self
            .order
            .iter()
            .copied()
            .filter(|file| self.by_id.get(file).is_some_and(is_idle))
            .take(excess)
            .collect();
        for file in idle {
            self.remove(file);
        }
    }
}

fn is_idle(handle: &SharedHandle) -> bool {
    Arc::strong_count(handle) == 1 && !handle.unsynced.load(Ordering::Relaxed)
}
