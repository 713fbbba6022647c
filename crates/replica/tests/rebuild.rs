//! A copy made anew from another one: what is fetched, what is refused, and a kill at every operation.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod rebuild_support;

use std::sync::Arc;

use bytes::Bytes;
use outrigger_net::config::Version;
use outrigger_replica::member::LendError;
use outrigger_replica::rebuild::protocol::{Ask, Opening, Say};
use outrigger_replica::rebuild::{Ground, Mode, Next, RebuildError, Source, SourceOptions, Target};
use outrigger_replica::store::StateStore;
use outrigger_wal::disk::{DiskExt, FileId, Io};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, InstanceId, LogId, Lsn, Micros};
use rebuild_support::{
    COPY, Folder, Fuse, PRIMARY, Primary, SEGMENT, Wire, as_it_is, check_is_a_copy, identity, plan,
};

fn filled(rows: u32) -> Primary {
    let mut primary = Primary::new(1);
    primary.fill(rows);
    primary
}

#[test]
fn a_full_rebuild_into_an_empty_folder_is_the_same_copy() {
    let (mut primary, mut folder, mut wire) = (filled(200), Folder::default(), Wire::new(1));
    let target = wire.run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    let progress = target.progress();
    assert_eq!(progress.mode, Mode::Full);
    assert_eq!(progress.moved_bytes, wire.moved_bytes);
    assert_eq!(progress.done_bytes, progress.total_bytes, "{progress:?}");
    let log_start = check_is_a_copy(&mut primary, &mut folder).0 / SEGMENT * SEGMENT;
    assert!(log_start > 0, "the log is to have more than one segment for this test");
    assert_eq!(primary.held.len(), 1, "log is kept for the copy until it streams");
    assert!(primary.held.values().all(|from| from.0 == log_start));
}

#[test]
fn ranges_that_take_several_messages_come_together_again() {
    let (mut primary, mut folder, mut wire) = (filled(50), Folder::default(), Wire::new(1));
    let mut wide = plan();
    wide.chunk_bytes = 1 << 20;
    wire.run(&mut primary, &mut folder, wide, as_it_is).unwrap();
    assert!(wire.asked["chunk"] > 4 && wire.asked["list"] < 4, "{:?}", wire.asked);
    check_is_a_copy(&mut primary, &mut folder);
}

#[test]
fn an_empty_state_and_an_empty_log_are_copied_too() {
    let (mut primary, mut folder, mut wire) = (Primary::new(1), Folder::default(), Wire::new(1));
    wire.run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    check_is_a_copy(&mut primary, &mut folder);
}

#[test]
fn a_copy_killed_at_any_operation_goes_on_and_never_starts_half_done() {
    // Both into a folder that holds an old copy and into an empty one: the process is killed at its first
    // changing operation, begun again and killed at its second, and so on, until one comes through.
    for old in [true, false] {
        let mut primary = filled(60);
        let mut folder = if old { Folder::copy_of(&mut primary) } else { Folder::default() };
        primary.put("row-00007", b"changed");
        primary.put("row-00050", b"changed");
        let (before, had) = (folder.store.clone(), old.then(|| folder.control()));
        let mut came_through = false;
        for operations in 0..4000 {
            let fuse = Fuse::of(operations);
            folder.with_fuse(&fuse);
            // Each process finds a source that knows nothing of the sessions before.
            let mut wire = Wire::new(1000 * u64::try_from(operations).unwrap());
            let end = wire.run(&mut primary, &mut folder, plan(), as_it_is);
            if end.is_ok() {
                came_through = true;
                break;
            }
            assert!(fuse.is_blown(), "{:?}", end.err());
            let placed = folder.store.as_ref().map(Arc::as_ptr) != before.as_ref().map(Arc::as_ptr);
            if folder.is_unfinished() {
                continue;
            }
            // It would start: so it is what it was, or whole.
            if placed {
                came_through = true;
                break;
            }
            match &had {
                Some(had) => assert_eq!(folder.control(), *had, "{operations}"),
                None => assert!(!folder.has_control(), "{operations}"),
            }
        }
        assert!(came_through);
        folder.with_fuse(&Fuse::of(i64::MAX));
        check_is_a_copy(&mut primary, &mut folder);
    }
}

#[test]
fn a_copy_killed_once_at_each_operation_comes_to_the_same_end() {
    for operations in 0.. {
        let mut primary = filled(40);
        let mut folder = Folder::copy_of(&mut primary);
        primary.put("row-00011", b"changed");
        let fuse = Fuse::of(operations);
        folder.with_fuse(&fuse);
        let first = Wire::new(1).run(&mut primary, &mut folder, plan(), as_it_is);
        if first.is_ok() {
            assert!(operations > 20, "nothing was killed");
            break;
        }
        folder.with_fuse(&Fuse::of(i64::MAX));
        primary.put("row-00012", b"changed meanwhile");
        Wire::new(2).run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
        check_is_a_copy(&mut primary, &mut folder);
    }
}

#[test]
fn flipped_bits_on_the_way_are_refused_and_fetched_again() {
    // One answer after the other has a bit flipped in its payload, once.
    let mut flipped = 0;
    for victim in 0.. {
        let (mut primary, mut folder) = (filled(40), Folder::default());
        let (mut count, mut done) = (0, false);
        let flip = |_: &mut Wire, _: &mut Primary, _: &mut Target, answer: Bytes| {
            let payload = match Say::decode(answer.clone()).unwrap() {
                Say::Piece { window, index, offset, bytes } => {
                    let mut bytes = bytes.to_vec();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    Say::Piece { window, index, offset, bytes: bytes.into() }
                }
                Say::Blocks { mut parts } => {
                    let part = parts.last_mut().unwrap();
                    let mut bytes = part.bytes.to_vec();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    part.bytes = bytes.into();
                    Say::Blocks { parts }
                }
                _ => return answer,
            };
            count += 1;
            if count - 1 == victim {
                done = true;
                return payload.encode().unwrap();
            }
            answer
        };
        Wire::new(1).run(&mut primary, &mut folder, plan(), flip).unwrap();
        check_is_a_copy(&mut primary, &mut folder);
        if !done {
            break;
        }
        flipped += 1;
    }
    assert!(flipped > 5, "{flipped} answers with a payload");
}

#[test]
fn a_source_that_sends_other_pairs_than_it_listed_is_given_up_and_nothing_is_placed() {
    let mut primary = filled(40);
    let mut folder = Folder::copy_of(&mut primary);
    primary.put("row-00000", b"changed");
    let before = folder.control();
    let lie = |_: &mut Wire, _: &mut Primary, _: &mut Target, answer: Bytes| match Say::decode(
        answer.clone(),
    )
    .unwrap()
    {
        Say::Piece { window, index, offset, bytes } => {
            let bytes: Bytes = bytes.iter().map(|byte| byte ^ 1).collect();
            Say::Piece { window, index, offset, bytes }.encode().unwrap()
        }
        _ => answer,
    };
    let end = Wire::new(1).run(&mut primary, &mut folder, plan(), lie);
    assert!(matches!(end, Err(RebuildError::Corrupt(_))), "{end:?}");
    assert_eq!(folder.control(), before);
    assert!(folder.is_unfinished());
    // An honest source finishes it.
    Wire::new(2).run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    check_is_a_copy(&mut primary, &mut folder);
}

#[test]
fn a_source_that_changes_while_it_is_copied_gives_one_moment() {
    let (mut primary, mut folder) = (filled(100), Folder::default());
    let mut row = 0;
    let change = |_: &mut Wire, primary: &mut Primary, _: &mut Target, answer: Bytes| {
        row += 1;
        primary.put(&format!("row-{:05}", row * 7 % 150), b"changed while it was copied");
        answer
    };
    Wire::new(1).run(&mut primary, &mut folder, plan(), change).unwrap();
    let at = check_is_a_copy(&mut primary, &mut folder);
    assert!(primary.store.applied() > at);
}

#[test]
fn a_source_that_dies_midway_is_followed_by_another_snapshot_and_little_is_fetched_again() {
    let (mut primary, mut folder) = (filled(2000), Folder::default());
    let mut full = Wire::new(1);
    full.run(&mut filled(2000), &mut Folder::default(), plan(), as_it_is).unwrap();
    let (mut chunks, mut died) = (0, false);
    let mut wire = Wire::new(1);
    let die = |wire: &mut Wire, primary: &mut Primary, target: &mut Target, answer: Bytes| {
        chunks += u32::from(matches!(Say::decode(answer.clone()), Ok(Say::Piece { .. })));
        if chunks == 40 && !died {
            died = true;
            primary.put("row-00003", b"changed between the snapshots");
            primary.held.clear();
            wire.source = Source::new(identity(PRIMARY), 77, SourceOptions::default());
            target.lost(wire.now);
        }
        answer
    };
    wire.run(&mut primary, &mut folder, plan(), die).unwrap();
    assert!(died && wire.asked["open"] == 2, "{:?}", wire.asked);
    check_is_a_copy(&mut primary, &mut folder);
    // What was there is compared by its hash; one range was changed, and the window that was open.
    let (again, once) = (wire.asked["chunk"], full.asked["chunk"]);
    assert!(again < once + 20, "{again} pieces where {once} are all");
}

#[test]
fn differential_moves_only_the_ranges_that_differ() {
    let mut primary = filled(3000);
    let mut folder = Folder::copy_of(&mut primary);
    let mut full = Wire::new(1);
    full.run(&mut primary, &mut Folder::default(), plan(), as_it_is).unwrap();
    for row in [5, 1500, 2999] {
        primary.put(&format!("row-{row:05}"), b"changed");
    }
    let mut wire = Wire::new(2);
    let target = wire.run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    assert_eq!(target.progress().mode, Mode::Differential);
    check_is_a_copy(&mut primary, &mut folder);
    // Three ranges of rows and the one that holds the client's window of outcomes.
    assert!(wire.asked["chunk"] <= 4, "{:?}", wire.asked);
    assert!(full.asked["chunk"] > 80, "{:?}", full.asked);
}

#[test]
fn a_store_that_is_ahead_of_the_source_is_a_base_like_any_other() {
    // The old primary went on alone and applied what was then given up by an accepted loss: its commit LSN lies
    // behind the fork. Hashes at the source's LSN decide, and what it had is not kept.
    let mut old = filled(300);
    let fork_disk = Folder::copy_of(&mut old);
    let fork = old.log.durable();
    old.put("row-00001", b"lost");
    old.put("row-99999", b"lost");
    let mut folder = Folder::copy_of(&mut old);
    let store = fork_disk.store.clone().unwrap();
    let mut primary = Primary::open(fork_log(fork_disk), store, 2);
    assert_eq!(primary.log.epochs().last().unwrap().start, fork);
    primary.put("row-00002", b"of the new reign");
    let known: Vec<_> = old.blocks.iter().filter(|at| at.end() <= fork).cloned().collect();
    primary.blocks.splice(0..0, known);

    assert!(folder.control().commit.lsn > fork);
    let mut wire = Wire::new(1);
    let target = wire.run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    assert_eq!(target.progress().mode, Mode::Differential);
    check_is_a_copy(&mut primary, &mut folder);
    assert!(wire.asked["chunk"] <= 6, "{:?}", wire.asked);
    let control = folder.control();
    assert_eq!(control.epoch, primary.log.epoch());
    assert_eq!(control.durable, Promise { epoch: 2, lsn: primary.log.durable() });
}

/// The log of a folder, as a disk of its own.
fn fork_log(mut folder: Folder) -> outrigger_wal::disk::memory::MemoryDisk {
    let mut disk = outrigger_wal::disk::memory::MemoryDisk::new();
    let (files, _) = folder.home().blocking().list(outrigger_wal::disk::Dir::Log).unwrap();
    for file in files {
        let len = folder.home().blocking().len(file).unwrap().unwrap();
        let bytes = folder.home().blocking().read(file, 0, u32::try_from(len).unwrap()).unwrap();
        disk.blocking().run(Io::Create(file)).unwrap();
        let write = Io::Write { file, at: 0, parts: vec![bytes], dsync: true };
        disk.blocking().run(write).unwrap();
    }
    disk
}

#[test]
fn a_store_that_cannot_be_opened_is_copied_in_full_or_refused_where_it_was_asked_for() {
    let mut primary = filled(40);
    let mut folder = Folder::copy_of(&mut primary);
    folder.base_is_damaged = true;
    let mut asked_for = plan();
    asked_for.mode = Some(Mode::Differential);
    let end = Wire::new(1).run(&mut primary, &mut folder, asked_for, as_it_is);
    assert!(matches!(end, Err(RebuildError::Store(_))), "{end:?}");
    let target = Wire::new(2).run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    assert_eq!(target.progress().mode, Mode::Full);
    check_is_a_copy(&mut primary, &mut folder);
}

#[test]
fn a_damaged_chunk_that_was_fetched_before_is_fetched_again() {
    let (mut primary, mut folder) = (filled(100), Folder::default());
    // Killed behind a few chunks.
    let fuse = Fuse::of(60);
    folder.with_fuse(&fuse);
    assert!(Wire::new(1).run(&mut primary, &mut folder, plan(), as_it_is).is_err());
    folder.with_fuse(&Fuse::of(i64::MAX));
    let file = FileId::Chunk(1);
    let len = folder.made().blocking().len(file).unwrap().expect("it was fetched");
    let mut bytes = folder.made().blocking().read(file, len / 2, 1).unwrap().to_vec();
    bytes[0] ^= 0x20;
    let write = Io::Write { file, at: len / 2, parts: vec![bytes.into()], dsync: true };
    folder.made().blocking().run(write).unwrap();
    Wire::new(2).run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    check_is_a_copy(&mut primary, &mut folder);
}

#[test]
fn a_copy_that_commits_wait_for_is_not_rebuilt_until_its_primary_goes_on_without_it() {
    let mut primary = filled(20);
    let mut folder = Folder::copy_of(&mut primary);
    let before = folder.control();
    for refusal in [LendError::InSync, LendError::Connected, LendError::NotServing] {
        primary.refuses = Some(refusal.clone());
        let mut target = Target::open(&mut folder, plan()).unwrap();
        let mut wire = Wire::new(1);
        let Next::Ask(body) = target.next(Micros(0), &mut folder).unwrap() else { panic!() };
        let answer = wire.carry(&mut primary, body);
        target.take(Micros(0), &mut folder, answer).unwrap();
        assert_eq!(target.waits_for(), Some(refusal.to_string().as_str()));
        let Next::Wait(until) = target.next(Micros(0), &mut folder).unwrap() else { panic!() };
        assert!(until > Micros(0));
        assert_eq!(folder.control(), before);
        assert!(!folder.is_unfinished(), "it was refused, and still starts");
    }
    assert!(primary.held.is_empty());
    primary.refuses = None;
    Wire::new(2).run(&mut primary, &mut folder, plan(), as_it_is).unwrap();
    check_is_a_copy(&mut primary, &mut folder);
}

#[test]
fn a_source_that_knows_less_than_the_copy_accepted_is_not_taken() {
    // A deposed primary that has not heard of it lends in good faith (S0); so does one that is behind.
    let mut primary = filled(20);
    let folder = Folder::copy_of(&mut primary);
    let accepted = folder.control();
    let above = Promise { epoch: 1, lsn: primary.log.durable().saturating_add(4096) };
    let controls = [
        outrigger_replica::control::Control { version: Version(6), ..accepted.clone() },
        outrigger_replica::control::Control {
            epoch: Epoch { number: 2, nonce: 1 },
            ..accepted.clone()
        },
        outrigger_replica::control::Control { coordinator_epoch: 2, ..accepted.clone() },
        outrigger_replica::control::Control { commit: above, ..accepted.clone() },
    ];
    for control in controls {
        let mut folder = Folder::copy_of(&mut primary);
        control.create(&mut folder.home().blocking()).unwrap();
        let mut target = Target::open(&mut folder, plan()).unwrap();
        let mut wire = Wire::new(1);
        let Next::Ask(body) = target.next(Micros(0), &mut folder).unwrap() else { panic!() };
        let answer = wire.carry(&mut primary, body);
        target.take(Micros(0), &mut folder, answer).unwrap();
        assert!(target.waits_for().is_some(), "{control:?}");
        assert!(matches!(target.next(Micros(0), &mut folder), Ok(Next::Wait(_))));
    }
    let mut folder = Folder::copy_of(&mut primary);
    let foreign = Epoch { nonce: 666, ..accepted.epoch };
    outrigger_replica::control::Control { epoch: foreign, ..accepted }
        .create(&mut folder.home().blocking())
        .unwrap();
    let end = Wire::new(1).run(&mut primary, &mut folder, plan(), as_it_is);
    assert!(matches!(end, Err(RebuildError::ForeignNonce { .. })), "{end:?}");
}

#[test]
fn what_is_of_another_copy_or_another_log_is_refused() {
    let mut primary = filled(5);
    let mut folder = Folder::copy_of(&mut primary);
    let mut other = plan();
    other.identity.instance = InstanceId(99);
    let end = Target::open(&mut folder, other);
    assert!(matches!(end, Err(RebuildError::OtherIdentity { .. })), "{end:?}");
    assert!(!folder.is_unfinished(), "a refusal begins nothing");

    let mut other = plan();
    other.identity.log = LogId(99);
    let end = Wire::new(1).run(&mut primary, &mut Folder::default(), other, as_it_is);
    assert!(matches!(end, Err(RebuildError::Denied(_))), "{end:?}");
}

#[test]
fn a_rebuild_that_begins_again_under_another_name_is_refused() {
    let (mut primary, mut folder) = (filled(5), Folder::default());
    folder.with_fuse(&Fuse::of(20));
    assert!(Wire::new(1).run(&mut primary, &mut folder, plan(), as_it_is).is_err());
    folder.with_fuse(&Fuse::of(i64::MAX));
    let mut other = plan();
    other.identity.instance = InstanceId(99);
    assert!(matches!(Target::open(&mut folder, other), Err(RebuildError::OtherIdentity { .. })));
    assert_eq!(Target::whose(&mut folder).unwrap().map(|who| who.instance), Some(COPY));
}

fn opening(target: u128) -> Ask {
    let who = identity(PRIMARY);
    Ask::Open(Opening {
        target: InstanceId(target),
        cluster: who.cluster,
        content: who.content,
        log: who.log,
        chunk_bytes: 4096,
    })
}

fn opened(say: Say) -> u64 {
    let Say::Opened(opened) = say else { panic!("{say:?}") };
    opened.session
}

#[test]
fn sessions_are_bounded_one_an_instance_and_expire_with_their_log() {
    let mut primary = filled(20);
    let mut source = Source::new(identity(PRIMARY), 5, SourceOptions::default());
    let second = 1_000_000;
    let first = opened(source.answer(Micros(0), &mut primary, opening(1)));
    let again = opened(source.answer(Micros(0), &mut primary, opening(1)));
    assert_ne!(first, again);
    let say = source.answer(Micros(0), &mut primary, Ask::List { session: first, window: 1 });
    assert!(matches!(say, Say::Gone { .. }), "a later session ends the one before");
    opened(source.answer(Micros(10 * second), &mut primary, opening(2)));
    let say = source.answer(Micros(10 * second), &mut primary, opening(3));
    assert!(matches!(say, Say::Denied { passing: true, .. }), "{say:?}");
    assert_eq!(primary.held.len(), 2);

    assert_eq!(source.deadline(), Some(Micros(60 * second)));
    source.expire(Micros(60 * second), &mut primary);
    assert_eq!(primary.held.len(), 1);
    let third = opened(source.answer(Micros(61 * second), &mut primary, opening(3)));
    // What is only kept for its log takes no place, and stays longer.
    let say = source.answer(Micros(62 * second), &mut primary, Ask::Keep { session: third });
    assert_eq!(say, Say::Kept);
    source.expire(Micros(600 * second), &mut primary);
    assert_eq!(primary.held.len(), 1);
    source.expire(Micros(62 * second + 1_800 * second), &mut primary);
    assert!(primary.held.is_empty() && source.deadline().is_none());
}

#[test]
fn questions_that_make_no_sense_are_refused_and_hold_nothing_up() {
    let mut primary = filled(20);
    let mut source = Source::new(identity(PRIMARY), 5, SourceOptions::default());
    let session = opened(source.answer(Micros(0), &mut primary, opening(1)));
    let mut say = |ask| source.answer(Micros(0), &mut primary, ask);
    for window in [0, 2, u32::MAX] {
        assert!(matches!(say(Ask::List { session, window }), Say::Gone { .. }));
    }
    let chunk = Ask::Chunk { session, window: 1, index: 0, offset: 0 };
    assert!(matches!(say(chunk), Say::Gone { .. }), "nothing was listed");
    assert!(matches!(say(Ask::List { session, window: 1 }), Say::Ranges { .. }));
    let twice = say(Ask::List { session, window: 1 });
    assert!(matches!(twice, Say::Ranges { .. }), "an answer that was lost is given again");
    let behind = Ask::Chunk { session, window: 1, index: 0, offset: u64::MAX };
    assert!(matches!(say(behind), Say::Piece { bytes, .. } if bytes.is_empty()));
    let wrong = [(Lsn(1), 0), (Lsn(u64::MAX), 0), (Lsn(2 * SEGMENT), u32::MAX)];
    for (from, skip) in wrong {
        let answer = say(Ask::Log { session, from, skip });
        assert!(matches!(answer, Say::Denied { .. }), "{from} {skip}: {answer:?}");
    }
}

#[test]
fn a_rate_is_kept_by_waiting_as_long_as_what_came_takes() {
    let (mut primary, mut folder, mut wire) = (filled(200), Folder::default(), Wire::new(1));
    let mut slowly = plan();
    slowly.bytes_per_second = Some(100_000);
    wire.run(&mut primary, &mut folder, slowly, as_it_is).unwrap();
    // All but the last answer were waited for.
    let least = (wire.moved_bytes - 1000) * 1_000_000 / 100_000;
    assert!(wire.now.0 >= least, "{} us for {} bytes", wire.now.0, wire.moved_bytes);
    check_is_a_copy(&mut primary, &mut folder);
}

#[test]
fn what_was_there_stays_aside_where_that_is_asked_for() {
    let mut primary = filled(20);
    let mut folder = Folder::copy_of(&mut primary);
    let old = folder.store.clone().unwrap();
    primary.put("row-00000", b"changed");
    let mut keep = plan();
    keep.keep_old = true;
    Wire::new(1).run(&mut primary, &mut folder, keep, as_it_is).unwrap();
    assert!(Arc::ptr_eq(folder.aside_store.as_ref().unwrap(), &old));
    assert!(folder.aside.blocking().len(FileId::Segment(0)).unwrap().is_some());
    assert_ne!(old.applied(), folder.store.as_ref().unwrap().applied());
    check_is_a_copy(&mut primary, &mut folder);
}
