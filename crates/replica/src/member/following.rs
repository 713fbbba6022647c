//! A copy and its primary: greeted, cut, streamed to, acknowledged.
//!
//! S0 at the door, S5 (drain, then tell the end), S7 (cut what lies behind the fork, marked first),
//! S4 (persist being in sync before saying so). Not here: checking blocks (`net::receiver`), the log.

use bytes::Bytes;
use outrigger_net::handshake::{Identity as Door, check_hello};
use outrigger_net::message::{Abilities, Envelope, Message, Reason, Role as Caller};
use outrigger_net::receiver::{Receiver, Stage};
use outrigger_wal::disk::OpId;
use outrigger_wal::format::Block;
use outrigger_wal::recover::{Promise, Recovered};
use outrigger_wal::{Error, Fetch, Log, Lsn, RunningHash};

use super::event::{Event, LinkId, Out};
use super::phase::{Following, Phase, Start, Stream};
use super::{LOG_OPS, Member, Reading};
use crate::control::Cut;
use crate::epochs::joined;
use crate::reading_back::is_unchanged;
use crate::rules::Rule;

/// Stored bytes that may wait for the disk before the primary is taken to ignore its window.
const MAX_UNWRITTEN_BYTES: u64 = 64 << 20;
/// Bytes lent at once.
const LEND_BYTES: u64 = 256 << 10;

impl Member {
    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.phase {
            Phase::Following(Following { stream, .. }) => stream.as_mut(),
            _ => None,
        }
    }

    pub(super) const fn is_reopening(&self) -> bool {
        self.reopening.is_some()
    }

    pub(super) fn drop_stream(&mut self, out: &mut Vec<Out>) {
        if let Phase::Following(following) = &mut self.phase
            && let Some(stream) = following.stream.take()
        {
            out.push(Out::Hangup(stream.link));
        }
    }

    /// Somebody calls. A primary of an epoch that is not lower than the one accepted is heard.
    pub(super) fn hello(
        &mut self,
        link: LinkId,
        envelope: Envelope,
        message: &Message,
        out: &mut Vec<Out>,
    ) {
        let session = envelope.session;
        let id = self.control.identity;
        let door = Door {
            cluster: id.cluster,
            content: id.content,
            instance: id.instance,
            log: id.log,
            abilities: Abilities::OURS,
        };
        if let Err((reason, text)) = check_hello(&door, &envelope, message) {
            self.refuse(link, session, reason, text, out);
            return;
        }
        let Message::Hello { role: Caller::Primary, from, .. } = message else {
            let text = "only a primary may call a copy".to_owned();
            self.refuse(link, session, Reason::NotAMember, text, out);
            return;
        };
        if self.config.as_ref().is_some_and(|config| config.copy(*from).is_none()) {
            let text = format!("{from} is no copy of content {}", id.content);
            self.refuse(link, session, Reason::NotAMember, text, out);
            return;
        }
        // One that was let in since has a newer configuration than this one.
        let known = self.config.as_ref().filter(|known| known.version >= envelope.version);
        if known.is_some_and(|known| known.held(*from)) {
            let text = format!("{from} is held out of content {}", id.content);
            self.refuse(link, session, Reason::NotAMember, text, out);
            return;
        }
        // S0: epoch, then version. The coordinator's epoch fences its own word alone (`recorded`): a primary that
        // reigns may not have heard of the newest coordinator yet.
        if let Some((reason, text)) = self.stale(&envelope) {
            if reason == Reason::ForeignNonce {
                out.push(Out::Event(Event::ForeignNonce {
                    ours: self.control.epoch,
                    theirs: envelope.epoch,
                }));
            }
            self.refuse(link, session, reason, text, out);
            return;
        }
        let ready = !self.is_reopening()
            && matches!(
                self.phase,
                Phase::Waiting
                    | Phase::Following(_)
                    | Phase::Electing(_)
                    | Phase::Gathering(_)
                    | Phase::Rising(_)
                    | Phase::Reigning(_)
            )
            && !self.closing;
        if !ready {
            let text = "busy with its own log".to_owned();
            self.refuse(link, session, Reason::NotReady, text, out);
            return;
        }
        self.step_down("a primary of a higher epoch called", out);
        self.drop_stream(out);
        self.forget_told_commit();
        let mut generation = self.persisting.written;
        if self.control.epoch != envelope.epoch || self.control.version < envelope.version {
            self.control.epoch = envelope.epoch;
            self.control.version = self.control.version.max(envelope.version);
            let coordinator = self.control.coordinator_epoch.max(envelope.coordinator_epoch);
            self.control.coordinator_epoch = coordinator;
            generation = self.persist();
        } else if self.persisting.dirty || self.persisting.writing.is_some() {
            generation = self.persist();
        }
        // A mark that was set for an earlier start and not acted upon falls with it.
        if self.control.truncating.take().is_some() {
            generation = self.persist();
        }
        self.phase = Phase::Following(Following {
            stream: Some(Stream {
                link,
                receiver: Receiver::new(*from, session, envelope.epoch),
                heard: self.now,
                generation,
                start: None,
                joining: false,
                asked: false,
                lending: None,
            }),
            resigned: None,
        });
    }

    fn stale(&self, envelope: &Envelope) -> Option<(Reason, String)> {
        let (ours, theirs) = (self.control.epoch, envelope.epoch);
        if self.rules.hold(Rule::S0Epoch) {
            if theirs.number < ours.number {
                return Some((Reason::StaleEpoch, format!("epoch {theirs}, accepted {ours}")));
            }
            let reigns =
                matches!(self.phase, Phase::Gathering(_) | Phase::Rising(_) | Phase::Reigning(_));
            if theirs.number == ours.number && (theirs.nonce != ours.nonce || reigns) {
                let text = format!("epoch {theirs} has the number of {ours}");
                return Some((Reason::ForeignNonce, text));
            }
        }
        if self.rules.hold(Rule::S0Version)
            && theirs == ours
            && envelope.version < self.control.version
        {
            let text = format!(
                "configuration {}, accepted {}",
                envelope.version.0, self.control.version.0
            );
            return Some((Reason::StaleVersion, text));
        }
        None
    }

    /// A message on the stream from the primary.
    pub(super) fn followed(
        &mut self,
        link: LinkId,
        envelope: &Envelope,
        message: Message,
        body: &Bytes,
        out: &mut Vec<Out>,
    ) {
        let checked = self.rules.hold(Rule::S0Epoch);
        let durable = self.commit.max(self.control.commit.lsn.min(self.log.end()));
        let (end, hash) = (self.log.end(), self.log.hash());
        let (log, now) = (self.log.id(), self.now);
        let Some(stream) = self.stream().filter(|stream| stream.link == link) else { return };
        let session = stream.receiver.session();
        if envelope.session != session || (checked && envelope.epoch != stream.receiver.epoch()) {
            let text = "a message of another session or epoch".to_owned();
            self.refuse(link, session, Reason::StaleEpoch, text, out);
            self.lose_stream();
            return;
        }
        stream.heard = now;
        let stage = stream.receiver.stage();
        match (stage, message) {
            (Stage::Told, Message::Start { from, hash: theirs, in_sync }) => {
                if from > end || (from == end && theirs != hash) {
                    let text = format!("told to start at {from}, the log here ends at {end}");
                    self.needs_copy(link, session, text, out);
                } else if from < durable {
                    let text = format!("told to cut at {from}, committed up to {durable}");
                    self.needs_copy(link, session, text, out);
                } else {
                    self.start(from, theirs, in_sync);
                }
            }
            (Stage::Told, Message::Fetch { from, to }) if from < to.min(end) => {
                stream.lending = Some((from, to.min(end)));
            }
            (Stage::Streaming, Message::Data { start, commit, keep, lens }) => {
                match stream.receiver.blocks(log, start, &lens, body) {
                    Ok(blocks) => {
                        stream.asked |= blocks.is_empty();
                        self.told(commit, keep);
                        self.take(blocks, out);
                    }
                    Err(error) => {
                        self.refuse(link, session, Reason::OutOfTurn, error.to_string(), out);
                        self.lose_stream();
                    }
                }
            }
            (Stage::Streaming, Message::Commit { commit, keep }) => {
                stream.asked = true;
                self.told(commit, keep);
            }
            (Stage::Streaming, Message::Join) => {
                // S4: being in sync, and what is durable, are promised before it is answered.
                stream.joining = true;
                self.control.in_sync = true;
                let generation = self.persist();
                if let Some(stream) = self.stream() {
                    stream.generation = generation;
                }
            }
            (_, Message::GaveUp { epoch, at }) => out.push(Out::GaveUp { epoch, at }),
            (_, Message::Keepalive) => {}
            (_, message @ (Message::Refuse { .. } | Message::NeedsCopy { .. })) => {
                out.push(Out::Event(match message {
                    Message::NeedsCopy { text } => Event::NeedsCopy { text },
                    Message::Refuse { text, .. } => Event::Refused { text },
                    _ => return,
                }));
                out.push(Out::Hangup(link));
                self.lose_stream();
            }
            (_, other) => {
                let text = format!("{} out of turn", name_of(&other));
                self.refuse(link, session, Reason::OutOfTurn, text, out);
                self.lose_stream();
            }
        }
    }

    fn needs_copy(
        &mut self,
        link: LinkId,
        session: outrigger_net::message::Session,
        text: String,
        out: &mut Vec<Out>,
    ) {
        out.push(Out::Event(Event::NeedsCopy { text: text.clone() }));
        self.send(link, session, Message::NeedsCopy { text }, out);
        out.push(Out::Hangup(link));
        self.lose_stream();
    }

    pub(super) fn lose_stream(&mut self) {
        if let Phase::Following(following) = &mut self.phase
            && let Some(stream) = following.stream.take()
        {
            let primary = stream.receiver.primary();
            self.forget_link(stream.link, primary);
        }
    }

    /// S7: the cut is marked in the control file first.
    fn start(&mut self, from: Lsn, hash: RunningHash, in_sync: bool) {
        let cut = from < self.log.end() && self.rules.hold(Rule::S7Truncate);
        self.control.truncating = cut.then_some(Cut { to: from, hash: Some(hash) });
        // A copy that is told commits do not wait for it persists that before the first block.
        self.control.in_sync = in_sync;
        let generation = self.persist();
        if let Some(stream) = self.stream() {
            stream.generation = generation;
            stream.start = Some(Start { from, hash });
            stream.receiver.enter(Stage::Cutting);
        }
    }

    fn told(&mut self, commit: Lsn, keep: Lsn) {
        self.told_commit = self.told_commit.max(commit);
        self.told_keep = self.told_keep.max(keep);
    }

    fn take(&mut self, blocks: Vec<Block>, out: &mut Vec<Out>) {
        for block in blocks {
            if let Err(error) = self.log.receive(self.now, block) {
                if let Some(stream) = self.stream() {
                    let (link, session) = (stream.link, stream.receiver.session());
                    self.refuse(link, session, Reason::OutOfTurn, error.to_string(), out);
                    self.lose_stream();
                }
                return;
            }
        }
        if self.log.unwritten_bytes() > MAX_UNWRITTEN_BYTES
            && let Some(stream) = self.stream()
        {
            let (link, session) = (stream.link, stream.receiver.session());
            let text = "more unacknowledged bytes than any window".to_owned();
            self.refuse(link, session, Reason::OutOfTurn, text, out);
            self.lose_stream();
        }
    }

    /// Answers whatever waited for the control file or the disk.
    pub(super) fn settle_following(&mut self, out: &mut Vec<Out>) {
        let drained = self.log.is_drained() || !self.rules.hold(Rule::S5Drain);
        let idle = self.log.is_idle() && self.persisting.writing.is_none();
        let (end, reading) = (self.log.end(), !self.reads.is_empty());
        let written = self.persisting.written;
        let (cutting, reopening) = (self.control.truncating.is_some(), self.is_reopening());
        let Some(stream) = self.stream() else { return };
        let (link, session) = (stream.link, stream.receiver.session());
        let persisted = written >= stream.generation;
        match stream.receiver.stage() {
            // ORDER: the epoch is persisted and nothing is on its way to the disk before the end is told (S5).
            Stage::Greeted if persisted && drained => {
                stream.receiver.enter(Stage::Told);
                let welcome = Message::Welcome {
                    from: self.me(),
                    protocol: Abilities::OURS.protocols.1,
                    abilities: Abilities::OURS,
                    history: self.history(),
                };
                self.send(link, session, welcome, out);
            }
            Stage::Told => self.settle_lending(out),
            Stage::Cutting if persisted => {
                let Some(start) = stream.start.as_ref() else { return };
                if cutting {
                    if !reopening && idle && !reading {
                        let Start { from: cut, hash } = *start;
                        let epoch = stream.receiver.epoch();
                        self.reopening = Some(epoch);
                        out.push(Out::Reopen { cut, hash: Some(hash) });
                    }
                    return;
                }
                stream.receiver.enter(Stage::Streaming);
                stream.start = None;
                stream.asked = true;
                let epoch = stream.receiver.epoch();
                self.belongs_to(epoch, out);
                self.send(link, session, Message::Ready { at: end }, out);
            }
            Stage::Streaming if stream.joining && persisted => {
                stream.joining = false;
                let durable = self.control.durable.lsn;
                self.send(link, session, Message::Joined { durable }, out);
            }
            _ => {}
        }
    }

    /// The log was opened again, with what lay behind the fork cut off.
    pub(super) fn reopened(&mut self, result: Result<Recovered, Error>, out: &mut Vec<Out>) {
        let Some(epoch) = self.reopening.take() else { return };
        let mut recovered = match result {
            Ok(recovered) => recovered,
            Err(error) => {
                self.not_reopened(&error, out);
                return;
            }
        };
        self.openings = self.openings.saturating_add(1);
        if let Some(saved) = &recovered.cut {
            self.counters.truncations = self.counters.truncations.saturating_add(1);
            out.push(Out::Event(Event::Cut(*saved)));
        }
        let fork = recovered.end;
        recovered.epochs = joined(&self.control.epochs, &recovered.epochs);
        let ops = OpId(self.openings.saturating_mul(LOG_OPS));
        self.log = Log::new(recovered, self.options.log.clone(), ops);
        self.log.wall_clock_is(self.wall_micros);
        // ORDER: the floor falls in the same write that clears the mark (S6, S7).
        self.control.truncating = None;
        let generation = self.persist();
        match &mut self.phase {
            Phase::Following(Following { stream: Some(stream), .. }) => {
                stream.generation = generation
            }
            Phase::Gathering(gathering) => {
                // ORDER: the mark is durably cleared before anything is adopted: what is taken
                // over behind the cut would be cut again after a crash.
                gathering.generation = generation;
                if let Some(adopting) = gathering.adopting.as_mut() {
                    adopting.cut = None;
                }
            }
            _ => {}
        }
        // The authority is told also where the connection is gone (S6).
        self.history_epoch = epoch;
        self.cut = Promise { epoch: epoch.number, lsn: fork };
        self.report(Some(fork), out);
    }

    /// The log could not be cut.
    fn not_reopened(&mut self, error: &Error, out: &mut Vec<Out>) {
        if !is_unchanged(error) {
            self.fail(error.to_string(), out);
            return;
        }
        self.control.truncating = None;
        self.persist();
        if let Some(stream) = self.stream() {
            let (link, session) = (stream.link, stream.receiver.session());
            self.needs_copy(link, session, error.to_string(), out);
        } else {
            self.step_down("its log cannot be cut where the greatest parts from it", out);
        }
    }

    /// Acknowledges what became durable.
    pub(super) fn acknowledge(&mut self, out: &mut Vec<Out>) {
        let durable = if self.rules.hold(Rule::S1Durable) {
            (self.log.durable(), self.log.durable_hash())
        } else {
            (self.log.end(), self.log.hash())
        };
        let (received, applied) = (self.log.end(), self.applying.reached());
        let Some(stream) = self.stream() else { return };
        let asked = std::mem::take(&mut stream.asked);
        let ack = stream.receiver.ack(received, durable.0, durable.1, applied, asked);
        let (link, session) = (stream.link, stream.receiver.session());
        if let Some(ack) = ack {
            self.send(link, session, ack, out);
        }
    }

    /// Lends a restarted primary what this copy holds beyond its end (S5).
    fn settle_lending(&mut self, out: &mut Vec<Out>) {
        // What is in memory is lent at once: nothing that happens later would call for the rest.
        loop {
            let reading =
                self.reads.values().any(|(reading, _)| matches!(reading, Reading::Lend(..)));
            let Some(stream) = self.stream() else { return };
            let Some((next, _)) = stream.lending.filter(|(next, to)| next < to && !reading) else {
                return;
            };
            let link = stream.link;
            match self.log.fetch(next, LEND_BYTES) {
                Ok(Fetch::Blocks(blocks)) => self.lend(link, next, blocks, out),
                Ok(Fetch::Read { file, at, len }) => {
                    self.read(Reading::Lend(link, next), file, at, len, out);
                }
                Ok(Fetch::AtEnd) => return,
                Err(error) => {
                    self.cannot_lend(link, &error, out);
                    return;
                }
            }
        }
    }

    /// What a restarted primary asked for cannot be had here.
    pub(super) fn cannot_lend(&mut self, link: LinkId, error: &Error, out: &mut Vec<Out>) {
        let Some(stream) = self.stream().filter(|stream| stream.link == link) else { return };
        let session = stream.receiver.session();
        let text = format!("what is asked for cannot be lent: {error}");
        self.refuse(link, session, Reason::OutOfTurn, text, out);
        self.lose_stream();
    }

    pub(super) fn lend(
        &mut self,
        link: LinkId,
        start: Lsn,
        mut blocks: Vec<Block>,
        out: &mut Vec<Out>,
    ) {
        let commit = self.commit;
        let Some(stream) = self.stream().filter(|stream| stream.link == link) else { return };
        let Some((_, to)) = stream.lending else { return };
        blocks.retain(|block| block.end() <= to);
        let next = blocks.last().map_or(to, Block::end);
        stream.lending = (next < to).then_some((next, to));
        let session = stream.receiver.session();
        let lens = blocks
            .iter()
            .map(|block| (block.header().true_len, block.header().stored_len))
            .collect();
        let message = Message::Data { start, commit, keep: Lsn::ZERO, lens };
        let envelope = self.envelope(session);
        let body = blocks.iter().map(|block| block.stored().clone()).collect();
        out.push(Out::Send { link, envelope, message, body });
    }
}

const fn name_of(message: &Message) -> &'static str {
    match message {
        Message::Hello { .. } => "Hello",
        Message::Welcome { .. } => "Welcome",
        Message::Start { .. } => "Start",
        Message::Ready { .. } => "Ready",
        Message::Data { .. } => "Data",
        Message::Ack { .. } => "Ack",
        Message::Join => "Join",
        Message::Joined { .. } => "Joined",
        Message::Fetch { .. } => "Fetch",
        _ => "a message",
    }
}
