//! Comparing histories: the rows of docs/replication.md, and a model of logs as lists of blocks, in
//! which the common prefix is found by looking.

use outrigger_net::handshake::{Verdict, Why, compare};
use outrigger_net::message::History;
use outrigger_wal::format::EpochEntry;
use outrigger_wal::{Epoch, InstanceId, Lsn, PAGE_BYTES, RunningHash};
use proptest::prelude::*;

fn lsn(pages: u64) -> Lsn {
    Lsn(pages * PAGE_BYTES)
}

/// A history whose log ends at page `end`, with (number, nonce, start page) of each epoch.
fn history(epochs: &[(u64, u128, u64)], end: u64) -> History {
    let entry = |&(number, nonce, start)| EpochEntry {
        epoch: Epoch { number, nonce },
        start: lsn(start),
        instance: InstanceId(1),
    };
    History { epochs: epochs.iter().map(entry).collect(), end: lsn(end), ..History::default() }
}

fn needs_copy(why: Why) -> Verdict {
    Verdict::NeedsCopy { why }
}

#[test]
fn an_empty_copy_begins_at_the_beginning_if_that_is_still_there() {
    let mut mine = history(&[(1, 7, 1)], 10);
    assert_eq!(compare(&mine, &History::default()), Verdict::Continue { at: Lsn::ZERO });
    assert_eq!(compare(&History::default(), &History::default()), Verdict::Continue { at: lsn(0) });
    mine.start = lsn(2);
    let why = Why::Recycled { fork: Lsn::ZERO, start: lsn(2) };
    assert_eq!(compare(&mine, &History::default()), needs_copy(why));
}

#[test]
fn a_piece_of_the_first_segment_head_is_cut_and_sent_again() {
    let mine = history(&[(1, 7, 1)], 10);
    let mut theirs = history(&[], 1);
    assert_eq!(compare(&mine, &theirs), Verdict::Truncate { to: Lsn::ZERO });
    theirs.commit = lsn(1);
    let why = Why::BelowCommit { fork: Lsn::ZERO, commit: lsn(1) };
    assert_eq!(compare(&mine, &theirs), needs_copy(why));
}

#[test]
fn a_copy_that_lags_goes_on_at_its_end() {
    let mine = history(&[(1, 7, 1), (2, 8, 5)], 10);
    for end in 2..=10 {
        let epochs: &[_] = if end > 5 { &[(1, 7, 1), (2, 8, 5)] } else { &[(1, 7, 1)] };
        assert_eq!(compare(&mine, &history(epochs, end)), Verdict::Continue { at: lsn(end) });
    }
}

#[test]
fn an_old_primary_cuts_what_its_successor_never_had() {
    let mine = history(&[(1, 7, 1), (2, 8, 5)], 10);
    let theirs = history(&[(1, 7, 1)], 9);
    assert_eq!(compare(&mine, &theirs), Verdict::Truncate { to: lsn(5) });
}

#[test]
fn a_foreign_reign_of_the_same_number_is_just_a_fork() {
    let mine = history(&[(1, 7, 1), (2, 8, 5)], 10);
    let theirs = history(&[(1, 7, 1), (2, 9, 5)], 10);
    assert_eq!(compare(&mine, &theirs), Verdict::Truncate { to: lsn(5) });
    let theirs = history(&[(1, 7, 1), (2, 9, 4)], 10);
    assert_eq!(compare(&mine, &theirs), Verdict::Truncate { to: lsn(4) });
}

#[test]
fn a_copy_that_has_more_of_the_same_is_ahead() {
    let mine = history(&[(1, 7, 1)], 6);
    let theirs = history(&[(1, 7, 1), (2, 8, 8)], 10);
    assert_eq!(compare(&mine, &theirs), Verdict::Behind { at: lsn(6) });
}

#[test]
fn no_truncation_below_the_commit_lsn_or_either_start() {
    let mut mine = history(&[(1, 7, 1), (2, 8, 5)], 10);
    let mut theirs = history(&[(1, 7, 1)], 9);
    theirs.commit = lsn(6);
    let why = Why::BelowCommit { fork: lsn(5), commit: lsn(6) };
    assert_eq!(compare(&mine, &theirs), needs_copy(why));
    assert!(why.is_alarm() && why.to_string().contains("ALARM"));
    theirs.commit = lsn(5);
    theirs.start = lsn(6);
    let why = Why::BeforeItsStart { fork: lsn(5), start: lsn(6) };
    assert_eq!(compare(&mine, &theirs), needs_copy(why));
    theirs.start = lsn(5);
    mine.start = lsn(5);
    assert_eq!(compare(&mine, &theirs), Verdict::Truncate { to: lsn(5) });
    mine.start = lsn(6);
    let why = Why::Recycled { fork: lsn(5), start: lsn(6) };
    assert_eq!(compare(&mine, &theirs), needs_copy(why));
}

#[test]
fn equal_ends_need_equal_hashes() {
    let mine = history(&[(1, 7, 1)], 6);
    let mut theirs = mine.clone();
    assert_eq!(compare(&mine, &theirs), Verdict::Continue { at: lsn(6) });
    theirs.hash = RunningHash(1);
    assert_eq!(compare(&mine, &theirs), needs_copy(Why::HashDiffers { at: lsn(6) }));
}

#[test]
fn without_an_epoch_in_common_it_needs_a_copy() {
    let mine = history(&[(5, 7, 20), (6, 8, 25)], 30);
    let theirs = history(&[(1, 7, 1), (2, 8, 5)], 10);
    assert_eq!(compare(&mine, &theirs), needs_copy(Why::NothingInCommon));
    // The same reign at another place is not the same reign.
    let theirs = history(&[(5, 7, 19)], 30);
    assert_eq!(compare(&mine, &theirs), needs_copy(Why::NothingInCommon));
}

#[test]
fn tables_out_of_order_are_not_believed() {
    let mine = history(&[(1, 7, 1)], 6);
    let mut reversed = history(&[], 6);
    reversed.start = lsn(7);
    for theirs in [
        history(&[(2, 7, 1), (1, 8, 2)], 6),
        history(&[(1, 7, 2), (2, 8, 2)], 6),
        history(&[(1, 7, 6)], 6),
        history(&[(0, 0, 1)], 6),
        reversed,
    ] {
        assert_eq!(compare(&mine, &theirs), needs_copy(Why::Malformed));
        assert_eq!(compare(&theirs, &mine), needs_copy(Why::Malformed));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    Plain(u64),
    Begin(Epoch),
}

/// One page a block. `reigns` while it may append in its last epoch.
#[derive(Clone, Default, Debug)]
struct Log {
    blocks: Vec<Block>,
    start: usize,
    commit: usize,
    reigns: bool,
}

impl Log {
    fn history(&self) -> History {
        let begin = |(at, block): (usize, &Block)| match block {
            Block::Begin(epoch) => {
                Some(EpochEntry { epoch: *epoch, start: lsn(at as u64), instance: InstanceId(1) })
            }
            Block::Plain(_) => None,
        };
        let hash = self.blocks.iter().fold(0_u128, |hash, block| {
            let value = match block {
                Block::Plain(value) => u128::from(*value),
                Block::Begin(epoch) => epoch.nonce << 32,
            };
            hash.wrapping_mul(1_000_003).wrapping_add(value + 1)
        });
        History {
            epochs: self.blocks.iter().enumerate().filter_map(begin).collect(),
            start: lsn(self.start as u64),
            end: lsn(self.blocks.len() as u64),
            hash: RunningHash(hash),
            commit: lsn(self.commit as u64),
            floor: Lsn::ZERO,
        }
    }

    fn last_number(&self) -> u64 {
        let begins = self.blocks.iter().filter_map(|block| match block {
            Block::Begin(epoch) => Some(epoch.number),
            Block::Plain(_) => None,
        });
        begins.max().unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Reign { who: usize, skip: u64 },
    Append { who: usize, blocks: usize },
    Ship { from: usize, to: usize, blocks: usize },
    Truncate { who: usize, to: usize },
    Recycle { who: usize, to: usize },
    Commit { who: usize, to: usize },
}

const LOGS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let who = 0..LOGS;
    prop_oneof![
        3 => (who.clone(), 1..3_u64).prop_map(|(who, skip)| Op::Reign { who, skip }),
        4 => (who.clone(), 1..4_usize).prop_map(|(who, blocks)| Op::Append { who, blocks }),
        8 => (who.clone(), who.clone(), 1..9_usize)
            .prop_map(|(from, to, blocks)| Op::Ship { from, to, blocks }),
        2 => (who.clone(), 0..20_usize).prop_map(|(who, to)| Op::Truncate { who, to }),
        1 => (who.clone(), 0..12_usize).prop_map(|(who, to)| Op::Recycle { who, to }),
        1 => (who, 0..12_usize).prop_map(|(who, to)| Op::Commit { who, to }),
    ]
}

/// Logs as they come to be: only a reigning one appends, the others take over what one has; numbers
/// of reigns may collide, nonces do not.
fn grow(ops: &[Op]) -> Vec<Log> {
    let mut logs = vec![Log::default(); LOGS];
    let mut fresh = 0;
    for op in ops {
        fresh += 1;
        match *op {
            Op::Reign { who, skip } => {
                let number = logs[who].last_number() + skip;
                let log = &mut logs[who];
                if log.blocks.is_empty() {
                    log.blocks.push(Block::Plain(fresh * 100));
                }
                log.blocks.push(Block::Begin(Epoch { number, nonce: fresh.into() }));
                log.reigns = true;
            }
            Op::Append { who, blocks } if logs[who].reigns => {
                let more = (0..blocks as u64).map(|n| Block::Plain(fresh * 100 + n));
                logs[who].blocks.extend(more);
            }
            Op::Ship { from, to, blocks } => {
                let have = logs[to].blocks.len();
                if from != to && logs[from].blocks.starts_with(&logs[to].blocks) {
                    let more: Vec<_> =
                        logs[from].blocks.iter().skip(have).take(blocks).copied().collect();
                    logs[to].blocks.extend(more);
                    logs[to].reigns = false;
                }
            }
            Op::Truncate { who, to } => {
                let log = &mut logs[who];
                if to < log.blocks.len() {
                    log.blocks.truncate(to.max(log.start).max(log.commit));
                    log.reigns = false;
                }
            }
            Op::Recycle { who, to } => logs[who].start = to.min(logs[who].blocks.len()),
            Op::Commit { who, to } => logs[who].commit = to.min(logs[who].blocks.len()),
            Op::Append { .. } => {}
        }
    }
    logs
}

/// The verdict by looking at the blocks.
fn by_looking(mine: &Log, theirs: &Log) -> Verdict {
    let common = mine.blocks.iter().zip(&theirs.blocks).take_while(|(a, b)| a == b).count();
    let shared_reign = mine.blocks[..common].iter().any(|block| matches!(block, Block::Begin(_)));
    let (start, end) = (theirs.start, theirs.blocks.len());
    let fork = if shared_reign {
        common
    } else if theirs.last_number() == 0 && start == 0 {
        0
    } else {
        return needs_copy(Why::NothingInCommon);
    };
    let at = lsn(fork as u64);
    if fork < theirs.commit {
        needs_copy(Why::BelowCommit { fork: at, commit: lsn(theirs.commit as u64) })
    } else if fork < start {
        needs_copy(Why::BeforeItsStart { fork: at, start: lsn(start as u64) })
    } else if fork < mine.start {
        needs_copy(Why::Recycled { fork: at, start: lsn(mine.start as u64) })
    } else if end == fork {
        Verdict::Continue { at }
    } else if mine.blocks.len() == fork {
        Verdict::Behind { at }
    } else {
        Verdict::Truncate { to: at }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn verdicts_are_those_of_somebody_who_sees_both_logs(
        ops in prop::collection::vec(op(), 0..40),
    ) {
        let logs = grow(&ops);
        for mine in &logs {
            for theirs in &logs {
                let verdict = compare(&mine.history(), &theirs.history());
                prop_assert_eq!(verdict, by_looking(mine, theirs), "{:?} {:?}", mine, theirs);
            }
        }
    }

    #[test]
    fn following_a_verdict_makes_the_logs_one(ops in prop::collection::vec(op(), 0..40)) {
        let logs = grow(&ops);
        for mine in &logs {
            for theirs in &logs {
                let (Verdict::Continue { at } | Verdict::Truncate { to: at }) =
                    compare(&mine.history(), &theirs.history()) else { continue };
                let at = usize::try_from(at.0 / PAGE_BYTES).unwrap();
                prop_assert!(at >= theirs.commit && at >= mine.start);
                let mut followed = theirs.blocks[..at].to_vec();
                followed.extend_from_slice(&mine.blocks[at..]);
                prop_assert_eq!(&followed, &mine.blocks);
            }
        }
    }

    #[test]
    fn shorter_tables_answer_the_same_or_ask_for_a_copy(
        ops in prop::collection::vec(op(), 0..60),
        keep_mine in 1..4_usize,
        keep_theirs in 1..4_usize,
    ) {
        let newest = |log: &Log, keep: usize| {
            let mut history = log.history();
            let skip = history.epochs.len().saturating_sub(keep);
            history.epochs.drain(..skip);
            history
        };
        let logs = grow(&ops);
        for mine in &logs {
            for theirs in &logs {
                let verdict = compare(&newest(mine, keep_mine), &newest(theirs, keep_theirs));
                prop_assert!(
                    verdict == by_looking(mine, theirs)
                        || verdict == needs_copy(Why::NothingInCommon)
                );
            }
        }
    }
}
