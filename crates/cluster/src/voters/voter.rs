//! The register of one voter: what it promised, and the newest value it accepted.
//!
//! Guarantees: nothing below the promised epoch is promised or accepted; (epoch, version) names one
//! value for good; a question that comes again gets the same answer. Who was made anew after its file was lost is
//! no voter any more: there is no way to make one but [`Voter::create`]. Not here: files
//! ([`VoterFile`](super::VoterFile)), and what a majority means ([`Ballot`](super::Ballot)).

use bytes::Bytes;
use outrigger_net::config::Config;
use outrigger_replica::rules::{Rule, Rules};
use outrigger_wal::{ClusterId, Epoch};

use super::list::{Seat, VoterList};
use super::message::{Ask, Question, Refusal, Reply, Say};
use super::name_of;
use crate::codec::{Put, Take};
use crate::error::CodecError;

const VERSION: u8 = 1;

/// One voter, as it is held durably.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Voter {
    cluster: ClusterId,
    list: VoterList,
    seat: Seat,
    promised: Epoch,
    accepted: Config,
}

impl Voter {
    /// The voter of a cluster that is being made: it holds the first value, which every voter is
    /// given alike. Never to be called for a cluster that exists: what a lost voter had promised is
    /// not known.
    ///
    /// # Errors
    /// When the list has no such seat, or the value's primary is not in sync.
    pub fn create(
        cluster: ClusterId,
        list: VoterList,
        seat: Seat,
        first: Config,
    ) -> Result<Self, CodecError> {
        let promised = first.epoch;
        Self { cluster, list, seat, promised, accepted: first }.sound()
    }

    /// What it does with a question: the state to be saved before the answer is sent, if it changed,
    /// and the answer.
    ///
    /// # Durability
    /// ORDER: the answer is a promise; it may be sent only when the returned state is durable.
    #[must_use]
    pub fn step(&self, ask: &Ask, rules: Rules) -> (Option<Self>, Say) {
        let (next, reply) = match self.stranger(ask) {
            Some(text) => (None, Reply::Denied { text }),
            None => match &ask.question {
                Question::Read => {
                    let newest = self.accepted.clone();
                    (None, Reply::Holds { promised: self.promised, newest })
                }
                Question::Promise { epoch } => self.promise(*epoch),
                Question::Accept { config } => self.accept(config, rules),
            },
        };
        (next, Say { cluster: self.cluster, seat: self.seat, op: ask.op, reply })
    }

    fn promise(&self, epoch: Epoch) -> (Option<Self>, Reply) {
        if let Some(why) = self.refuses(epoch) {
            return (None, self.refused(why));
        }
        let newest = self.accepted.clone();
        let next = (epoch != self.promised).then(|| Self { promised: epoch, ..self.clone() });
        (next, Reply::Promised { epoch, newest })
    }

    fn accept(&self, config: &Config, rules: Rules) -> (Option<Self>, Reply) {
        if let Some(why) = self.refuses(config.epoch) {
            let old = why == Refusal::LowerEpoch && !rules.hold(Rule::S8OldEpoch);
            if !old {
                return (None, self.refused(why));
            }
        }
        if config.epoch == self.accepted.epoch {
            if config.version < self.accepted.version {
                return (None, self.refused(Refusal::LowerVersion));
            }
            let other = config.version == self.accepted.version && *config != self.accepted;
            if other && rules.hold(Rule::S8OneOpen) {
                return (None, self.refused(Refusal::OtherValue));
            }
        }
        // To accept is to promise: whoever gets here without its promise was asked late, and a
        // majority had promised before the value was made.
        let promised =
            if config.epoch.number < self.promised.number { self.promised } else { config.epoch };
        let next = Self { promised, accepted: config.clone(), ..self.clone() };
        let reply = Reply::Accepted { epoch: config.epoch, version: config.version };
        ((next != *self).then_some(next), reply)
    }

    /// Why nothing of this epoch is promised or accepted any more.
    const fn refuses(&self, epoch: Epoch) -> Option<Refusal> {
        if epoch.number < self.promised.number {
            Some(Refusal::LowerEpoch)
        } else if epoch.number == self.promised.number && epoch.nonce != self.promised.nonce {
            Some(Refusal::ForeignNonce)
        } else {
            None
        }
    }

    fn refused(&self, why: Refusal) -> Reply {
        Reply::Refused { why, promised: self.promised, newest: self.accepted.clone() }
    }

    fn stranger(&self, ask: &Ask) -> Option<String> {
        if ask.cluster != self.cluster {
            let (theirs, ours) = (ask.cluster, self.cluster);
            return Some(format!("this voter belongs to cluster {ours}, not to {theirs}"));
        }
        if ask.list != self.list.version {
            let (theirs, ours) = (ask.list, self.list.version);
            return Some(format!("this voter goes by version {ours} of the list, not by {theirs}"));
        }
        if ask.seat != self.seat {
            let (theirs, ours) = (ask.seat, self.seat);
            return Some(format!("this is voter {ours}, not voter {theirs}"));
        }
        None
    }

    /// The cluster it votes in.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Who votes.
    #[must_use]
    pub const fn list(&self) -> &VoterList {
        &self.list
    }

    /// Its own place in the list.
    #[must_use]
    pub const fn seat(&self) -> Seat {
        self.seat
    }

    /// What it promised: nothing below is accepted.
    #[must_use]
    pub const fn promised(&self) -> Epoch {
        self.promised
    }

    /// The newest value it accepted.
    #[must_use]
    pub const fn accepted(&self) -> &Config {
        &self.accepted
    }

    /// The bytes that are saved.
    ///
    /// # Errors
    /// When there is more of anything than allowed.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        put.u128(self.cluster.0);
        self.list.put(&mut put);
        put.u8(self.seat.0);
        put.epoch(self.promised);
        put.config(&self.accepted);
        put.done()
    }

    /// The voter in these bytes.
    ///
    /// # Errors
    /// When they are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut take = Take::versioned(bytes, VERSION)?;
        let voter = Self {
            cluster: take.cluster()?,
            list: VoterList::take(&mut take)?,
            seat: Seat(take.u8()?),
            promised: take.epoch()?,
            accepted: take.config()?,
        };
        take.end()?;
        voter.sound()
    }

    fn sound(self) -> Result<Self, CodecError> {
        if usize::from(self.seat.0) >= self.list.len() {
            return Err(CodecError::Malformed { what: "a voter without a place in its list" });
        }
        if !self.accepted.in_sync(self.accepted.primary) {
            return Err(CodecError::Malformed { what: "a primary that is not in sync" });
        }
        if name_of(&self.accepted).0 > self.promised.number {
            return Err(CodecError::Malformed { what: "a value above the promised epoch" });
        }
        Ok(self)
    }
}
