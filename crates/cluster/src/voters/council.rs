//! A ballot with its retries, between the voters, the process's own member and an operator.
//!
//! Guarantees: a member is told only what is recorded; a process starts as coordinator only if it is the
//! primary of the newest value, and becomes coordinator otherwise only because an operator said so; with no voter
//! at all nothing is forced. Time decides only when to ask again and when to give up.
//! Not here: connections, and what a member does with a configuration.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_net::config::{Config, Version};
use outrigger_replica::rules::Rules;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, Epoch, InstanceId, Micros};
use xxhash_rust::xxh3::xxh3_128;

use super::ballot::{Act, Ballot, Found, NotChanged, Whose, Why};
use super::event::{CouncilOptions, Event, In, Out};
use super::list::{Seat, VoterList};
use super::text;
use crate::register::{Proposer, Register, Report};

/// What the council is at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Want {
    Nothing,
    Look,
    Start(Epoch),
    Activate { op: u64, nonce: u128, force: bool, left: u32 },
}

/// The council of a coordinator's or standby's process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Council {
    whose: Whose,
    options: CouncilOptions,
    seed: u128,
    drawn: u64,
    ballot: Ballot,
    want: Want,
    /// What the member was told last.
    told: Option<Config>,
    heard: BTreeMap<InstanceId, Promise>,
    unreachable: BTreeSet<Seat>,
    now: Micros,
    asked_at: Micros,
    since: Micros,
    retry_at: Option<Micros>,
    watched_at: Micros,
}

impl Council {
    /// A council that asks nothing; `seed` is random.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        me: InstanceId,
        list: &VoterList,
        options: CouncilOptions,
        rules: Rules,
        seed: u128,
        now: Micros,
    ) -> Self {
        let voters = u8::try_from(list.len()).unwrap_or(u8::MAX);
        let whose = Whose { cluster, me, list: list.version, voters };
        let first_op = u64::try_from(seed >> 64).unwrap_or_default();
        Self {
            whose,
            options,
            seed,
            drawn: 0,
            ballot: Ballot::new(whose, first_op, rules),
            want: Want::Nothing,
            told: None,
            heard: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            now,
            asked_at: now,
            since: now,
            retry_at: None,
            watched_at: now,
        }
    }

    /// Takes one event.
    pub fn step(&mut self, now: Micros, event: In, out: &mut Vec<Out>) {
        self.now = self.now.max(now);
        let mut acts = Vec::new();
        match event {
            In::Read => self.read(&mut acts, out),
            In::Swap { seen, new, by } => self.swap(seen, &new, by, &mut acts, out),
            In::Report(report) => self.report(&report, out),
            In::Activate { op, force } => self.activate(op, force, &mut acts, out),
            In::Say(say) => {
                self.unreachable.remove(&say.seat);
                self.ballot.hear(say, &mut acts);
                self.hurry(&mut acts);
            }
            In::Unreachable(seat) => {
                self.unreachable.insert(seat);
                self.hurry(&mut acts);
            }
            In::Tick => self.tick(&mut acts, out),
        }
        while !acts.is_empty() {
            for act in std::mem::take(&mut acts) {
                self.act(act, &mut acts, out);
            }
        }
    }

    /// When it must be told the time.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let again = self
            .ballot
            .is_waiting()
            .then(|| self.after(self.asked_at, self.options.ask_again_millis));
        let patience = (self.want != Want::Nothing)
            .then(|| self.after(self.since, self.options.patience_millis));
        let watch =
            self.ballot.recorded().map(|_| self.after(self.watched_at, self.options.watch_millis));
        [again, patience, watch, self.retry_at].into_iter().flatten().min()
    }

    /// What is recorded and goes on, while this process is the coordinator.
    #[must_use]
    pub const fn recorded(&self) -> Option<&Config> {
        self.ballot.recorded()
    }

    /// Whether an answer with this op still counts.
    #[must_use]
    pub fn awaits(&self, op: u64) -> bool {
        self.ballot.awaits(op)
    }

    fn read(&mut self, acts: &mut Vec<Act>, out: &mut Vec<Out>) {
        match self.ballot.recorded().cloned() {
            Some(config) => self.tell(config, out),
            None if self.want == Want::Nothing => self.launch(Want::Look, acts),
            None => {}
        }
    }

    fn swap(
        &mut self,
        seen: Version,
        new: &Config,
        by: Proposer,
        acts: &mut Vec<Act>,
        out: &mut Vec<Out>,
    ) {
        self.ballot.saw(seen);
        let starts = by == Proposer::Instance(self.whose.me) && new.primary == self.whose.me;
        let Some(recorded) = self.ballot.recorded().cloned() else {
            // A change within an epoch that is over waits for the new one.
            let over = self.told.as_ref().is_some_and(|told| told.epoch == new.epoch);
            if starts && !over && matches!(self.want, Want::Nothing | Want::Look) {
                self.launch(Want::Start(new.epoch), acts);
            }
            return;
        };
        if new.epoch == recorded.epoch {
            match self.ballot.change(seen, new, by, &self.heard, acts) {
                Ok(()) => {}
                // It is told when that one is recorded, and the member asks again.
                Err(NotChanged::Open { .. }) => {}
                Err(why) => {
                    out.push(Out::Event(Event::Refused { text: why.to_string() }));
                    self.tell(recorded, out);
                }
            }
        } else if new.epoch.nonce == recorded.epoch.nonce || !starts || seen != recorded.version {
            self.tell(recorded, out);
        } else {
            self.launch(Want::Start(new.epoch), acts);
        }
    }

    fn report(&mut self, report: &Report, out: &mut Vec<Out>) {
        let Some(config) = self.ballot.recorded().cloned() else { return };
        let mut register = Register::from_parts(Some(config), std::mem::take(&mut self.heard));
        if let Err(refused) = register.report(report) {
            out.push(Out::Event(Event::Refused { text: refused.to_string() }));
        }
        self.heard.clone_from(register.all_heard());
    }

    fn activate(&mut self, op: u64, force: bool, acts: &mut Vec<Act>, out: &mut Vec<Out>) {
        let denied = |text: String| Out::Denied { op, text };
        if self.ballot.recorded().is_some() {
            out.push(denied("this process is the coordinator already".to_owned()));
        } else if matches!(self.want, Want::Activate { .. }) {
            out.push(denied("an activation is under way already".to_owned()));
        } else if self.whose.voters < 3 && !force {
            out.push(denied(text::few_voters(self.whose.voters)));
        } else {
            let nonce = self.draw();
            let left = self.options.tries;
            self.launch(Want::Activate { op, nonce, force, left }, acts);
        }
    }

    fn launch(&mut self, want: Want, acts: &mut Vec<Act>) {
        if self.want != want {
            self.since = self.now;
        }
        self.want = want;
        self.retry_at = None;
        self.unreachable.clear();
        match want {
            Want::Nothing => {}
            Want::Look => self.ballot.look(acts),
            Want::Start(epoch) => self.ballot.start(epoch, acts),
            Want::Activate { nonce, force, .. } => self.ballot.activate(nonce, force, acts),
        }
    }

    fn act(&mut self, act: Act, acts: &mut Vec<Act>, out: &mut Vec<Out>) {
        match act {
            Act::Ask(ask) => {
                self.asked_at = self.now;
                out.push(Out::Ask(ask));
            }
            Act::Recorded(config) => self.recorded_now(config, out),
            Act::Found(found) => self.found(found, acts, out),
            Act::Refused(why) => self.refused(&why, acts, out),
            Act::Overtaken { by, .. } => self.overtaken(by, out),
            Act::Denied { seat, text } => out.push(Out::Event(Event::Alarm { seat, text })),
            Act::Healed => {
                out.push(Out::Event(Event::Healed));
                if let Some(config) = self.ballot.recorded().cloned() {
                    self.tell(config, out);
                }
            }
        }
    }

    fn recorded_now(&mut self, config: Config, out: &mut Vec<Out>) {
        for copy in &config.copies {
            let heard = self.heard.entry(copy.instance).or_default();
            *heard = copy.durable.max(*heard);
        }
        let outcome = self.ballot.outcome();
        if let (Want::Activate { op, .. }, Some(outcome)) = (self.want, outcome) {
            let text = text::activated(&config, outcome);
            out.push(Out::Activated { op, config: config.clone(), outcome, text });
        }
        self.want = Want::Nothing;
        self.retry_at = None;
        self.watched_at = self.now;
        let (version, epoch) = (config.version, config.epoch);
        out.push(Out::Event(Event::Recorded { version, epoch }));
        self.tell(config, out);
    }

    fn found(&mut self, found: Found, acts: &mut Vec<Act>, out: &mut Vec<Out>) {
        if self.want != Want::Look {
            return;
        }
        self.want = Want::Nothing;
        let Found { config, recorded } = found;
        let me = self.whose.me;
        if config.copy(me).is_none() {
            out.push(Out::Event(Event::NotACopy { text: text::not_a_copy(me, &config) }));
        }
        if recorded {
            self.tell(config, out);
        } else if config.primary == me {
            // Nobody may act on it before a majority has accepted it again: so this start does that.
            let epoch = Epoch { number: 0, nonce: self.draw() };
            self.launch(Want::Start(epoch), acts);
        } else {
            out.push(Out::Event(Event::Unsettled));
        }
    }

    fn refused(&mut self, why: &Why, acts: &mut Vec<Act>, out: &mut Vec<Out>) {
        let text = text::refused(self.whose.me, why);
        if let Want::Activate { op, .. } = self.want {
            self.want = Want::Nothing;
            out.push(Out::Denied { op, text });
            return;
        }
        out.push(Out::Event(match why {
            Why::Stranger(_) | Why::Moved(_) => Event::NotACopy { text },
            Why::Deposed(newest) | Why::Behind(newest) => {
                Event::Deposed { primary: newest.primary, text }
            }
        }));
        // The member is told what is recorded, and follows.
        self.launch(Want::Look, acts);
    }

    /// S8: whoever meets a higher or foreign number takes a new epoch, if it still is the primary.
    fn overtaken(&mut self, by: Epoch, out: &mut Vec<Out>) {
        out.push(Out::Event(Event::Overtaken { by }));
        match self.want {
            Want::Activate { op, left: 0 | 1, .. } => {
                self.want = Want::Nothing;
                out.push(Out::Denied { op, text: text::duel(by) });
                return;
            }
            Want::Activate { op, force, left, .. } => {
                let nonce = self.draw();
                self.want = Want::Activate { op, nonce, force, left: left - 1 };
            }
            Want::Start(_) => {}
            Want::Nothing | Want::Look => {
                let nonce = self.draw();
                self.want = Want::Start(Epoch { number: 0, nonce });
                self.since = self.now;
            }
        }
        let back_off = self.options.back_off_millis.saturating_mul(1000);
        let jitter = u64::try_from(self.draw() >> 64).unwrap_or_default() % back_off.max(1);
        self.retry_at = Some(self.now.plus(back_off.saturating_add(jitter)));
    }

    fn tick(&mut self, acts: &mut Vec<Act>, out: &mut Vec<Out>) {
        if self.retry_at.is_some_and(|at| at <= self.now) {
            self.launch(self.want, acts);
        }
        if self.ballot.is_waiting() && self.is_over(self.asked_at, self.options.ask_again_millis) {
            self.asked_at = self.now;
            self.ballot.again(acts);
        }
        if self.ballot.recorded().is_some()
            && self.is_over(self.watched_at, self.options.watch_millis)
        {
            self.watched_at = self.now;
            self.ballot.watch(acts);
        }
        if self.want != Want::Nothing && self.is_over(self.since, self.options.patience_millis) {
            self.out_of_patience(acts, out);
        }
    }

    fn out_of_patience(&mut self, acts: &mut Vec<Act>, out: &mut Vec<Out>) {
        self.since = self.now;
        let before = acts.len();
        self.ballot.hurry(acts);
        if acts.len() > before {
            return;
        }
        let missing: Vec<Seat> = self.ballot.missing().collect();
        let (answered, voters) = (self.ballot.answered(), usize::from(self.whose.voters));
        if let Want::Activate { op, force, .. } = self.want {
            self.want = Want::Nothing;
            self.retry_at = None;
            self.ballot.stop();
            let text = text::no_majority(answered, voters, &missing, force);
            out.push(Out::Denied { op, text });
        } else {
            out.push(Out::Event(Event::NoMajority { answered, voters, missing }));
        }
    }

    /// When every voter has answered or cannot be reached, nobody more is waited for.
    fn hurry(&mut self, acts: &mut Vec<Act>) {
        let mut missing = self.ballot.missing();
        if missing.all(|seat| self.unreachable.contains(&seat)) {
            drop(missing);
            self.ballot.hurry(acts);
        }
    }

    fn tell(&mut self, config: Config, out: &mut Vec<Out>) {
        self.told = Some(config.clone());
        out.push(Out::Recorded { config });
    }

    fn is_over(&self, since: Micros, millis: u64) -> bool {
        self.after(since, millis) <= self.now
    }

    const fn after(&self, since: Micros, millis: u64) -> Micros {
        since.plus(millis.saturating_mul(1000))
    }

    fn draw(&mut self) -> u128 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut input = self.seed.to_le_bytes().to_vec();
        input.extend_from_slice(&self.drawn.to_le_bytes());
        xxh3_128(&input)
    }
}
