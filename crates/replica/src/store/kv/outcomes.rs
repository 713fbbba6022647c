//! The outcomes window: for each of the latest clients, what became of its latest writes.
//!
//! Guarantees: bounded (clients times writes); the same log gives the same windows on every copy;
//! an answer is never wrong, at worst it is [`Outcome::TooOld`]. A name that was once answered
//! Applied or Refused is never answered the other way.
//!
//! The limit of it: a client is forgotten when so many others wrote after it that the table is full.
//! From then on a write of a client that has no window counts as new, but is not settled as
//! refused any more, because it may be a forgotten one that was applied.
//!
//! Not here: which writes of a batch take effect ([`super::decide()`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_wal::Lsn;

use super::OUTCOME_PREFIX;
use super::codec::ClientId;

const VERSION: u8 = 1;
const APPLIED: u8 = 1;
const REFUSED: u8 = 2;
const ENTRY_BYTES: usize = 8 + 8 + 1;

/// What became of a named write, as far as this copy has applied the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It has not been in the log; it may still come. Settling decides it.
    Unknown,
    /// It took effect.
    Applied {
        /// The end of its record.
        end: Lsn,
    },
    /// It has no effect, now and whenever it comes.
    Refused {
        /// The end of the record that decided this.
        end: Lsn,
    },
    /// It lies before what is remembered: nobody can tell (in doubt).
    TooOld,
}

/// How much is remembered. Part of the state: all copies of a content must have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutcomeLimits {
    /// Writes for each client; a client that keeps no more in flight always gets an answer. At least 1.
    pub writes_per_client: usize,
    /// Clients; the one that wrote least lately is forgotten first. At least 1.
    pub clients: usize,
}

impl Default for OutcomeLimits {
    fn default() -> Self {
        Self {
            writes_per_client: 64,
            clients: 4096,
        }
    }
}

/// Why an exported window cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomesError {
    /// It was written by a newer release.
    #[error("window version {found} is newer than this release reads ({VERSION})")]
    Newer {
        /// The version found.
        found: u8,
    },
    /// Lengths, order or tags make no sense.
    #[error("the window of outcomes is malformed")]
    Malformed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    sequence: u64,
    end: Lsn,
    applied: bool,
}

impl Entry {
    const fn outcome(self) -> Outcome {
        if self.applied {
            Outcome::Applied { end: self.end }
        } else {
            Outcome::Refused { end: self.end }
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Window {
    /// Sequences below it were dropped, or may have been.
    floor: u64,
    /// The record that last touched the client.
    used: Lsn,
    /// Ascending by sequence.
    entries: Vec<Entry>,
}

impl Window {
    fn outcome(&self, sequence: u64) -> Outcome {
        match self
            .entries
            .binary_search_by_key(&sequence, |entry| entry.sequence)
        {
            Ok(at) => self
                .entries
                .get(at)
                .map_or(Outcome::Unknown, |entry| entry.outcome()),
            Err(_) if sequence < self.floor => Outcome::TooOld,
            Err(_) => Outcome::Unknown,
        }
    }

    fn insert(&mut self, entry: Entry, limit: usize) {
        match self
            .entries
            .binary_search_by_key(&entry.sequence, |found| found.sequence)
        {
            Ok(at) => {
                if let Some(found) = self.entries.get_mut(at) {
                    *found = entry;
                }
            }
            Err(at) => self.entries.insert(at, entry),
        }
        let excess = self.entries.len().saturating_sub(limit.max(1));
        if let Some(last) = self.entries.drain(..excess).next_back() {
            self.floor = self.floor.max(last.sequence.saturating_add(1));
        }
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(17 + self.entries.len() * ENTRY_BYTES);
        out.put_u8(VERSION);
        out.put_u64_le(self.floor);
        out.put_u64_le(self.used.0);
        for entry in &self.entries {
            out.put_u64_le(entry.sequence);
            out.put_u64_le(entry.end.0);
            out.put_u8(if entry.applied { APPLIED } else { REFUSED });
        }
        out.freeze()
    }

    fn decode(mut from: &[u8]) -> Result<Self, OutcomesError> {
        let bad = |_| OutcomesError::Malformed;
        check_version(from.try_get_u8().map_err(bad)?)?;
        let floor = from.try_get_u64_le().map_err(bad)?;
        let used = Lsn(from.try_get_u64_le().map_err(bad)?);
        let mut entries: Vec<Entry> = Vec::with_capacity(from.len() / ENTRY_BYTES);
        while !from.is_empty() {
            let entry = Entry {
                sequence: from.try_get_u64_le().map_err(bad)?,
                end: Lsn(from.try_get_u64_le().map_err(bad)?),
                applied: match from.try_get_u8().map_err(bad)? {
                    APPLIED => true,
                    REFUSED => false,
                    _ => return Err(OutcomesError::Malformed),
                },
            };
            if entries
                .last()
                .is_some_and(|last| last.sequence >= entry.sequence)
            {
                return Err(OutcomesError::Malformed);
            }
            entries.push(entry);
        }
        Ok(Self {
            floor,
            used,
            entries,
        })
    }
}

const fn check_version(found: u8) -> Result<(), OutcomesError> {
    match found {
        VERSION => Ok(()),
        found if found > VERSION => Err(OutcomesError::Newer { found }),
        _ => Err(OutcomesError::Malformed),
    }
}

/// The windows of all clients.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    limits: OutcomeLimits,
    windows: BTreeMap<ClientId, Window>,
    /// How many clients were forgotten.
    forgotten: u64,
    /// What changed since [`Outcomes::drain_changed`]: exported keys by client; `None`, the count.
    changed: BTreeSet<Option<ClientId>>,
}

impl Outcomes {
    /// Empty windows.
    #[must_use]
    pub fn new(limits: OutcomeLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// What became of the write; [`Outcome::Unknown`] for a client without a name.
    #[must_use]
    pub fn outcome(&self, client: ClientId, sequence: u64) -> Outcome {
        match self.windows.get(&client) {
            Some(window) => window.outcome(sequence),
            None if self.forgotten > 0 && client != ClientId::NONE => Outcome::TooOld,
            None => Outcome::Unknown,
        }
    }

    /// Whether a write of this name has an effect when it is next in the log. A client without a
    /// window counts as new, also after others were forgotten.
    #[must_use]
    pub fn is_new(&self, client: ClientId, sequence: u64) -> bool {
        self.windows
            .get(&client)
            .is_none_or(|window| window.outcome(sequence) == Outcome::Unknown)
    }

    /// Notes what became of a write, for the first time or again; `at` is the record's start.
    pub(super) fn note(
        &mut self,
        client: ClientId,
        sequence: u64,
        at: Lsn,
        end: Lsn,
        applied: bool,
    ) {
        let limit = self.limits.writes_per_client;
        let entry = Entry {
            sequence,
            end,
            applied,
        };
        self.window(client, at).insert(entry, limit);
    }

    /// Notes that the client was heard of, so that it is not the next to be forgotten.
    pub(super) fn touch(&mut self, client: ClientId, at: Lsn) {
        self.window(client, at);
    }

    fn window(&mut self, client: ClientId, at: Lsn) -> &mut Window {
        if !self.windows.contains_key(&client) && self.windows.len() >= self.limits.clients.max(1) {
            let oldest = self
                .windows
                .iter()
                .min_by_key(|(id, window)| (window.used, **id));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.windows.remove(&oldest);
                self.forgotten = self.forgotten.saturating_add(1);
                self.changed.insert(Some(oldest));
                self.changed.insert(None);
            }
        }
        self.changed.insert(Some(client));
        let window = self.windows.entry(client).or_default();
        window.used = at;
        window
    }

    /// The exported pairs, in key order.
    #[must_use]
    pub fn export(&self) -> Vec<(Bytes, Bytes)> {
        let count = self.pair(None).1.map(|value| (export_key(None), value));
        let windows = self
            .windows
            .iter()
            .map(|(client, window)| (export_key(Some(*client)), window.encode()));
        count.into_iter().chain(windows).collect()
    }

    /// The exported pairs that changed since the last call; `None`: the pair is gone.
    pub fn drain_changed(&mut self) -> Vec<(Bytes, Option<Bytes>)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|client| self.pair(client))
            .collect()
    }

    fn pair(&self, client: Option<ClientId>) -> (Bytes, Option<Bytes>) {
        let value = match client {
            Some(client) => self.windows.get(&client).map(Window::encode),
            None if self.forgotten == 0 => None,
            None => {
                let mut out = BytesMut::with_capacity(9);
                out.put_u8(VERSION);
                out.put_u64_le(self.forgotten);
                Some(out.freeze())
            }
        };
        (export_key(client), value)
    }

    /// Takes in one exported pair.
    ///
    /// # Errors
    /// When it is malformed, or of a newer release.
    pub fn import(&mut self, key: &[u8], mut value: &[u8]) -> Result<(), OutcomesError> {
        let Some((&OUTCOME_PREFIX, client)) = key.split_first() else {
            return Err(OutcomesError::Malformed);
        };
        if client.is_empty() {
            check_version(value.try_get_u8().map_err(|_| OutcomesError::Malformed)?)?;
            let Ok(count) = <[u8; 8]>::try_from(value) else {
                return Err(OutcomesError::Malformed);
            };
            self.forgotten = u64::from_le_bytes(count);
            self.changed.insert(None);
            return Ok(());
        }
        let Ok(client) = <[u8; 16]>::try_from(client) else {
            return Err(OutcomesError::Malformed);
        };
        let client = ClientId(u128::from_be_bytes(client));
        self.windows.insert(client, Window::decode(value)?);
        self.changed.insert(Some(client));
        Ok(())
    }
}

fn export_key(client: Option<ClientId>) -> Bytes {
    let mut key = BytesMut::with_capacity(17);
    key.put_u8(OUTCOME_PREFIX);
    if let Some(client) = client {
        key.put_u128(client.0);
    }
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientId = ClientId(1);

    fn small() -> Outcomes {
        Outcomes::new(OutcomeLimits {
            writes_per_client: 2,
            clients: 2,
        })
    }

    fn note(outcomes: &mut Outcomes, client: ClientId, sequence: u64, at: u64, applied: bool) {
        outcomes.note(client, sequence, Lsn(at), Lsn(at + 1), applied);
    }

    #[test]
    fn the_latest_writes_are_remembered_and_older_ones_are_in_doubt() {
        let mut outcomes = small();
        for sequence in 1..=3 {
            note(
                &mut outcomes,
                CLIENT,
                sequence,
                sequence * 10,
                sequence != 2,
            );
        }
        assert_eq!(outcomes.outcome(CLIENT, 1), Outcome::TooOld);
        assert_eq!(outcomes.outcome(CLIENT, 0), Outcome::TooOld);
        assert_eq!(
            outcomes.outcome(CLIENT, 2),
            Outcome::Refused { end: Lsn(21) }
        );
        assert_eq!(
            outcomes.outcome(CLIENT, 3),
            Outcome::Applied { end: Lsn(31) }
        );
        assert_eq!(outcomes.outcome(CLIENT, 4), Outcome::Unknown);
        assert!(
            !outcomes.is_new(CLIENT, 1),
            "a forgotten write never takes effect again"
        );
    }

    #[test]
    fn a_write_that_arrives_out_of_order_is_still_unknown() {
        let mut outcomes = small();
        note(&mut outcomes, CLIENT, 9, 10, true);
        assert_eq!(outcomes.outcome(CLIENT, 8), Outcome::Unknown);
        note(&mut outcomes, CLIENT, 8, 20, true);
        assert_eq!(
            outcomes.outcome(CLIENT, 8),
            Outcome::Applied { end: Lsn(21) }
        );
    }

    #[test]
    fn the_client_that_wrote_least_lately_is_forgotten_and_never_called_unknown() {
        let mut outcomes = small();
        note(&mut outcomes, ClientId(1), 1, 10, true);
        note(&mut outcomes, ClientId(2), 1, 20, true);
        outcomes.touch(ClientId(1), Lsn(30));
        note(&mut outcomes, ClientId(3), 1, 40, true);
        assert_eq!(
            outcomes.outcome(ClientId(1), 1),
            Outcome::Applied { end: Lsn(11) }
        );
        assert_eq!(outcomes.outcome(ClientId(2), 1), Outcome::TooOld);
        assert_eq!(outcomes.outcome(ClientId(4), 1), Outcome::TooOld);
        assert_eq!(outcomes.outcome(ClientId::NONE, 1), Outcome::Unknown);
    }

    #[test]
    fn what_is_exported_is_imported_and_only_changes_are_drained() {
        let mut outcomes = small();
        for client in 1..=3 {
            for sequence in 1..=3 {
                note(
                    &mut outcomes,
                    ClientId(client),
                    sequence,
                    sequence * 10,
                    sequence % 2 == 0,
                );
            }
        }
        let pairs = outcomes.export();
        assert!(pairs.is_sorted());
        let mut copy = small();
        for (key, value) in &pairs {
            copy.import(key, value).unwrap();
        }
        assert_eq!(copy.export(), pairs);
        assert_eq!(
            outcomes.drain_changed().len(),
            4,
            "three clients and the count"
        );
        note(&mut outcomes, ClientId(3), 4, 100, true);
        let changed = outcomes.drain_changed();
        assert_eq!(changed.len(), 1);
        assert!(
            pairs
                .iter()
                .all(|pair| (&pair.0, Some(&pair.1)) != (&changed[0].0, changed[0].1.as_ref()))
        );
        assert!(outcomes.drain_changed().is_empty());
    }

    #[test]
    fn malformed_windows_are_refused() {
        let mut outcomes = small();
        note(&mut outcomes, CLIENT, 1, 10, true);
        note(&mut outcomes, CLIENT, 2, 20, true);
        let (key, value) = outcomes.export().remove(0);
        let mut copy = small();
        for len in 0..value.len() {
            let whole = len >= 17 && (len - 17) % ENTRY_BYTES == 0;
            assert_eq!(
                copy.import(&key, &value[..len]).is_ok(),
                whole,
                "{len} bytes"
            );
        }
        assert_eq!(
            copy.import(&key[..5], &value),
            Err(OutcomesError::Malformed)
        );
        assert_eq!(copy.import(b"", &value), Err(OutcomesError::Malformed));
        let mut newer = value.to_vec();
        newer[0] = 2;
        assert_eq!(
            copy.import(&key, &newer),
            Err(OutcomesError::Newer { found: 2 })
        );
        let mut swapped = value[..17].to_vec();
        swapped.extend_from_slice(&value[17 + ENTRY_BYTES..]);
        swapped.extend_from_slice(&value[17..17 + ENTRY_BYTES]);
        assert_eq!(copy.import(&key, &swapped), Err(OutcomesError::Malformed));
    }
}
