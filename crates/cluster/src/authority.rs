//! Registers without a log: of the catalog itself, and in memory for tests.
//!
//! Guarantees: the decisions of [`Register`]. Not here: voters; the coordinator stands alone, and
//! what it recorded is in its own two slots.

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::rules::Rules;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, Epoch, InstanceId};

use crate::codec::{Put, Take};
use crate::error::{CodecError, Error};
use crate::register::{Conflict, Proposer, Register, Report, ReportRefused};
use crate::slots::{Kind, Saved, Slots};

const VERSION: u8 = 1;

/// The first configuration of a content: one copy, which is the primary.
#[must_use]
pub fn first_config(instance: InstanceId, addresses: Vec<String>) -> Config {
    Config {
        version: Version(1),
        epoch: Epoch::NONE,
        primary: instance,
        copies: vec![Copy {
            instance,
            addresses,
            in_sync: true,
            held: false,
            durable: Promise::NONE,
        }],
        rule: Rule::All,
        loss: None,
    }
}

/// The authority of content -1: its register, in two slots beside the catalog, so that the
/// coordinator takes a new epoch at each start (S5).
#[derive(Debug)]
pub struct SelfAuthority {
    register: Register,
    instance: InstanceId,
    saved: Saved,
    rules: Rules,
}

impl SelfAuthority {
    /// Makes the register of a new coordinator.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is one, or the device's fault.
    pub fn create(
        slots: Box<dyn Slots>,
        instance: InstanceId,
        addresses: Vec<String>,
        rules: Rules,
    ) -> Result<Self, Error> {
        let (saved, body) = Saved::open(slots, Kind::Register)?;
        if body.is_some() {
            return Err(Error::Exists { place: saved.place() });
        }
        let mut authority = Self { register: Register::default(), instance, saved, rules };
        let mut register = Register::default();
        register.create(first_config(instance, addresses))?;
        authority.record(register)?;
        Ok(authority)
    }

    /// Reads the register of `instance`.
    ///
    /// # Errors
    /// [`Error::Missing`], or that it cannot be read, or belongs to another instance.
    pub fn open(slots: Box<dyn Slots>, instance: InstanceId, rules: Rules) -> Result<Self, Error> {
        let (saved, body) = Saved::open(slots, Kind::Register)?;
        let Some(body) = body else {
            return Err(Error::Missing { place: saved.place() });
        };
        let content = |cause| Error::Content { place: saved.place(), cause };
        let config = decode(&body).map_err(content)?;
        if config.primary != instance {
            let what = "it belongs to another instance";
            return Err(content(CodecError::Malformed { what }));
        }
        let register = Register::from_parts(Some(config), BTreeMap::new());
        Ok(Self { register, instance, saved, rules })
    }

    /// What is recorded.
    #[must_use]
    pub const fn config(&self) -> Option<&Config> {
        self.register.config()
    }

    /// Decides a compare-and-swap of the coordinator's own member.
    ///
    /// # Errors
    /// [`Error::Conflict`]: nothing has changed. Any other: it is not known whether it was recorded,
    /// and nothing may be answered; open it again.
    ///
    /// # Durability
    /// Recorded durably when this returns.
    pub fn compare_and_swap(&mut self, seen: Version, new: &Config) -> Result<&Config, Error> {
        let mut register = self.register.clone();
        register.swap(seen, new, Proposer::Instance(self.instance), self.rules)?;
        self.record(register)?;
        self.config().ok_or(Error::Conflict(Conflict::NotCreated))
    }

    fn record(&mut self, register: Register) -> Result<(), Error> {
        let config = register.config().ok_or(Error::Conflict(Conflict::NotCreated))?;
        let content = |cause| Error::Content { place: self.saved.place(), cause };
        let body = encode(config).map_err(content)?;
        // ORDER: recorded before anyone is told, and before it counts here.
        self.saved.save(&body)?;
        self.register = register;
        Ok(())
    }
}

fn encode(config: &Config) -> Result<Bytes, CodecError> {
    let mut put = Put::versioned(VERSION);
    put.config(config);
    put.done()
}

fn decode(body: &[u8]) -> Result<Config, CodecError> {
    let mut take = Take::versioned(body, VERSION)?;
    let config = take.config()?;
    take.end()?;
    Ok(config)
}

/// An authority in memory, for tests: the same decisions, at once.
#[derive(Clone, Default, Debug)]
pub struct MemoryAuthority {
    registers: BTreeMap<ContentId, Register>,
    rules: Rules,
}

impl MemoryAuthority {
    /// An authority without contents.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        Self { registers: BTreeMap::new(), rules }
    }

    /// Records the first configuration of a content.
    ///
    /// # Errors
    /// As [`Register::create`].
    pub fn create(&mut self, content: ContentId, config: Config) -> Result<(), Conflict> {
        self.registers.entry(content).or_default().create(config)
    }

    /// What is recorded.
    #[must_use]
    pub fn config(&self, content: ContentId) -> Option<&Config> {
        self.register(content)?.config()
    }

    /// A content's register.
    #[must_use]
    pub fn register(&self, content: ContentId) -> Option<&Register> {
        self.registers.get(&content)
    }

    /// Decides a compare-and-swap of an instance; what is recorded then is told by
    /// [`MemoryAuthority::config`], won or lost.
    ///
    /// # Errors
    /// As [`Register::decide`].
    pub fn compare_and_swap(
        &mut self,
        content: ContentId,
        seen: Version,
        new: &Config,
        proposer: InstanceId,
    ) -> Result<(), Conflict> {
        let rules = self.rules;
        self.of(content)?.swap(seen, new, Proposer::Instance(proposer), rules)
    }

    /// Takes a report (S6).
    ///
    /// # Errors
    /// As [`Register::report`].
    pub fn report(&mut self, content: ContentId, report: &Report) -> Result<(), ReportRefused> {
        self.of(content).map_err(|_| ReportRefused::NotACopy)?.report(report)
    }

    /// Promotes `to` (S3).
    ///
    /// # Errors
    /// As [`Register::decide`].
    pub fn promote(
        &mut self,
        content: ContentId,
        to: InstanceId,
        nonce: u128,
    ) -> Result<(), Conflict> {
        let rules = self.rules;
        let register = self.of(content)?;
        let new = register.promotion(to, nonce)?;
        let seen = register.config().map_or(Version(0), |config| config.version);
        register.swap(seen, &new, Proposer::Coordinator, rules)
    }

    fn of(&mut self, content: ContentId) -> Result<&mut Register, Conflict> {
        self.registers.get_mut(&content).ok_or(Conflict::NotCreated)
    }
}
