//! Folders: the names that a running system sees, and those that survive a power cut.
//!
//! Guarantees: a rename is atomic, also when it is lost; a file never ends up under two names. Not
//! here: what is in the files.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_wal::disk::{Dir, FileId};

use crate::rng::Rng;

/// A file, whatever it is called.
pub(super) type Inode = u64;

/// The names in all folders.
#[derive(Clone, Default)]
pub(super) struct Names {
    seen: BTreeMap<FileId, Inode>,
    durable: BTreeMap<FileId, Inode>,
    /// What was done since, in order.
    pending: Vec<Change>,
}

#[derive(Clone)]
struct Change {
    stamp: u64,
    dir: Dir,
    what: What,
}

#[derive(Clone)]
enum What {
    /// The file gets the name and loses the one it had.
    Set(FileId, Inode),
    Remove(FileId),
}

impl Names {
    pub(super) fn find(&self, name: FileId) -> Option<Inode> {
        self.seen.get(&name).copied()
    }

    pub(super) fn seen(&self) -> impl Iterator<Item = (FileId, Inode)> {
        self.seen.iter().map(|(name, inode)| (*name, *inode))
    }

    pub(super) fn durable(&self, name: FileId) -> Option<Inode> {
        self.durable.get(&name).copied()
    }

    /// Names a new file, or names one anew.
    pub(super) fn set(&mut self, name: FileId, inode: Inode, stamp: u64) {
        self.change(Change { stamp, dir: name.dir(), what: What::Set(name, inode) });
    }

    pub(super) fn remove(&mut self, name: FileId, stamp: u64) {
        if self.seen.contains_key(&name) {
            self.change(Change { stamp, dir: name.dir(), what: What::Remove(name) });
        }
    }

    /// Makes the folder's changes durable up to the stamp: those that were there when the sync
    /// was asked for.
    pub(super) fn sync(&mut self, dir: Dir, upto: u64) {
        for change in self.take(dir, upto) {
            apply(&mut self.durable, &change.what);
        }
    }

    /// A sync that failed: some changes became durable, none will be by a later one.
    pub(super) fn fail_sync(&mut self, dir: Dir, upto: u64, rng: &mut Rng) {
        for change in self.take(dir, upto) {
            if rng.chance(500) {
                apply(&mut self.durable, &change.what);
            }
        }
    }

    /// Loses what was not made durable, or some of it; returns (kept, lost).
    pub(super) fn power_cut(&mut self, ordered: bool, rng: &mut Rng) -> (u64, u64) {
        let changes = std::mem::take(&mut self.pending);
        let total = changes.len() as u64;
        let first = rng.below(total + 1);
        let per_mille = u32::try_from(rng.range(100..1000)).unwrap_or(500);
        let by_order = ordered || rng.chance(500);
        let mut kept = 0;
        for (index, change) in (0_u64..).zip(&changes) {
            if if by_order { index < first } else { rng.chance(per_mille) } {
                apply(&mut self.durable, &change.what);
                kept += 1;
            }
        }
        self.seen = self.durable.clone();
        (kept, total - kept)
    }

    /// Puts a name in place or takes it away, durably: for tests that prepare a disk.
    pub(super) fn force(&mut self, name: FileId, inode: Option<Inode>) {
        self.pending.retain(|change| match change.what {
            What::Set(other, _) | What::Remove(other) => other != name,
        });
        for map in [&mut self.seen, &mut self.durable] {
            match inode {
                Some(inode) => drop(map.insert(name, inode)),
                None => drop(map.remove(&name)),
            }
        }
    }

    /// The files that have a name, or may get one back in a power cut.
    pub(super) fn live(&self) -> BTreeSet<Inode> {
        let pending = self.pending.iter().filter_map(|change| match change.what {
            What::Set(_, inode) => Some(inode),
            What::Remove(_) => None,
        });
        self.seen.values().chain(self.durable.values()).copied().chain(pending).collect()
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change.what);
        self.pending.push(change);
    }

    fn take(&mut self, dir: Dir, upto: u64) -> Vec<Change> {
        self.pending.extract_if(.., |change| change.dir == dir && change.stamp <= upto).collect()
    }
}

fn apply(names: &mut BTreeMap<FileId, Inode>, what: &What) {
    match *what {
        What::Set(name, inode) => {
            names.retain(|_, other| *other != inode);
            names.insert(name, inode);
        }
        What::Remove(name) => drop(names.remove(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: FileId = FileId::Segment(1);
    const NEW: FileId = FileId::Segment(2);

    #[test]
    fn a_rename_is_lost_or_kept_as_a_whole() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let mut names = Names::default();
            names.set(OLD, 1, 1);
            names.sync(Dir::Log, 1);
            names.set(NEW, 1, 2);
            assert_eq!((names.find(OLD), names.find(NEW)), (None, Some(1)));
            names.power_cut(false, &mut Rng::new(seed));
            outcomes.insert((names.find(OLD), names.find(NEW)));
        }
        assert_eq!(outcomes, [(None, Some(1)), (Some(1), None)].into());
    }

    #[test]
    fn a_file_never_has_two_names() {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let mut names = Names::default();
            for stamp in 0..12 {
                let name = FileId::Segment(rng.below(4));
                match rng.below(4) {
                    0 => names.remove(name, stamp),
                    1 => names.sync(Dir::Log, stamp),
                    _ => names.set(name, rng.below(3), stamp),
                }
            }
            names.power_cut(false, &mut rng);
            let inodes: Vec<Inode> = names.seen().map(|(_, inode)| inode).collect();
            assert_eq!(inodes.len(), inodes.iter().collect::<BTreeSet<_>>().len());
        }
    }

    #[test]
    fn a_folder_sync_covers_what_was_there_when_it_was_asked_for() {
        let mut lost = false;
        for seed in 0..50 {
            let mut names = Names::default();
            names.set(OLD, 1, 1);
            names.set(FileId::Control(0), 2, 1);
            names.set(NEW, 3, 5);
            names.sync(Dir::Log, 4);
            names.power_cut(false, &mut Rng::new(seed));
            assert_eq!(names.find(OLD), Some(1));
            lost |= names.find(NEW).is_none() && names.find(FileId::Control(0)).is_none();
        }
        assert!(lost);
    }

    #[test]
    fn ordered_folders_lose_their_last_changes_only() {
        for seed in 0..200 {
            let mut names = Names::default();
            for n in 0..8 {
                names.set(FileId::Segment(n), n, n);
            }
            let (kept, lost) = names.power_cut(true, &mut Rng::new(seed));
            assert_eq!(kept + lost, 8);
            assert!((0..8).all(|n| names.find(FileId::Segment(n)).is_some() == (n < kept)));
        }
    }
}
