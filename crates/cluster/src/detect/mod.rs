//! What is known of each instance: from heartbeats, connections and agents to a [`Standing`].
//!
//! Events go in, actions come out; there is no clock, socket, thread or random source in here. Each
//! instance is a pair of its own with the coordinator: a slow one delays nobody.
//!
//! Guarantees: time is used to suspect, never to prove: what follows from a standing is decided
//! elsewhere and fenced by epochs. A process that ended is found by the first refusal behind a lost
//! connection, or by `fts_probe_retries` more of them, asked for at once; silence counts after
//! `fts_probe_timeout_millis` of the coordinator's own waking time: one that was suspended, or starved,
//! condemns nobody for it. A beat counts once, for a question that was asked, from the process that
//! lives. Not here: what is done about it ([`crate::failover`]), sockets.
//!
//! # Layout
//! - `event`: what goes in and comes out
//! - `options`: the settings
//! - `pair`: one instance
//! - `standing`: what is thought of it

mod event;
mod options;
mod pair;
mod standing;

use std::collections::BTreeMap;

use outrigger_net::beat::Beat;
use outrigger_net::config::Config;
use outrigger_wal::{ClusterId, ContentId, InstanceId, Micros};

pub use event::{Counters, In, Known, Out};
pub use options::DetectOptions;
pub use standing::{Standing, Why};

use crate::failover::CopySight;
use pair::{Heard, Pair};

/// Watches all instances of a cluster for one coordinator. See the module's documentation.
#[derive(Debug)]
pub struct Detector {
    cluster: ClusterId,
    options: DetectOptions,
    pairs: BTreeMap<InstanceId, Pair>,
    now: Micros,
    /// When the last step asked to be woken.
    due: Option<Micros>,
    /// What it slept through, in microseconds.
    slept: u64,
    counter: u64,
    counters: Counters,
}

impl Detector {
    /// A detector that watches nobody yet.
    #[must_use]
    pub const fn new(cluster: ClusterId, options: DetectOptions, now: Micros) -> Self {
        Self {
            cluster,
            options,
            pairs: BTreeMap::new(),
            now,
            due: None,
            slept: 0,
            counter: 0,
            counters: Counters {
                pings: 0,
                beats: 0,
                late: 0,
                strangers: 0,
                refusals: 0,
                restarts: 0,
                stood_still: 0,
            },
        }
    }

    /// Takes one event, and asks for whatever follows from it.
    pub fn step(&mut self, now: Micros, event: In, out: &mut Vec<Out>) {
        self.now = self.now.max(now);
        self.note_lateness();
        match event {
            In::Watch { instance, content } => self.watch(instance, content),
            In::Forget { instance } => {
                self.pairs.remove(&instance);
            }
            In::Beat { from, beat } => self.beat(from, &beat, out),
            In::Refused { instance } => self.refused(instance, out),
            In::LineOpened { instance } => {
                self.on(instance, |pair, _| pair.line_opened());
            }
            In::LineClosed { instance } => {
                self.on(instance, Pair::line_closed);
                self.ask(instance, out);
            }
            In::Exited { instance, incarnation } => {
                self.on(instance, |pair, now| pair.exit(incarnation, now));
            }
            In::AgentLost { instance } => {
                self.on(instance, |pair, _| pair.agent_here = Some(false));
                self.ask(instance, out);
            }
            In::AgentBack { instance } => {
                self.on(instance, |pair, _| pair.agent_here = Some(true));
            }
            In::Tick => {}
        }
        self.run_due(out);
        self.due = self.deadline();
    }

    /// When [`Detector::step`] has something to do by itself (with [`In::Tick`]).
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let now = self.awake();
        let dues = self.pairs.values().map(|pair| {
            let ping = pair.next_ping(&self.options);
            pair.next_change(now, &self.options).map_or(ping, |change| change.min(ping))
        });
        dues.min().map(|due| due.plus(self.slept))
    }

    /// All that is known of an instance that is watched.
    #[must_use]
    pub fn known(&self, instance: InstanceId) -> Option<Known> {
        let pair = self.pairs.get(&instance)?;
        let heard = pair.heard.map(|heard| heard.plus(self.slept));
        let stream_age = pair.beat.and_then(|beat| beat.stream_age_micros);
        Some(Known {
            content: pair.content,
            standing: pair.standing.later(self.slept),
            stands_since: pair.stands_since.plus(self.slept),
            heard,
            primary_heard: heard
                .zip(stream_age)
                .map(|(heard, age)| Micros(heard.0.saturating_sub(age))),
            beat: pair.beat,
            recovered_to: pair.recovered_to(),
            agent_here: pair.agent_here,
        })
    }

    /// What is known of the copies of a content, for [`crate::failover::decide`]. What beats do not tell is left
    /// for the caller: [`CopySight::attempts`], [`CopySight::below_floor`], [`CopySight::idle_micros`].
    #[must_use]
    pub fn sights(&self, config: &Config) -> Vec<CopySight> {
        let known = |copy: &outrigger_net::config::Copy| {
            self.known(copy.instance).map(|known| CopySight::of(copy.instance, &known))
        };
        config.copies.iter().filter_map(known).collect()
    }

    /// For how long, in microseconds, an instance has answered, open, that it does not reign, and got no further, as is right
    /// for a mirror while nothing is written; not before `from`, a moment of [`Detector::awake`].
    #[must_use]
    pub fn idle_micros(&self, instance: InstanceId, from: Micros) -> u64 {
        let idle = self.pairs.get(&instance).and_then(Pair::idle);
        idle.map_or(0, |(since, until)| until.since(since.max(from)))
    }

    /// What it has done.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The settings.
    #[must_use]
    pub const fn options(&self) -> &DetectOptions {
        &self.options
    }

    /// Watches by these settings from now on.
    pub const fn set_options(&mut self, options: DetectOptions) {
        self.options = options;
    }

    /// The coordinator's waking time: what it slept through is taken out.
    #[must_use]
    pub const fn awake(&self) -> Micros {
        Micros(self.now.0.saturating_sub(self.slept))
    }

    /// Whoever is woken more than an interval too late has stood still himself, and heard nobody.
    fn note_lateness(&mut self) {
        let late = self.due.map_or(0, |due| self.now.since(due));
        if late > self.options.interval() {
            self.slept = self.slept.saturating_add(late);
            self.counters.stood_still = self.counters.stood_still.saturating_add(1);
        }
    }

    fn watch(&mut self, instance: InstanceId, content: ContentId) {
        let now = self.awake();
        let known = self.pairs.get(&instance).map(|pair| pair.content);
        if known != Some(content) {
            self.pairs.insert(instance, Pair::new(content, self.counter, now));
        }
    }

    fn on(&mut self, instance: InstanceId, act: impl FnOnce(&mut Pair, Micros)) {
        let now = self.awake();
        if let Some(pair) = self.pairs.get_mut(&instance) {
            act(pair, now);
        }
    }

    fn beat(&mut self, from: InstanceId, beat: &Beat, out: &mut Vec<Out>) {
        let now = self.awake();
        let Some(pair) = self.pairs.get_mut(&from) else { return };
        let named = (beat.cluster, beat.content, beat.instance);
        let heard = if named == (self.cluster, pair.content, from) {
            pair.beat(beat, now, &self.options)
        } else {
            Heard::Stranger
        };
        let counters = &mut self.counters;
        match heard {
            Heard::Counted => counters.beats = counters.beats.saturating_add(1),
            Heard::Restarted => {
                counters.beats = counters.beats.saturating_add(1);
                counters.restarts = counters.restarts.saturating_add(1);
            }
            Heard::Late => counters.late = counters.late.saturating_add(1),
            Heard::Stranger => {
                counters.strangers = counters.strangers.saturating_add(1);
                if !pair.alarmed {
                    pair.alarmed = true;
                    out.push(Out::Stranger { instance: from, found: *beat });
                }
            }
        }
    }

    fn refused(&mut self, instance: InstanceId, out: &mut Vec<Out>) {
        let now = self.awake();
        self.counters.refusals = self.counters.refusals.saturating_add(1);
        let Some(pair) = self.pairs.get_mut(&instance) else { return };
        if pair.refuse(now, &self.options) {
            self.ask(instance, out);
        }
    }

    fn ask(&mut self, instance: InstanceId, out: &mut Vec<Out>) {
        let now = self.awake();
        let Some(pair) = self.pairs.get_mut(&instance) else { return };
        self.counter = self.counter.saturating_add(1);
        self.counters.pings = self.counters.pings.saturating_add(1);
        pair.ping(self.counter, now, &self.options);
        out.push(Out::Ping { instance, content: pair.content, counter: self.counter });
    }

    /// Asks whose turn it is, and tells who stands in another way than before.
    fn run_due(&mut self, out: &mut Vec<Out>) {
        let (now, options) = (self.awake(), self.options);
        let due = self.pairs.iter().filter(|(_, pair)| pair.next_ping(&options) <= now);
        let due: Vec<InstanceId> = due.map(|(instance, _)| *instance).collect();
        for instance in due {
            self.ask(instance, out);
        }
        let slept = self.slept;
        for (instance, pair) in &mut self.pairs {
            let standing = pair.judge(now, &options);
            if !standing.is_like(&pair.standing) {
                pair.stands_since = now;
                let (content, told) = (pair.content, standing.later(slept));
                out.push(Out::StandingChanged { instance: *instance, content, standing: told });
            }
            pair.standing = standing;
        }
    }
}
