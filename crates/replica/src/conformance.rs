//! What every store has to do, as a suite that runs against any: for who writes a store of their own.
//!
//! A [`Factory`] makes stores and brings them back after a clean close or a crash; [`run`] puts them
//! through each of [`checks`], and reports which failed and how.
//!
//! Guarantees: deterministic, but for the interleaving of readers; each check uses fresh stores. The
//! checks about rows and named writes run when the factory hands out [`Subject::rows`].
//! Not here: what a disk may do in a crash. A factory for a store on disk should lose what was not
//! synced, or at least drop the store without closing it.

mod kept;
mod log;
mod rows;
mod state;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::kv::{ClientId, Op, Write};
use crate::store::{Rows, StateStore, StoreError};

/// A store under test.
#[derive(Clone)]
pub struct Subject {
    /// The factory's own number for it.
    pub id: u64,
    /// The store.
    pub state: Arc<dyn StateStore>,
    /// The same store's rows, when it is a key-value store.
    pub rows: Option<Arc<dyn Rows>>,
}

/// Makes stores, and brings them back. Several may be in use at a time.
pub trait Factory {
    /// Makes an empty store.
    ///
    /// # Errors
    /// When it cannot.
    fn create(&mut self) -> Result<Subject, StoreError>;

    /// Closes the store and opens it again. The suite holds no other handle to it.
    ///
    /// # Errors
    /// When it cannot.
    fn reopen(&mut self, subject: Subject) -> Result<Subject, StoreError>;

    /// Lets the store crash, and opens it again. The suite holds no other handle to it.
    ///
    /// # Errors
    /// When it cannot.
    fn crash(&mut self, subject: Subject) -> Result<Subject, StoreError>;

    /// The body of a record that gives the thing numbered `key` the value `value`; unless a store reads
    /// records of its own, a put without a name.
    fn body(&self, key: u64, value: u64) -> Bytes {
        let op = Op::Put {
            key: Bytes::copy_from_slice(&key.to_be_bytes()),
            value: Bytes::copy_from_slice(&value.to_be_bytes()),
        };
        Write {
            client: ClientId::NONE,
            sequence: 0,
            op,
        }
        .encode()
        .unwrap_or_default()
    }
}

/// Why a check failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// Fails the check with these words unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure(format!($($words)+)));
        }
    };
}
use ensure;

/// Fails the check unless both are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($words:tt)+) => {
        match (&$left, &$right) {
            (left, right) => if left != right {
                let words = format!($($words)+);
                return Err($crate::conformance::Failure(
                    format!("{words}: {left:?}, expected {right:?}")
                ));
            }
        }
    };
}
use ensure_eq;

type Run = fn(&mut dyn Factory) -> Result<(), Failure>;

/// One promise of the contract, and how to check it.
#[derive(Clone, Copy)]
pub struct Check {
    name: &'static str,
    needs_rows: bool,
    run: Run,
}

impl Check {
    /// The promise.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is about rows or named writes.
    #[must_use]
    pub const fn needs_rows(&self) -> bool {
        self.needs_rows
    }

    /// Checks it on stores of this factory.
    ///
    /// # Errors
    /// How the store breaks the promise.
    pub fn run(&self, factory: &mut dyn Factory) -> Result<(), Failure> {
        (self.run)(factory)
    }
}

/// All checks, in the order in which they are run.
#[must_use]
pub fn checks() -> Vec<Check> {
    let of = |needs_rows, list: &[(&'static str, Run)]| -> Vec<Check> {
        list.iter()
            .map(|&(name, run)| Check {
                name,
                needs_rows,
                run,
            })
            .collect()
    };
    [
        of(false, state::CHECKS),
        of(false, kept::CHECKS),
        of(true, rows::CHECKS),
    ]
    .concat()
}

/// What a run of the suite found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The checks that passed.
    pub passed: Vec<&'static str>,
    /// The checks that do not concern the store: those about rows.
    pub skipped: Vec<&'static str>,
    /// The checks that failed, and how.
    pub failed: Vec<(&'static str, Failure)>,
}

impl Report {
    /// Whether every check that concerns the store passed.
    #[must_use]
    pub const fn is_conformant(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, skipped) = (self.passed.len(), self.skipped.len());
        write!(
            f,
            "{passed} checks passed, {skipped} skipped, {} failed",
            self.failed.len()
        )?;
        for (name, failure) in &self.failed {
            write!(f, "\n{name}: {failure}")?;
        }
        Ok(())
    }
}

/// Runs all checks.
pub fn run(factory: &mut dyn Factory) -> Report {
    let mut report = Report::default();
    let has_rows = factory.create().is_ok_and(|subject| subject.rows.is_some());
    for check in checks() {
        if check.needs_rows && !has_rows {
            report.skipped.push(check.name);
            continue;
        }
        match check.run(factory) {
            Ok(()) => report.passed.push(check.name),
            Err(failure) => report.failed.push((check.name, failure)),
        }
    }
    report
}
