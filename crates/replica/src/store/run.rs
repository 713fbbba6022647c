//! A run of records, checked against the contract and cut into batches.
//!
//! Guarantees: a run that breaks the contract is refused as a whole, before anything is applied.
//! Not here: what the records say.

use outrigger_wal::Lsn;
use outrigger_wal::format::{Record, RecordFlag};

use super::{RunFault, StoreError};

/// The LSNs of a store end here: 2^62 bytes.
pub const LSN_LIMIT: Lsn = Lsn(1 << 62);

/// The batches of `run` that lie behind `applied`, in order; a lone record is a batch of one.
///
/// # Errors
/// When the run breaks the contract of [`super::StateStore`].
pub fn batches(
    run: &[Record],
    applied: Lsn,
) -> Result<impl Iterator<Item = &[Record]>, StoreError> {
    let mut behind = Lsn::ZERO;
    let mut batch_start = None;
    for record in run {
        let lsn = record.lsn;
        let refuse = |fault| Err(StoreError::Run { lsn, fault });
        if record.flag == RecordFlag::Void {
            return refuse(RunFault::Void);
        }
        if lsn < behind || record.end <= lsn {
            return refuse(RunFault::Order);
        }
        if record.end > LSN_LIMIT {
            return refuse(RunFault::Beyond);
        }
        behind = record.end;
        let start = *batch_start.get_or_insert(lsn);
        if record.flag == RecordFlag::Record {
            if start < applied && record.end > applied {
                return refuse(RunFault::HalfApplied);
            }
            batch_start = None;
        }
    }
    if let Some(lsn) = batch_start {
        return Err(StoreError::Run {
            lsn,
            fault: RunFault::OpenBatch,
        });
    }
    Ok(run
        .split_inclusive(|record| record.flag == RecordFlag::Record)
        .filter(move |batch| batch.last().is_some_and(|last| last.end > applied)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(lsn: u64, end: u64, flag: RecordFlag) -> Record {
        Record {
            lsn: Lsn(lsn),
            end: Lsn(end),
            flag,
            body: Bytes::new(),
        }
    }

    fn cut(run: &[Record], applied: u64) -> Result<Vec<usize>, RunFault> {
        match batches(run, Lsn(applied)) {
            Ok(batches) => Ok(batches.map(<[Record]>::len).collect()),
            Err(StoreError::Run { fault, .. }) => Err(fault),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_run_is_cut_into_whole_batches_behind_what_is_applied() {
        use RecordFlag::{BatchContinues, Record};
        let run = [
            record(1, 2, Record),
            record(2, 3, BatchContinues),
            record(3, 4, BatchContinues),
            record(4, 5, Record),
            record(9, 12, Record),
        ];
        assert_eq!(cut(&run, 0), Ok(vec![1, 3, 1]));
        assert_eq!(cut(&run, 2), Ok(vec![3, 1]));
        assert_eq!(cut(&run, 5), Ok(vec![1]));
        assert_eq!(cut(&run, 12), Ok(vec![]));
        assert_eq!(cut(&run, 3), Err(RunFault::HalfApplied));
        assert_eq!(cut(&run[..3], 0), Err(RunFault::OpenBatch));
        assert_eq!(cut(&[], 0), Ok(vec![]));
    }

    #[test]
    fn voids_overlaps_and_lsns_beyond_the_limit_are_refused() {
        use RecordFlag::{Record, Void};
        assert_eq!(cut(&[record(1, 2, Void)], 0), Err(RunFault::Void));
        assert_eq!(
            cut(&[record(1, 5, Record), record(4, 6, Record)], 0),
            Err(RunFault::Order)
        );
        assert_eq!(cut(&[record(5, 5, Record)], 0), Err(RunFault::Order));
        assert_eq!(
            cut(&[record(1, u64::MAX, Record)], 0),
            Err(RunFault::Beyond)
        );
    }
}
