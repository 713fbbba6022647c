//! Instances as a detector sees them: how each answers is set by the test, time is a number.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};

use outrigger_cluster::detect::{DetectOptions, Detector, In, Known, Out, Standing};
use outrigger_net::beat::{Beat, Figures, Phase};
use outrigger_wal::{ClusterId, ContentId, InstanceId, Lsn, Micros};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xC1);
/// From a question to its answer, in microseconds.
const ROUND_TRIP: u64 = 300;

/// How an instance answers.
#[expect(clippy::large_enum_variant, reason = "most instances answer")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answers {
    /// With this.
    With(Beat),
    /// Its host says that nobody is there.
    Refuses,
    /// Not at all.
    Silent,
}

pub(crate) struct World {
    pub(crate) detector: Detector,
    pub(crate) now: u64,
    pub(crate) answers: BTreeMap<InstanceId, Answers>,
    /// (when, order) to what is on its way.
    coming: BTreeMap<(u64, u64), In>,
    order: u64,
    /// All that was told, with its moment.
    pub(crate) told: Vec<(u64, InstanceId, Standing)>,
    pub(crate) strangers: Vec<InstanceId>,
    pub(crate) asked: BTreeMap<InstanceId, Vec<u64>>,
    /// Whose answers take this much longer.
    pub(crate) slow: BTreeMap<InstanceId, u64>,
}

/// A beat of an open mirror.
pub(crate) fn beat(instance: InstanceId, incarnation: u64) -> Beat {
    Beat {
        cluster: CLUSTER,
        content: content_of(instance),
        instance,
        counter: 0,
        incarnation,
        phase: Phase::Mirror,
        figures: Some(Figures::default()),
        oldest_write_micros: None,
        stream_age_micros: None,
        probe_age_micros: Some(1_000),
        recovering_at: None,
        flapping: None,
        turns: 0,
    }
}

pub(crate) fn recovering(instance: InstanceId, incarnation: u64, at: Option<u64>) -> Beat {
    Beat {
        phase: Phase::Recovering,
        figures: None,
        recovering_at: at.map(Lsn),
        ..beat(instance, incarnation)
    }
}

/// Instances are numbered by content in these tests: two a content.
pub(crate) fn content_of(instance: InstanceId) -> ContentId {
    ContentId(i32::try_from(instance.0 / 2).unwrap_or(-2))
}

impl World {
    /// Watches instances 0 to `count` - 1, all up. It is half of an interval to the next question.
    pub(crate) fn of(count: u128) -> Self {
        Self::with(count, DetectOptions::default())
    }

    pub(crate) fn with(count: u128, options: DetectOptions) -> Self {
        let mut world = Self {
            detector: Detector::new(CLUSTER, options, Micros(0)),
            now: 0,
            answers: BTreeMap::new(),
            coming: BTreeMap::new(),
            order: 0,
            told: Vec::new(),
            strangers: Vec::new(),
            asked: BTreeMap::new(),
            slow: BTreeMap::new(),
        };
        for instance in (0..count).map(InstanceId) {
            world.answers.insert(instance, Answers::With(beat(instance, 1)));
            world.watch(instance);
        }
        world.run(1_050);
        for instance in (0..count).map(InstanceId) {
            assert_eq!(world.standing(instance), Standing::Up);
        }
        world.told.clear();
        world
    }

    pub(crate) fn watch(&mut self, instance: InstanceId) {
        self.tell(In::Watch { instance, content: content_of(instance) });
    }

    pub(crate) fn set(&mut self, instance: u128, answers: Answers) {
        self.answers.insert(InstanceId(instance), answers);
    }

    pub(crate) fn up(&mut self, instance: u128, incarnation: u64) {
        self.set(instance, Answers::With(beat(InstanceId(instance), incarnation)));
    }

    /// One event now, and what follows from it.
    pub(crate) fn tell(&mut self, event: In) {
        let mut out = Vec::new();
        self.detector.step(Micros(self.now), event, &mut out);
        for out in out {
            match out {
                Out::Ping { instance, content, counter } => {
                    assert_eq!(content, content_of(instance));
                    self.asked.entry(instance).or_default().push(counter);
                    self.answer(instance, counter);
                }
                Out::StandingChanged { instance, standing, .. } => {
                    self.told.push((self.now, instance, standing));
                }
                Out::Stranger { instance, .. } => self.strangers.push(instance),
            }
        }
        let due = self.detector.deadline();
        assert!(due.is_none_or(|due| due > Micros(self.now)), "it would spin: {due:?}");
    }

    fn answer(&mut self, instance: InstanceId, counter: u64) {
        let event = match self.answers.get(&instance) {
            Some(Answers::With(beat)) => {
                In::Beat { from: instance, beat: Beat { counter, ..*beat } }
            }
            Some(Answers::Refuses) => In::Refused { instance },
            Some(Answers::Silent) | None => return,
        };
        let slow = self.slow.get(&instance).copied().unwrap_or_default();
        self.order += 1;
        self.coming.insert((self.now + ROUND_TRIP + slow, self.order), event);
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn run(&mut self, millis: u64) {
        let until = self.now + millis * 1_000;
        loop {
            let due = self.detector.deadline().map_or(u64::MAX, |due| due.0);
            let coming = self.coming.keys().next().copied();
            match coming {
                Some(key) if key.0 <= due && key.0 <= until => {
                    self.now = self.now.max(key.0);
                    if let Some(event) = self.coming.remove(&key) {
                        self.tell(event);
                    }
                }
                _ if due <= until => {
                    self.now = self.now.max(due);
                    self.tell(In::Tick);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// The coordinator's process does not run for so long; what comes meanwhile waits for it.
    pub(crate) fn sleep_through(&mut self, millis: u64) {
        self.now += millis * 1_000;
    }

    pub(crate) fn known(&self, instance: InstanceId) -> Option<Known> {
        self.detector.known(instance)
    }

    /// How it was told to stand last, or stands.
    pub(crate) fn standing(&self, instance: InstanceId) -> Standing {
        let known = self.known(instance);
        known.map_or(Standing::Suspect { since: Micros(0) }, |known| known.standing)
    }

    /// Who was told to be dead.
    pub(crate) fn dead(&self) -> BTreeSet<InstanceId> {
        let dead = self.told.iter().filter(|(_, _, standing)| standing.is_dead());
        dead.map(|(_, instance, _)| *instance).collect()
    }
}
