//! Instances that fail: watched, judged, and failed over.
//!
//! Guarantees: what is done follows from [`crate::failover::decide`] alone, is judged again by the register when it is
//! applied (S3, S9), and fenced by epochs; a decision that cannot be recorded now is taken again later. A
//! content without rows (its instances have no agents) is watched by its connections, and failed over by an
//! administrator only. Not here: who is thought dead ([`crate::detect`]).

use std::collections::{BTreeMap, BTreeSet};

use outrigger_net::beat::Flapping;
use outrigger_net::config::{Config, Version};
use outrigger_net::message::{Message, Role};
use outrigger_replica::rules::Rule;
use outrigger_replica::store::StateStore;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, Epoch, InstanceId, Lsn, Micros};

use super::event::{Event, Out};
use super::{Coordinator, Pending};
use crate::catalog::tables::{Dbid, Up};
use crate::catalog::{Change, Refused, State};
use crate::detect;
use crate::failover::{Decision, Fault, HandOverAnswer, Mirrors, Proof, Sight, UnderWay, decide};
use crate::register::{Conflict, Proposer};
use crate::settings;

/// The setting that remembers the last reign that a standby began by force, or that began with a rebuilt catalog.
pub(crate) const UNPROVED: &str = "unproved";
/// The setting that remembers the last of these reigns whose catalog is proved.
pub(crate) const PROVED: &str = "proved";
/// The beginning of the name of a setting: that a loss was accepted for this content since, while that one had this value.
pub(crate) const SETTLED: &str = "unproved.settled.";
/// A hand-over that is not answered is forgotten after so many times its own limit.
const HAND_OVER_PATIENCE: u64 = 3;
/// What the catalog did not take is tried again after so long.
const AGAIN_MICROS: u64 = 200_000;

/// What was begun, and what is to be judged.
#[derive(Debug)]
pub(super) struct Failing {
    /// What was begun for a content, and in which epoch: past that it is over.
    under_way: BTreeMap<ContentId, (Epoch, UnderWay)>,
    /// Until when nothing is tried.
    refrain: BTreeMap<ContentId, Micros>,
    /// The floor of each copy, and since when it is known here.
    floors: BTreeMap<(ContentId, InstanceId), (Promise, Micros)>,
    /// The reign of each content, and since when it is known here, in the detector's waking time.
    reigns: BTreeMap<ContentId, (Epoch, Micros)>,
    /// What was heard of in this step.
    due: BTreeSet<ContentId>,
    /// The catalog, and its own configuration, that were looked at last.
    source: Option<(Lsn, Option<Version>)>,
    mirrors: Mirrors,
    /// At which versions a mirror that flaps was to be held out.
    holding: BTreeSet<(ContentId, Version)>,
    /// From when on something about the proof may be recorded; `None`: something is on its way.
    prove_at: Option<Micros>,
}

impl Default for Failing {
    fn default() -> Self {
        Self {
            under_way: BTreeMap::new(),
            refrain: BTreeMap::new(),
            floors: BTreeMap::new(),
            reigns: BTreeMap::new(),
            due: BTreeSet::new(),
            source: None,
            mirrors: Mirrors::Absent,
            holding: BTreeSet::new(),
            prove_at: Some(Micros(0)),
        }
    }
}

impl Coordinator {
    /// Tells the detector something, and carries out what it asks for.
    pub(super) fn detect(&mut self, event: detect::In, out: &mut Vec<Out>) {
        let mut asked = Vec::new();
        self.detector.step(self.now, event, &mut asked);
        for action in asked {
            match action {
                detect::Out::Ping { instance, content, counter } => {
                    self.ping(instance, content, counter, out);
                }
                detect::Out::StandingChanged { instance, content, standing } => {
                    self.failing.due.insert(content);
                    out.push(Out::Event(Event::Standing { content, instance, standing }));
                }
                detect::Out::Stranger { instance, found } => {
                    let text = format!(
                        "instance {} of cluster {} answers where {instance} should: two processes \
                         with one identity or one address; stop one of them",
                        found.instance, found.cluster
                    );
                    out.push(Out::Event(Event::Alarm { text }));
                }
            }
        }
    }

    fn ping(&self, instance: InstanceId, content: ContentId, counter: u64, out: &mut Vec<Out>) {
        let address = self.config(content).and_then(|config| {
            config.copy(instance).and_then(|copy| copy.addresses.first().cloned())
        });
        let Some(address) = address else { return };
        let ping = outrigger_net::beat::Ping {
            cluster: self.identity.cluster,
            content,
            from: self.identity.instance,
            to: instance,
            counter,
            coordinator_epoch: self.serving().unwrap_or_default().number,
        };
        out.push(Out::Ping { address, ping });
    }

    /// Something was heard of an instance: its content is judged in this step.
    pub(super) fn hear(&mut self, instance: InstanceId) {
        if let Some(content) = self.watched.get(&instance) {
            self.failing.due.insert(*content);
        }
    }

    /// Watches whoever should run, and decides what is to be done.
    pub(super) fn settle_failing(&mut self, out: &mut Vec<Out>) {
        if self.serving.is_none() {
            return;
        }
        let source = (self.catalog.applied(), self.own.as_ref().map(|own| own.version));
        let changed = self.failing.source != Some(source);
        if changed {
            self.failing.source = Some(source);
            self.look_again(out);
        }
        self.detect(detect::In::Tick, out);
        self.prove(out);
        let mut due = std::mem::take(&mut self.failing.due);
        if changed {
            due.extend(
                self.catalog.read(|state| state.contents.keys().copied().collect::<Vec<_>>()),
            );
        }
        // What is not well may be due by the time alone.
        let unwell = self.decisions.iter().filter(|(_, decision)| {
            !matches!(decision, Decision::Nothing | Decision::MirrorDown { .. })
        });
        due.extend(unwell.map(|(content, _)| *content));
        due.extend(self.failing.under_way.keys());
        if !self.catalog.read(|state| state.up.is_running()) {
            self.decisions.clear();
            self.failing.under_way.clear();
            return;
        }
        for content in due {
            let decision = self.decide(content);
            self.counters.judged = self.counters.judged.saturating_add(1);
            self.carry_out(content, &decision, out);
            self.decisions.insert(content, decision);
        }
    }

    /// What follows from the catalog alone.
    fn look_again(&mut self, out: &mut Vec<Out>) {
        let (options, mirrored) = self.catalog.read(|state| {
            let mut configs = state.contents.values().filter_map(|row| row.register.config());
            (settings::detect_options(state), configs.any(|config| config.copies.len() > 1))
        });
        self.detector.set_options(options);
        self.failing.mirrors = if mirrored { Mirrors::Configured } else { Mirrors::Absent };
        self.watch(out);
    }

    fn watch(&mut self, out: &mut Vec<Out>) {
        let wanted: BTreeMap<InstanceId, ContentId> = self.catalog.read(|state| {
            let rows = state
                .instances
                .values()
                .filter(|row| state.up.is_running() && row.content.0 >= 0 && row.wanted.runs());
            let named = rows.filter(|row| {
                let config = self.config_in(state, row.content);
                config.is_some_and(|config| config.copy(row.instance).is_some())
            });
            named.map(|row| (row.instance, row.content)).collect()
        });
        if wanted == self.watched {
            return;
        }
        let gone: Vec<_> =
            self.watched.keys().filter(|at| !wanted.contains_key(*at)).copied().collect();
        for instance in gone {
            self.detect(detect::In::Forget { instance }, out);
        }
        for (instance, content) in &wanted {
            if self.watched.contains_key(instance) {
                continue;
            }
            let (instance, content) = (*instance, *content);
            self.detect(detect::In::Watch { instance, content }, out);
            if self.in_touch(content, instance) {
                self.detect(detect::In::LineOpened { instance }, out);
            }
        }
        self.watched = wanted;
    }

    /// The reign that was begun by force, by what the voters hold, and that the catalog does not remember yet. `None`: that
    /// is not known yet.
    fn forced(&self) -> Option<Option<u64>> {
        // Where nobody votes there is no standby either.
        if self.own.is_none() && self.voters.is_empty() {
            return Some(None);
        }
        let own = self.own.as_ref()?;
        if self.serving().is_some_and(|serving| own.epoch.number < serving.number) {
            return None;
        }
        let noted = self.catalog.read(|state| settings::value(state, UNPROVED));
        Some(own.loss.map(|loss| loss.epoch).filter(|forced| *forced > noted))
    }

    /// S8: after a forced activation a content is proved again when every copy of it has reported.
    fn prove(&mut self, out: &mut Vec<Out>) {
        let forced = self.forced();
        let mark = self.catalog.read(State::unproved);
        self.unproved = forced != Some(None) || mark.is_some();
        if !self.unproved || self.failing.prove_at.is_none_or(|at| self.now < at) {
            return;
        }
        let asked = if let Some(Some(value)) = forced {
            let text = "a standby was activated by force: no content fails over before every copy of it has reported";
            self.note(Dbid(0), text.to_owned(), out);
            let key = UNPROVED.to_owned();
            self.append(Change::Set { key, value }, Pending::Unproved, out)
        } else {
            let Some(value) = mark else { return };
            let key = PROVED.to_owned();
            let contents: Vec<ContentId> =
                self.catalog.read(|state| state.contents.keys().copied().collect());
            if !contents.iter().all(|content| self.has_reported(*content)) {
                return;
            }
            let text = "every copy of every content has reported: the catalog is proved";
            self.note(Dbid(0), text.to_owned(), out);
            self.append(Change::Set { key, value }, Pending::Proved, out)
        };
        self.failing.prove_at = if asked { None } else { Some(self.now.plus(AGAIN_MICROS)) };
    }

    /// What is known of the proof was recorded, or could not be.
    pub(super) fn proof_is_noted(&mut self, noted: bool) {
        let pause = if noted { 0 } else { AGAIN_MICROS };
        self.failing.prove_at = Some(self.now.plus(pause));
    }

    pub(super) fn is_proved(&self, content: ContentId) -> bool {
        !self.unproved || !self.catalog.rules().hold(Rule::S8Proof) || self.has_reported(content)
    }

    /// S8: whether a change has to wait until its content is proved: another value of its version may have been recorded,
    /// and a copy that has heard of that one could not be told from one that has not. An accepted loss settles that (S10).
    pub(super) fn must_be_proved(&self, change: &Change) -> bool {
        let Change::Swap { content, new, .. } = change else { return false };
        let loses = self.config(*content).is_some_and(|config| config.loss != new.loss);
        !loses && !self.is_proved(*content)
    }

    /// Whether every copy has reported, or an administrator has accepted since what the others may hold (S10).
    fn has_reported(&self, content: ContentId) -> bool {
        // A mark that is not recorded yet is another than the one that was settled.
        let settled =
            self.forced() == Some(None) && self.catalog.read(|state| state.is_settled(content));
        settled || self.have_all_reported(content)
    }

    /// The copies of a content that have not reported since its catalog lost something.
    pub(super) fn unreported(&self, content: ContentId) -> Vec<InstanceId> {
        let copies = self.config(content).map(|config| config.copies).unwrap_or_default();
        let copies = copies.into_iter().map(|copy| copy.instance);
        copies.filter(|at| !self.reported.contains(&(content, *at))).collect()
    }

    fn have_all_reported(&self, content: ContentId) -> bool {
        let Some(config) = self.config(content) else { return false };
        config.copies.iter().all(|copy| self.reported.contains(&(content, copy.instance)))
    }

    fn decide(&mut self, content: ContentId) -> Decision {
        // What was reported and is not recorded yet counts too (S6).
        let Some(register) = self.register(content) else { return Decision::Nothing };
        let Some(config) = register.config() else { return Decision::Nothing };
        let mut copies = self.detector.sights(config);
        let idle_micros = self.idle_micros(content, config);
        let flapping = self.flapping(config);
        for copy in &mut copies {
            if copy.instance == config.primary {
                copy.idle_micros = idle_micros;
            }
            if let Some(flapping) = flapping.filter(|it| it.copy == copy.instance) {
                copy.attempts = flapping.attempts;
            }
            let floor = register.heard(copy.instance);
            copy.below_floor = self.is_below((content, copy.instance), floor);
            copy.durable = copy.durable.or(Some(floor.lsn));
        }
        let sight = Sight {
            config,
            copies: &copies,
            under_way: self.under_way(content, config.epoch),
            mirrors: self.failing.mirrors,
            proof: if self.is_proved(content) { Proof::Whole } else { Proof::Missing },
            now: self.now,
        };
        decide(&sight, self.detector.options())
    }

    /// How long the recorded primary has answered without coming to reign: since it is recorded, so that what it did as a
    /// mirror does not count.
    fn idle_micros(&mut self, content: ContentId, config: &Config) -> u64 {
        let now = self.detector.awake();
        let known = self.failing.reigns.entry(content).or_insert((config.epoch, now));
        if known.0 != config.epoch {
            *known = (config.epoch, now);
        }
        self.detector.idle_micros(config.primary, known.1)
    }

    /// Whether an instance is the recorded primary, answers, and does not come to serve.
    pub(super) fn is_idle(&mut self, content: ContentId, instance: InstanceId) -> bool {
        let config = self.config(content).filter(|config| config.primary == instance);
        let limit = self.detector.options().serve_within();
        config.is_some_and(|config| self.idle_micros(content, &config) >= limit)
    }

    /// The mirror that its primary says to come and go, while the primary reigns as recorded.
    fn flapping(&self, config: &Config) -> Option<Flapping> {
        let beat = self.detector.known(config.primary)?.beat?;
        beat.flapping.filter(|_| beat.figures.is_some_and(|at| at.epoch == config.epoch))
    }

    /// S6: whether a copy says that its log ends below its floor. What it said before the floor was known says
    /// nothing about it.
    pub(super) fn is_below(&mut self, copy: (ContentId, InstanceId), floor: Promise) -> bool {
        let now = self.now;
        let known = self.failing.floors.entry(copy).or_insert((floor, now));
        if known.0 != floor {
            *known = (floor, now);
        }
        let since = known.1;
        let Some(seen) = self.detector.known(copy.1) else { return false };
        let later = seen.heard.is_some_and(|asked| asked > since);
        let said = seen.beat.and_then(|beat| beat.figures).filter(|_| later);
        said.is_some_and(|at| at.epoch.number == floor.epoch && at.durable < floor.lsn)
    }

    /// What was begun in this epoch.
    pub(super) fn under_way(&self, content: ContentId, epoch: Epoch) -> Option<UnderWay> {
        let (begun_in, under_way) = self.failing.under_way.get(&content)?;
        (*begun_in == epoch).then_some(*under_way)
    }

    fn carry_out(&mut self, content: ContentId, decision: &Decision, out: &mut Vec<Out>) {
        self.forget_late(content);
        match decision {
            Decision::Promote { to } => self.fail_over(content, *to, out),
            Decision::HandOverThrough { mirror } => {
                self.ask_to_hand_over(content, *mirror, *mirror, out);
            }
            Decision::Shutdown { instance, why } => self.shut_down(content, *instance, *why, out),
            Decision::DropMirror { mirror, attempts } => {
                self.drop_mirror(content, *mirror, *attempts, out);
            }
            Decision::DoubleFault { copies } if !self.is_double_fault(content) => {
                let said: Vec<_> = copies.iter().map(|copy| self.fault(content, copy)).collect();
                let text = format!("double fault of contentid {content}: {}", said.join("; "));
                self.note(self.dbid_of(content), text, out);
            }
            _ => {}
        }
    }

    /// A mirror that never catches up is kept out until somebody has looked, once its primary has let go of it (S2).
    fn drop_mirror(
        &mut self,
        content: ContentId,
        mirror: InstanceId,
        attempts: u32,
        out: &mut Vec<Out>,
    ) {
        let Some(config) = self.config(content).filter(|_| self.is_proved(content)) else { return };
        let stays_out = config.in_sync(mirror) || config.held(mirror);
        if stays_out || self.failing.holding.contains(&(content, config.version)) {
            return;
        }
        self.failing.holding.insert((content, config.version));
        let seen = config.version;
        let mut new = Config { version: seen.next(), ..config };
        for copy in new.copies.iter_mut().filter(|copy| copy.instance == mirror) {
            copy.held = true;
        }
        let dbid = self.catalog.read(|state| state.row_of(mirror).map(|(dbid, _)| dbid));
        let dbid = dbid.unwrap_or_default();
        let text = format!(
            "dbid {dbid} connected {attempts} times and never caught up: it stays out until `outrigger recover`"
        );
        let reports = self.take_reports(content);
        let swap = Change::Swap { content, seen, new, proposer: Proposer::Operator, reports };
        self.work(vec![swap, Change::Note { dbid, text }], None, String::new(), out);
    }

    fn is_double_fault(&self, content: ContentId) -> bool {
        matches!(self.decisions.get(&content), Some(Decision::DoubleFault { .. }))
    }

    /// How far a copy that failed was, as far as it is known.
    pub(super) fn durable(&self, content: ContentId, copy: &Fault) -> Lsn {
        let heard =
            |state: &State| Some(state.contents.get(&content)?.register.heard(copy.instance));
        let heard = self.catalog.read(heard).unwrap_or_default().lsn;
        copy.durable.unwrap_or_default().max(heard)
    }

    fn fault(&self, content: ContentId, copy: &Fault) -> String {
        let dbid = self.catalog.read(|state| state.row_of(copy.instance).map(|(dbid, _)| dbid));
        let dbid = dbid.unwrap_or_default();
        let durable = self.durable(content, copy);
        let sync = if copy.in_sync { "in sync" } else { "not in sync" };
        let seen = match copy.standing {
            Some(detect::Standing::Dead { why, .. }) => why.as_str(),
            Some(detect::Standing::Up) if self.is_primary(content, copy.instance) => {
                detect::Why::Idle.as_str()
            }
            _ => "not up",
        };
        format!("dbid {dbid}, {sync}, durable to {durable}: {seen}")
    }

    fn is_primary(&self, content: ContentId, instance: InstanceId) -> bool {
        self.config(content).is_some_and(|config| config.primary == instance)
    }

    pub(super) fn dbid_of(&self, content: ContentId) -> Dbid {
        let primary = self.config(content).map(|config| config.primary);
        let row = self.catalog.read(|state| Some(state.row_of(primary?)?.0));
        row.unwrap_or_default()
    }

    /// Writes a row of history.
    pub(super) fn note(&mut self, dbid: Dbid, text: String, out: &mut Vec<Out>) {
        let text = crate::catalog::tables::cut(text);
        self.work(vec![Change::Note { dbid, text }], None, String::new(), out);
    }

    /// S3: a configuration with the next epoch and this primary is recorded, then it is told.
    fn fail_over(&mut self, content: ContentId, to: InstanceId, out: &mut Vec<Out>) {
        let asked = self
            .pending
            .values()
            .any(|pending| matches!(pending, Pending::FailOver { content: of } if *of == content));
        if asked || self.refrains(content) {
            return;
        }
        let nonce = self.draw();
        let Some(register) = self.register(content) else { return };
        let Some(config) = register.config() else { return };
        let gave_up = matches!(
            self.under_way(content, config.epoch),
            Some(UnderWay::HandOver { answer: HandOverAnswer::GaveUp, .. })
        );
        let new =
            if gave_up { register.hand_over(to, nonce) } else { register.promotion(to, nonce) };
        let Ok(new) = new else { return };
        let (seen, epoch) = (config.version, config.epoch);
        let reports = self.take_reports(content);
        let change = Change::Swap { content, seen, new, proposer: Proposer::Coordinator, reports };
        if self.append(change, Pending::FailOver { content }, out) {
            if !gave_up {
                let begun = UnderWay::Promotion { to, since: self.now };
                self.failing.under_way.insert(content, (epoch, begun));
            }
            out.push(Out::Event(Event::FailsOver { content, to }));
        } else {
            self.not_failed_over(content);
        }
    }

    fn refrains(&self, content: ContentId) -> bool {
        self.failing.refrain.get(&content).is_some_and(|until| self.now < *until)
    }

    /// The catalog has decided on a failover. One that met another change is decided anew at once; any other
    /// refusal would come again.
    pub(super) fn failed_over(&mut self, content: ContentId, result: &Result<(), Refused>) {
        let pause = match result {
            Ok(()) => {
                self.failing.under_way.remove(&content);
                return;
            }
            Err(Refused::Conflict(Conflict::VersionMoved { .. })) => 0,
            Err(_) => self.detector.options().timeout(),
        };
        self.refrain(content, pause);
    }

    /// The catalog takes nothing now: it is asked again a little later.
    pub(super) fn not_failed_over(&mut self, content: ContentId) {
        self.refrain(content, AGAIN_MICROS);
    }

    fn refrain(&mut self, content: ContentId, micros: u64) {
        if let Some((_, UnderWay::Promotion { .. })) = self.failing.under_way.get(&content) {
            self.failing.under_way.remove(&content);
        }
        self.failing.refrain.insert(content, self.now.plus(micros));
    }

    /// When something is to be tried again.
    pub(super) fn failing_deadline(&self) -> Option<Micros> {
        let retries = self.failing.refrain.values().chain(&self.failing.prove_at);
        retries.filter(|at| **at > self.now).min().copied()
    }

    /// S9: asks the primary, itself or through its mirror, to hand over.
    pub(super) fn ask_to_hand_over(
        &mut self,
        content: ContentId,
        to: InstanceId,
        through: InstanceId,
        out: &mut Vec<Out>,
    ) -> bool {
        let link = self.links.iter().find(|(_, link)| {
            link.role == Role::Instance && (link.content, link.instance) == (content, through)
        });
        let Some(link) = link.map(|(id, _)| *id) else { return false };
        let Some(epoch) = self.config(content).map(|config| config.epoch) else { return false };
        let at_most_millis = self.catalog.read(|state| settings::value(state, "hand_over_ms"));
        let answer = HandOverAnswer::Awaited;
        let begun = UnderWay::HandOver { to, since: self.now, answer };
        self.failing.under_way.insert(content, (epoch, begun));
        self.send(link, Message::HandOver { to, at_most_millis }, out);
        true
    }

    /// A primary has given its epoch up, it says itself or its mirror.
    pub(super) fn gave_up(&mut self, content: ContentId, epoch: Epoch) {
        let current = self.config(content).map(|config| config.epoch);
        if let Some((begun_in, UnderWay::HandOver { answer, .. })) =
            self.failing.under_way.get_mut(&content)
            && *begun_in == epoch
            && current == Some(epoch)
        {
            *answer = HandOverAnswer::GaveUp;
        }
    }

    fn forget_late(&mut self, content: ContentId) {
        let limit = self.catalog.read(|state| settings::value(state, "hand_over_ms"));
        let patience = limit.saturating_mul(1000).saturating_mul(HAND_OVER_PATIENCE);
        let epoch = self.config(content).map(|config| config.epoch);
        if let Some((begun_in, begun)) = self.failing.under_way.get(&content) {
            let late = matches!(begun, UnderWay::HandOver { since, .. } if self.now.since(*since) >= patience);
            if late || Some(*begun_in) != epoch {
                self.failing.under_way.remove(&content);
            }
        }
    }

    /// Without mirrors a part of the data is never served: everything goes down in order.
    fn shut_down(
        &mut self,
        content: ContentId,
        instance: InstanceId,
        why: detect::Why,
        out: &mut Vec<Out>,
    ) {
        let asked = self.pending.values().any(|pending| matches!(pending, Pending::ShutDown));
        if asked || self.refrains(content) {
            return;
        }
        let (dbid, host) = self.catalog.read(|state| {
            state.row_of(instance).map(|(dbid, row)| (dbid, row.host.clone())).unwrap_or_default()
        });
        let why = format!(
            "instance {dbid} on host {host}, the only copy of content {content}, is invalid: {}",
            why.as_str()
        );
        out.push(Out::Event(Event::Alarm { text: format!("the cluster shuts down: {why}") }));
        if !self.append(Change::SetUp(Up::ShutDown { why }), Pending::ShutDown, out) {
            self.refrain(content, AGAIN_MICROS);
        }
    }

    /// The catalog takes nothing now.
    pub(super) fn not_shut_down(&mut self) {
        let contents: Vec<_> = self.decisions.keys().copied().collect();
        for content in contents {
            self.refrain(content, AGAIN_MICROS);
        }
    }
}
