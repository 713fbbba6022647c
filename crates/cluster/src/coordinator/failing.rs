//! Instances that fail: watched, judged, and failed over.
//!
//! Guarantees: what is done follows from [`crate::failover::decide`] alone, is judged again by the register when it is
//! applied (S3, S9), and fenced by epochs; a decision that cannot be recorded now is taken again later. A
//! content without rows (its instances have no agents) is watched by its connections, and failed over by an
//! administrator only. Not here: who is thought dead ([`crate::detect`]).

use outrigger_net::message::{Message, Role};
use outrigger_replica::rules::Rule;
use outrigger_wal::{ContentId, Epoch, InstanceId};

use super::event::{Event, Out};
use super::{Coordinator, Pending};
use crate::catalog::Change;
use crate::catalog::tables::{Dbid, Up};
use crate::detect;
use crate::failover::{Decision, HandOverAnswer, Mirrors, Proof, Sight, UnderWay, decide};
use crate::register::Proposer;
use crate::settings;

/// The setting that remembers that a standby was activated by force.
pub(super) const UNPROVED: &str = "unproved";
/// A hand-over that is not answered is forgotten after so many times its own limit.
const HAND_OVER_PATIENCE: u64 = 3;

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

    /// Watches whoever should run, and decides what is to be done.
    pub(super) fn settle_failing(&mut self, out: &mut Vec<Out>) {
        if self.serving.is_none() {
            return;
        }
        self.watch(out);
        self.detect(detect::In::Tick, out);
        self.prove();
        let contents: Vec<ContentId> = self.catalog.read(|state| {
            let watched = state.up.is_running();
            state.contents.keys().filter(|_| watched).copied().collect()
        });
        for content in contents {
            let decision = self.decide(content);
            self.carry_out(content, &decision, out);
            self.decisions.insert(content, decision);
        }
    }

    fn watch(&mut self, out: &mut Vec<Out>) {
        let wanted: std::collections::BTreeMap<InstanceId, ContentId> =
            self.catalog.read(|state| {
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

    /// S8: after a forced activation a content is proved again when every copy of it has reported.
    fn prove(&mut self) {
        let unproved = self.catalog.read(|state| state.settings.get(UNPROVED) == Some(&1));
        self.unproved = unproved;
    }

    fn is_proved(&self, content: ContentId) -> bool {
        if !self.unproved || !self.catalog.rules().hold(Rule::S8Proof) {
            return true;
        }
        let Some(config) = self.config(content) else { return false };
        config.copies.iter().all(|copy| self.figures.contains_key(&(content, copy.instance)))
    }

    fn decide(&self, content: ContentId) -> Decision {
        // What was reported and is not recorded yet counts too (S6).
        let Some(register) = self.register(content) else { return Decision::Nothing };
        let Some(config) = register.config() else { return Decision::Nothing };
        let mut copies = self.detector.sights(config);
        for copy in &mut copies {
            let floor = register.heard(copy.instance);
            let epoch = self.figures.get(&(content, copy.instance)).map(|at| at.epoch);
            copy.below_floor = epoch == Some(floor.epoch)
                && copy.durable.is_some_and(|durable| durable < floor.lsn);
        }
        let mirrored = self.catalog.read(|state| {
            let mut configs = state.contents.values().filter_map(|row| row.register.config());
            configs.any(|config| config.copies.len() > 1)
        });
        let sight = Sight {
            config,
            copies: &copies,
            under_way: self.under_way.get(&content).copied(),
            mirrors: if mirrored { Mirrors::Configured } else { Mirrors::Absent },
            proof: if self.is_proved(content) { Proof::Whole } else { Proof::Missing },
            now: self.now,
        };
        decide(&sight, self.detector.options())
    }

    fn carry_out(&mut self, content: ContentId, decision: &Decision, out: &mut Vec<Out>) {
        self.forget_late(content);
        match decision {
            Decision::Promote { to } => self.fail_over(content, *to, out),
            Decision::HandOverThrough { mirror } => {
                self.ask_to_hand_over(content, *mirror, *mirror, out);
            }
            Decision::Shutdown { instance, why } => self.shut_down(content, *instance, *why, out),
            Decision::DoubleFault { copies } if !self.is_double_fault(content) => {
                let said: Vec<_> = copies.iter().map(|copy| self.fault(copy)).collect();
                let text = format!("double fault of contentid {content}: {}", said.join("; "));
                self.note(self.dbid_of(content), text, out);
            }
            _ => {}
        }
    }

    fn is_double_fault(&self, content: ContentId) -> bool {
        matches!(self.decisions.get(&content), Some(Decision::DoubleFault { .. }))
    }

    fn fault(&self, copy: &crate::failover::Fault) -> String {
        let dbid = self.catalog.read(|state| state.row_of(copy.instance).map(|(dbid, _)| dbid));
        let dbid = dbid.unwrap_or_default();
        let durable = copy.durable.map_or("unknown".to_owned(), |lsn| lsn.to_string());
        let sync = if copy.in_sync { "in sync" } else { "not in sync" };
        let seen = match copy.standing {
            Some(detect::Standing::Dead { why, .. }) => why.as_str(),
            _ => "not up",
        };
        format!("dbid {dbid}, {sync}, durable to {durable}: {seen}")
    }

    fn dbid_of(&self, content: ContentId) -> Dbid {
        let primary = self.config(content).map(|config| config.primary);
        let row = self.catalog.read(|state| Some(state.row_of(primary?)?.0));
        row.unwrap_or_default()
    }

    /// Writes a row of history.
    pub(super) fn note(&mut self, dbid: Dbid, text: String, out: &mut Vec<Out>) {
        let mut text = text;
        let mut end = text.len().min(crate::catalog::tables::MAX_ROW_TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
        self.work(vec![Change::Note { dbid, text }], None, String::new(), out);
    }

    /// S3: a configuration with the next epoch and this primary is recorded, then it is told.
    fn fail_over(&mut self, content: ContentId, to: InstanceId, out: &mut Vec<Out>) {
        let asked = self
            .pending
            .values()
            .any(|pending| matches!(pending, Pending::FailOver { content: of } if *of == content));
        if asked {
            return;
        }
        let gave_up = matches!(
            self.under_way.get(&content),
            Some(UnderWay::HandOver { answer: HandOverAnswer::GaveUp, .. })
        );
        let nonce = self.draw();
        let Some(register) = self.register(content) else { return };
        let new =
            if gave_up { register.hand_over(to, nonce) } else { register.promotion(to, nonce) };
        let (Ok(new), Some(config)) = (new, register.config()) else { return };
        let seen = config.version;
        let reports = self.take_reports(content);
        let change = Change::Swap { content, seen, new, proposer: Proposer::Coordinator, reports };
        if self.append(change, Pending::FailOver { content }, out) {
            if !gave_up {
                let since = self.now;
                self.under_way.insert(content, UnderWay::Promotion { to, since });
            }
            out.push(Out::Event(Event::FailsOver { content, to }));
        }
    }

    /// The catalog has decided on a failover.
    pub(super) fn failed_over(&mut self, content: ContentId) {
        self.under_way.remove(&content);
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
        let at_most_millis = self.catalog.read(|state| settings::value(state, "hand_over_ms"));
        let since = self.now;
        let answer = HandOverAnswer::Awaited;
        self.under_way.insert(content, UnderWay::HandOver { to, since, answer });
        self.send(link, Message::HandOver { to, at_most_millis }, out);
        true
    }

    /// A primary has given its epoch up, it says itself or its mirror.
    pub(super) fn gave_up(&mut self, content: ContentId, epoch: Epoch) {
        let current = self.config(content).map(|config| config.epoch);
        if let Some(UnderWay::HandOver { answer, .. }) = self.under_way.get_mut(&content)
            && current == Some(epoch)
        {
            *answer = HandOverAnswer::GaveUp;
        }
    }

    fn forget_late(&mut self, content: ContentId) {
        let limit = self.catalog.read(|state| settings::value(state, "hand_over_ms"));
        let patience = limit.saturating_mul(1000).saturating_mul(HAND_OVER_PATIENCE);
        if let Some(UnderWay::HandOver { since, .. }) = self.under_way.get(&content)
            && self.now.since(*since) >= patience
        {
            self.under_way.remove(&content);
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
        if self.shutting_down {
            return;
        }
        self.shutting_down = true;
        let (dbid, host) = self.catalog.read(|state| {
            state.row_of(instance).map(|(dbid, row)| (dbid, row.host.clone())).unwrap_or_default()
        });
        let why = format!(
            "instance {dbid} on host {host}, the only copy of content {content}, is invalid: {}",
            why.as_str()
        );
        out.push(Out::Event(Event::Alarm { text: format!("the cluster shuts down: {why}") }));
        self.work(vec![Change::SetUp(Up::ShutDown { why })], None, String::new(), out);
    }
}
