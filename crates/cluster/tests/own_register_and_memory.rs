//! Registers without a log: the coordinator's own in two slots, and the one in memory.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use bytes::Bytes;
use outrigger_cluster::Error;
use outrigger_cluster::authority::{MemoryAuthority, SelfAuthority};
use outrigger_cluster::register::{Conflict, Report};
use outrigger_cluster::slots::{FileSlots, Kind, MemorySlots, Saved, Slots};
use outrigger_net::config::Version;
use outrigger_replica::rules::Rules;
use outrigger_wal::{Epoch, Lsn};
use support::{A, B, CONTENT, COORDINATOR, epoch, next, pair};

fn make(slots: &MemorySlots) -> SelfAuthority {
    let slots = Box::new(slots.clone());
    SelfAuthority::create(slots, COORDINATOR, vec!["c:1".to_owned()], Rules::all()).unwrap()
}

fn open(slots: &MemorySlots) -> Result<SelfAuthority, Error> {
    SelfAuthority::open(Box::new(slots.clone()), COORDINATOR, Rules::all())
}

/// A start of the coordinator, as its member does it (S5).
fn start(authority: &mut SelfAuthority, number: u64, nonce: u128) -> Result<(), Error> {
    let current = authority.config().unwrap().clone();
    let new = next(&current, |new| new.epoch = Epoch { number, nonce });
    authority.compare_and_swap(current.version, &new).map(|_| ())
}

#[test]
fn each_start_of_a_coordinator_takes_an_epoch_that_no_later_start_takes_again() {
    let slots = MemorySlots::default();
    start(&mut make(&slots), 1, 11).unwrap();
    let mut second = open(&slots).unwrap();
    assert_eq!(second.config().unwrap().epoch, Epoch { number: 1, nonce: 11 });
    let again = start(&mut second, 1, 12);
    assert!(matches!(again, Err(Error::Conflict(Conflict::ForeignNonce { .. }))));
    start(&mut second, 2, 12).unwrap();
    assert_eq!(open(&slots).unwrap().config().unwrap().epoch.number, 2);
}

#[test]
fn what_was_recorded_survives_the_loss_of_either_slot() {
    for lost in [0, 1] {
        for rotten in [None, Some(Bytes::from_static(b"rot"))] {
            let slots = MemorySlots::default();
            start(&mut make(&slots), 1, 11).unwrap();
            slots.set(lost, rotten);
            assert_eq!(open(&slots).unwrap().config().unwrap().epoch.number, 1);
            slots.set(1 - lost, None);
            let healed = open(&slots).unwrap();
            assert_eq!(healed.config().unwrap().epoch.number, 1, "it was put back by opening");
        }
    }
}

#[test]
fn a_crash_between_the_slots_leaves_one_value_for_good() {
    for left in [0, 1] {
        let slots = MemorySlots::default();
        let mut authority = make(&slots);
        slots.fail_after(Some(left));
        let failed = start(&mut authority, 1, 11);
        assert!(matches!(failed, Err(Error::Files { .. })));
        slots.fail_after(None);
        let poisoned = start(&mut authority, 1, 12);
        assert!(matches!(poisoned, Err(Error::Files { .. })), "nothing is retried");
        let found = open(&slots).unwrap().config().unwrap().epoch.number;
        assert_eq!(found, u64::from(left));
        slots.set(0, None);
        assert_eq!(open(&slots).unwrap().config().unwrap().epoch.number, found);
    }
}

#[test]
fn a_register_that_is_missing_damaged_newer_or_anothers_is_refused() {
    let slots = MemorySlots::default();
    assert!(matches!(open(&slots), Err(Error::Missing { .. })));
    make(&slots);
    let twice = SelfAuthority::create(Box::new(slots.clone()), COORDINATOR, vec![], Rules::all());
    assert!(matches!(twice, Err(Error::Exists { .. })));
    let others = SelfAuthority::open(Box::new(slots.clone()), A, Rules::all());
    assert!(matches!(others, Err(Error::Content { .. })));
    let mut newer = slots.clone().read(0).unwrap().unwrap().to_vec();
    newer[8] = 2;
    slots.set(0, Some(Bytes::from(newer)));
    assert!(matches!(open(&slots), Err(Error::Newer { found: 2, .. })));
    slots.set(0, None);
    slots.set(1, Some(Bytes::from_static(b"rot")));
    assert!(matches!(open(&slots), Err(Error::Damaged { .. })), "never made anew");
}

#[test]
fn every_flipped_bit_of_a_slot_is_noticed() {
    let slots = MemorySlots::default();
    make(&slots);
    let whole = slots.clone().read(1).unwrap().unwrap();
    slots.set(0, None);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        slots.set(1, Some(Bytes::from(bytes)));
        assert!(open(&slots).is_err(), "bit {bit}");
        slots.set(0, None);
    }
    for len in 0..whole.len() {
        slots.set(1, Some(whole.slice(..len)));
        assert!(open(&slots).is_err(), "{len} bytes");
    }
}

#[test]
fn slots_in_files_keep_the_last_saved_value_and_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let slots = || Box::new(FileSlots::new(dir.path(), "catalog"));
    let (mut saved, found) = Saved::open(slots(), Kind::Catalog).unwrap();
    assert_eq!(found, None);
    for body in ["first, and longer", "second"] {
        saved.save(&Bytes::from_static(body.as_bytes())).unwrap();
        let (_, found) = Saved::open(slots(), Kind::Catalog).unwrap();
        assert_eq!(found.unwrap(), body);
    }
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["catalog-0", "catalog-1"]);
    let other = Saved::open(slots(), Kind::Register).unwrap_err();
    assert!(matches!(other, Error::Damaged { .. }), "a catalog is no register");
    let lost = Saved::open(Box::new(FileSlots::new("/nonexistent/x", "c")), Kind::Catalog);
    let (mut lost, _) = lost.unwrap();
    assert!(lost.save(&Bytes::new()).unwrap_err().to_string().contains("/nonexistent/x"));
}

#[test]
fn the_memory_authority_decides_as_the_catalog_does() {
    let mut authority = MemoryAuthority::new(Rules::all());
    authority.create(CONTENT, pair()).unwrap();
    let report = Report { instance: B, epoch: 1, durable: Lsn(700) };
    authority.report(CONTENT, &report).unwrap();
    authority.promote(CONTENT, B, 5).unwrap();
    let config = authority.config(CONTENT).unwrap().clone();
    assert_eq!((config.primary, config.copy(B).unwrap().durable.lsn), (B, Lsn(700)));
    let back = next(&pair(), |new| new.epoch = epoch(2));
    let late = authority.compare_and_swap(CONTENT, Version(5), &back, A);
    assert!(matches!(late, Err(Conflict::VersionMoved { .. })));
    let shrunk = next(&config, |new| new.copies[0].in_sync = false);
    authority.compare_and_swap(CONTENT, Version(6), &shrunk, B).unwrap();
    assert_eq!(authority.promote(CONTENT, A, 6), Err(Conflict::NotAMember { to: A }));
    let nowhere = outrigger_wal::ContentId(9);
    assert_eq!(authority.promote(nowhere, A, 6), Err(Conflict::NotCreated));
    assert!(authority.config(nowhere).is_none());
}
