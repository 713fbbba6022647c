//! One candidate's way to a recorded value (S8), without time: questions out, answers in.
//!
//! A start or an activation asks without promising whether the newest value contains the candidate; has a
//! promise for an epoch above every number seen; looks again, at what those who promised hold; has that value
//! accepted again, with itself as primary. Then changes, one after the other, in that epoch.
//!
//! Guarantees: [`Act::Recorded`] comes only when a majority holds the value durably (or, forced, every
//! voter that promised); a retry repeats op, epoch, version and value; one change is open at a time; answers to
//! other questions than the last count for nothing, however late or often they come.
//! Not here: when to ask again, and when to give up ([`Council`](super::Council)).

use std::collections::{BTreeMap, BTreeSet};

use outrigger_net::config::{Config, Copy, Loss, Version};
use outrigger_replica::rules::{Rule, Rules};
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, Epoch, InstanceId, Lsn};

use super::list::Seat;
use super::message::{Ask, Question, Reply, Say};
use super::name_of;
use super::round::{Purpose, Stage, newest};
use crate::register::{Conflict, Proposer, Register};

/// How far a forced activation goes above every number that it has seen: what voters hold that it
/// has not heard stays below.
const FORCED_STEP: u64 = 1_000_000;

/// Whose ballot it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Whose {
    /// The cluster.
    pub cluster: ClusterId,
    /// The candidate: a copy of the catalog.
    pub me: InstanceId,
    /// The version of the list of voters.
    pub list: u64,
    /// How many voters are in it.
    pub voters: u8,
}

/// A catalog that begins anew.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Anew {
    /// Where its coordinator listens.
    pub addresses: Vec<String>,
    /// The newest value that was held when the old one was given up for lost, by (epoch, version).
    pub above: (u64, u64),
    /// A number above every coordinator's that was heard of otherwise.
    pub above_epoch: u64,
}

/// What a ballot asks its owner to do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Act {
    /// Send this to its voter.
    Ask(Ask),
    /// This is recorded, and the candidate is its primary.
    Recorded(Config),
    /// This is what the voters hold: the answer to a look.
    Found(Found),
    /// The start or activation is refused by what is recorded. If no promise was made, nothing has changed.
    Refused(Why),
    /// A voter knows a higher or a foreign number: this epoch is over.
    Overtaken {
        /// What it promised.
        by: Epoch,
        /// The newest value it holds, recorded or not.
        newest: Config,
    },
    /// A voter says that it is not meant.
    Denied {
        /// Which.
        seat: Seat,
        /// Why, in its words.
        text: String,
    },
    /// What was forced is held by a majority now.
    Healed,
}

/// What the voters hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The newest value.
    pub config: Config,
    /// Whether a majority holds just this one. Otherwise nobody may act on it.
    pub recorded: bool,
}

/// What a start or activation came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Outcome {
    /// How many voters promised.
    pub answered: usize,
    /// How many there are.
    pub voters: usize,
    /// Whether the candidate was in sync in the newest value that they hold.
    pub was_in_sync: bool,
}

impl Outcome {
    /// Whether something could not be proved.
    #[must_use]
    pub const fn is_forced(self) -> bool {
        !self.was_in_sync || self.answered <= self.voters / 2
    }
}

/// Why a start or activation is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// The newest value does not know the candidate.
    Stranger(Config),
    /// Another one is primary in it.
    Deposed(Config),
    /// The candidate is not in sync in it: it may lack committed changes.
    Behind(Config),
    /// It was changed since the catalog was given up for lost: somebody holds one.
    Moved(Config),
}

/// Why a change is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotChanged {
    /// There is no epoch to change anything in.
    #[error("this process is not the coordinator")]
    NotActing,
    /// Another change has not been accepted by a majority.
    #[error("the change to version {} is open: the next one has to wait", open.0)]
    Open {
        /// Its version.
        open: Version,
    },
    /// What is recorded does not allow it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// One candidate's way to a recorded value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ballot {
    whose: Whose,
    rules: Rules,
    /// The last one used.
    last_op: u64,
    /// What is asked now.
    op: u64,
    stage: Stage,
    /// Above every number and version seen.
    number: u64,
    version: Version,
    outcome: Option<Outcome>,
    /// As many voters suffice, until a majority holds what was forced.
    forced: Option<usize>,
    watch: Option<u64>,
    /// The only copy of a catalog that begins anew.
    anew: Option<Copy>,
}

impl Ballot {
    /// A ballot that asks nothing; ops count up from `op`, which should be random.
    #[must_use]
    pub const fn new(whose: Whose, op: u64, rules: Rules) -> Self {
        Self {
            whose,
            rules,
            last_op: op,
            op,
            stage: Stage::Idle,
            number: 0,
            version: Version(0),
            outcome: None,
            forced: None,
            watch: None,
            anew: None,
        }
    }

    /// Asks what is recorded.
    pub fn look(&mut self, out: &mut Vec<Act>) {
        self.begin(Purpose::Look, out);
    }

    /// Takes a new epoch as the coordinator that this one is already, with this nonce and at least this number
    /// (S5). While what it forced is held by fewer than a majority, fewer suffice again.
    pub fn start(&mut self, epoch: Epoch, out: &mut Vec<Act>) {
        let Epoch { number, nonce } = epoch;
        self.begin(Purpose::Start { nonce, number, force: self.is_forced() }, out);
    }

    /// Becomes coordinator, in an epoch with this nonce.
    pub fn activate(&mut self, nonce: u128, force: bool, out: &mut Vec<Act>) {
        self.begin(Purpose::Activate { nonce, force }, out);
    }

    /// Has the catalog begin anew with this candidate as its only copy, where nothing newer than `above` is held. Whoever
    /// held it before is no copy any more: it starts no reign, and commands nothing.
    ///
    /// That nobody holds the old catalog, or that nobody should, is for the caller to know.
    pub fn replace(&mut self, nonce: u128, anew: Anew, force: bool, out: &mut Vec<Act>) {
        let Anew { addresses, above, above_epoch } = anew;
        self.number = self.number.max(above_epoch);
        let instance = self.whose.me;
        let durable = Promise::NONE;
        self.anew = Some(Copy { instance, addresses, in_sync: true, held: false, durable });
        self.begin(Purpose::Replace { nonce, force, above }, out);
    }

    /// Ends what is not recorded; what voters hold stays there, to be found.
    pub fn stop(&mut self) {
        self.stage = Stage::Idle;
        self.watch = None;
    }

    /// A version that is known otherwise: the next one will lie above.
    pub fn saw(&mut self, version: Version) {
        self.version = self.version.max(version);
    }

    /// Asks for a change within the epoch; `heard` is what the copies were heard to hold.
    ///
    /// # Errors
    /// [`NotChanged`]; nothing is asked then.
    pub fn change(
        &mut self,
        seen: Version,
        new: &Config,
        by: Proposer,
        heard: &BTreeMap<InstanceId, Promise>,
        out: &mut Vec<Act>,
    ) -> Result<(), NotChanged> {
        let Stage::Voting { value, recorded: Some(recorded), .. } = &self.stage else {
            return Err(NotChanged::NotActing);
        };
        if value != recorded {
            let open = Register::from_parts(Some(value.clone()), BTreeMap::new());
            if open.is_recorded(new) {
                return Ok(());
            }
            if self.rules.hold(Rule::S8OneOpen) {
                return Err(NotChanged::Open { open: value.version });
            }
        }
        if new.epoch != recorded.epoch {
            let (proposed, recorded) = (new.epoch, recorded.epoch);
            return Err(Conflict::StaleEpoch { proposed, recorded }.into());
        }
        let register = Register::from_parts(Some(recorded.clone()), heard.clone());
        let value = register.decide(seen, new, by, self.rules)?;
        let recorded = Some(recorded.clone());
        self.saw(value.version);
        self.go(Stage::Voting { value, held: BTreeSet::new(), recorded }, out);
        Ok(())
    }

    /// Asks those again who have not answered, with the same op.
    pub fn again(&self, out: &mut Vec<Act>) {
        let Some(question) = self.stage.question() else { return };
        for seat in self.seats().filter(|seat| !self.stage.has(*seat)) {
            out.push(Act::Ask(self.ask(seat, self.op, question.clone())));
        }
    }

    /// Asks whether a voter knows a higher number than that of the recorded epoch.
    pub fn watch(&mut self, out: &mut Vec<Act>) {
        if self.recorded().is_some() {
            // What is open goes on under its own op.
            let op = self.draw_op();
            self.watch = Some(op);
            out.extend(self.seats().map(|seat| Act::Ask(self.ask(seat, op, Question::Read))));
        }
    }

    /// Nobody more is expected to answer: a look tells what it has, what is forced goes on with whoever answered.
    pub fn hurry(&mut self, out: &mut Vec<Act>) {
        self.settle(true, out);
    }

    /// A voter's answer.
    pub fn hear(&mut self, say: Say, out: &mut Vec<Act>) {
        let Say { cluster, seat, op, reply } = say;
        if cluster != self.whose.cluster || seat.0 >= self.whose.voters {
            return;
        }
        if let Reply::Denied { text } = reply {
            out.push(Act::Denied { seat, text });
            return;
        }
        if Some(op) == self.watch {
            self.watched(&reply, out);
            return;
        }
        if op != self.op {
            return;
        }
        self.count(seat, reply, out);
        self.settle(false, out);
    }

    fn count(&mut self, seat: Seat, reply: Reply, out: &mut Vec<Act>) {
        match (&mut self.stage, reply) {
            (Stage::Reading { held, .. }, Reply::Holds { promised, newest }) => {
                self.number = self.number.max(promised.number);
                self.version = self.version.max(newest.version);
                held.insert(seat, newest);
            }
            (Stage::Promising { epoch: mine, held, .. }, Reply::Promised { epoch, newest })
                if *mine == epoch =>
            {
                self.version = self.version.max(newest.version);
                held.insert(seat, newest);
            }
            (Stage::Voting { value, held, .. }, Reply::Accepted { epoch, version })
                if value.epoch == epoch && value.version == version =>
            {
                held.insert(seat);
            }
            (
                Stage::Promising { .. } | Stage::Voting { .. },
                Reply::Refused { promised, newest, .. },
            ) => self.overtaken(promised, newest, out),
            _ => {}
        }
    }

    /// Goes on when enough have answered; `hurry`: when nobody more will.
    fn settle(&mut self, hurry: bool, out: &mut Vec<Act>) {
        let (answered, majority) = (self.stage.answered(), self.majority());
        let all = answered == usize::from(self.whose.voters);
        let enough = answered >= majority;
        match &self.stage {
            Stage::Idle => {}
            Stage::Reading { purpose: Purpose::Look, .. } => {
                self.found(all || (hurry && enough), out)
            }
            Stage::Reading { purpose, held } => {
                let (purpose, newest) = (*purpose, newest(held));
                // Who is forced hears everybody first.
                let short = purpose.is_forced() && hurry && answered > 0;
                if all || (enough && !purpose.is_forced()) || short {
                    self.promise(purpose, newest, !enough, out);
                }
            }
            Stage::Promising { purpose, epoch, short, held } => {
                let (purpose, epoch, newest) = (*purpose, *epoch, newest(held));
                let goes_short = purpose.is_forced() && hurry && answered > 0;
                if enough || (goes_short && *short) {
                    self.propose(purpose, epoch, newest, answered, out);
                } else if goes_short {
                    // A majority was there a moment ago; the number has to lie above what is not heard now.
                    self.begin(purpose, out);
                }
            }
            Stage::Voting { .. } => self.voted(out),
        }
    }

    fn found(&mut self, everybody: bool, out: &mut Vec<Act>) {
        let Stage::Reading { held, .. } = &self.stage else { return };
        let Some(newest) = newest(held) else { return };
        let majority = self.majority();
        let recorded = held.values().filter(|config| **config == newest).count() >= majority;
        // An older one that a majority holds was recorded too, while nothing newer is.
        let older = held
            .values()
            .find(|one| held.values().filter(|config| config == one).count() >= majority)
            .cloned();
        if recorded || everybody {
            self.stage = Stage::Idle;
            let found = match older {
                Some(config) => Found { config, recorded: true },
                None => Found { config: newest, recorded: false },
            };
            out.push(Act::Found(found));
        }
    }

    /// S8: asks for promises, if what is held allows the candidate at all.
    fn promise(
        &mut self,
        purpose: Purpose,
        newest: Option<Config>,
        short: bool,
        out: &mut Vec<Act>,
    ) {
        let Some(newest) = newest else { return };
        if let Some(why) = self.refuses(purpose, &newest) {
            self.stage = Stage::Idle;
            out.push(Act::Refused(why));
            return;
        }
        let step = if short { FORCED_STEP } else { 1 };
        let (nonce, at_least) = match purpose {
            Purpose::Look => return,
            Purpose::Start { nonce, number, .. } => (nonce, number),
            Purpose::Activate { nonce, .. } | Purpose::Replace { nonce, .. } => (nonce, 0),
        };
        let epoch = Epoch { number: self.number.saturating_add(step).max(at_least), nonce };
        self.number = epoch.number;
        self.go(Stage::Promising { purpose, epoch, short, held: BTreeMap::new() }, out);
    }

    /// S8: what was found is accepted again, with the candidate as primary, before anybody acts on it.
    fn propose(
        &mut self,
        purpose: Purpose,
        epoch: Epoch,
        newest: Option<Config>,
        answered: usize,
        out: &mut Vec<Act>,
    ) {
        let Some(newest) = newest else { return };
        if let Some(why) = self.refuses(purpose, &newest) {
            self.stage = Stage::Idle;
            out.push(Act::Refused(why));
            return;
        }
        let me = self.whose.me;
        let outcome = Outcome {
            answered,
            voters: usize::from(self.whose.voters),
            // What begins anew has no earlier catalog to hold.
            was_in_sync: newest.in_sync(me) || matches!(purpose, Purpose::Replace { .. }),
        };
        let short = answered < self.majority();
        let step = if short { FORCED_STEP } else { 1 };
        self.saw(newest.version);
        self.version = Version(self.version.0.saturating_add(step));
        let mut value = Config { version: self.version, epoch, primary: me, ..newest };
        if let (Purpose::Replace { .. }, Some(copy)) = (purpose, &self.anew) {
            value.copies = vec![copy.clone()];
            value.loss = None;
        } else if outcome.is_forced() {
            // Recorded with the reign itself: whoever comes next hears of it, however early this one dies.
            let end = Lsn(u64::MAX);
            value.loss = Some(Loss { instance: me, epoch: epoch.number, end });
        }
        // Who reigns is in sync; it was not only if it was forced.
        for copy in value.copies.iter_mut().filter(|copy| copy.instance == me) {
            copy.in_sync = true;
        }
        self.outcome = Some(outcome);
        self.forced = short.then_some(answered);
        if !self.rules.hold(Rule::S8Again) {
            let recorded = Some(value.clone());
            self.op = self.draw_op();
            self.stage = Stage::Voting { value: value.clone(), held: BTreeSet::new(), recorded };
            out.push(Act::Recorded(value));
            return;
        }
        self.go(Stage::Voting { value, held: BTreeSet::new(), recorded: None }, out);
    }

    fn voted(&mut self, out: &mut Vec<Act>) {
        let majority = self.majority();
        let Stage::Voting { value, held, recorded } = &mut self.stage else { return };
        if held.len() >= self.forced.unwrap_or(majority) && recorded.as_ref() != Some(value) {
            *recorded = Some(value.clone());
            out.push(Act::Recorded(value.clone()));
        }
        if held.len() >= majority && self.forced.take().is_some() {
            out.push(Act::Healed);
        }
    }

    fn watched(&mut self, reply: &Reply, out: &mut Vec<Act>) {
        let (Reply::Holds { promised, newest }, Some(mine)) = (reply, self.recorded()) else {
            return;
        };
        let foreign = promised.number == mine.epoch.number && *promised != mine.epoch;
        if promised.number > mine.epoch.number || foreign {
            let (promised, newest) = (*promised, newest.clone());
            self.overtaken(promised, newest, out);
        }
    }

    fn overtaken(&mut self, by: Epoch, newest: Config, out: &mut Vec<Act>) {
        self.number = self.number.max(by.number);
        self.saw(newest.version);
        self.stop();
        out.push(Act::Overtaken { by, newest });
    }

    /// Why the newest value does not allow it.
    fn refuses(&self, purpose: Purpose, newest: &Config) -> Option<Why> {
        let me = self.whose.me;
        match purpose {
            Purpose::Look => None,
            Purpose::Replace { above, .. } if name_of(newest) > above => {
                Some(Why::Moved(newest.clone()))
            }
            Purpose::Replace { .. } => None,
            Purpose::Start { .. } if !self.rules.hold(Rule::S8Start) => None,
            _ if newest.copy(me).is_none() => Some(Why::Stranger(newest.clone())),
            Purpose::Start { .. } if newest.primary != me => Some(Why::Deposed(newest.clone())),
            Purpose::Activate { force: false, .. } if !newest.in_sync(me) => {
                Some(Why::Behind(newest.clone()))
            }
            _ => None,
        }
    }

    fn begin(&mut self, purpose: Purpose, out: &mut Vec<Act>) {
        self.stop();
        self.go(Stage::Reading { purpose, held: BTreeMap::new() }, out);
    }

    fn go(&mut self, stage: Stage, out: &mut Vec<Act>) {
        self.stage = stage;
        self.op = self.draw_op();
        self.again(out);
    }

    const fn draw_op(&mut self) -> u64 {
        self.last_op = self.last_op.wrapping_add(1);
        self.last_op
    }

    const fn ask(&self, seat: Seat, op: u64, question: Question) -> Ask {
        let Whose { cluster, me, list, .. } = self.whose;
        Ask { cluster, list, seat, from: me, op, question }
    }

    fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        (0..self.whose.voters).map(Seat)
    }

    /// How many voters must say the same.
    fn majority(&self) -> usize {
        let voters = usize::from(self.whose.voters);
        if self.rules.hold(Rule::S8Majority) { voters / 2 + 1 } else { (voters / 2).max(1) }
    }

    /// What was recorded last in the epoch that goes on.
    #[must_use]
    pub const fn recorded(&self) -> Option<&Config> {
        match &self.stage {
            Stage::Voting { recorded, .. } => recorded.as_ref(),
            _ => None,
        }
    }

    /// Whether an answer with this op still counts.
    #[must_use]
    pub fn awaits(&self, op: u64) -> bool {
        (op == self.op && !self.is_idle()) || self.watch == Some(op)
    }

    /// What the last start or activation came to.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether what is recorded is held by fewer voters than a majority, because it was forced.
    #[must_use]
    pub const fn is_forced(&self) -> bool {
        self.forced.is_some()
    }

    /// Whether nothing is asked.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Whether voters have yet to answer what is asked.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.is_idle() && self.stage.answered() < usize::from(self.whose.voters)
    }

    /// How many voters have answered what is asked.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.stage.answered()
    }

    /// The voters that have not answered what is asked.
    pub fn missing(&self) -> impl Iterator<Item = Seat> + '_ {
        self.seats().filter(|seat| !self.stage.has(*seat))
    }
}
