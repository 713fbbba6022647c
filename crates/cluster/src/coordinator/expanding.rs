//! More hosts: their contents are made, and rows move to them.
//!
//! Guarantees: an expansion that was interrupted goes on, in whichever coordinator serves; a content that holds no
//! bucket gets its share, so that one whose making was interrupted does, too. Rows move to a content only once all its copies
//! are in sync. Not here: the order of a move ([`crate::mover`]).

use std::collections::BTreeSet;

use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, Micros};

use super::event::{Event, Out};
use super::{Coordinator, Pending};
use crate::buckets::MapVersion;
use crate::catalog::tables::{Dbid, Instance, Up};
use crate::catalog::{Change, MoveStep, Refused, State};
use crate::mover::{Act, Mover, Reply};
use crate::operator::Founding;

/// A reign's map versions begin at its epoch's number times this.
pub(crate) const VERSIONS_A_REIGN: u64 = 1 << 32;

/// The expansion under way, as far as this reign has it.
#[derive(Debug)]
pub(super) struct Expanding {
    mover: Mover,
    /// Counts questions.
    last_ask: u64,
    asked: Option<u64>,
    /// A step waits to be decided.
    recording: bool,
    told: String,
}

impl Expanding {
    pub(super) const fn new(epoch: u64, max_rate_bytes: u64) -> Self {
        let mover = Mover::new(epoch, max_rate_bytes);
        Self { mover, last_ask: 0, asked: None, recording: false, told: String::new() }
    }

    /// Of another reign; an answer to what this one asked is none there.
    pub(super) fn anew(&self, epoch: u64, max_rate_bytes: u64) -> Self {
        Self { last_ask: self.last_ask, ..Self::new(epoch, max_rate_bytes) }
    }
}

impl Coordinator {
    /// Takes hosts and instances in; rows move as soon as they are there.
    pub(super) fn expand(
        &mut self,
        (link, op): (LinkId, u64),
        founding: Founding,
        out: &mut Vec<Out>,
    ) {
        let fresh = match self.catalog.read(|state| fresh(state, &founding)) {
            Ok(fresh) => fresh,
            Err(text) => return self.deny(link, op, text, out),
        };
        if fresh.rows.is_empty() {
            let text = "all of these instances are there already".to_owned();
            return self.done(link, op, text, out);
        }
        let contents: BTreeSet<_> = fresh.rows.iter().map(|(_, row)| row.content).collect();
        match self.founding_changes(fresh) {
            Ok(changes) => {
                let many = contents.len();
                let text =
                    format!("{many} contents are made; rows move there once they are in sync");
                self.work(changes, Some((link, op)), text, out);
            }
            Err(text) => self.deny(link, op, text, out),
        }
    }

    pub(super) fn settle_expanding(&mut self, out: &mut Vec<Out>) {
        let Some(serving) = self.serving else { return };
        let expanding = &mut self.expanding;
        if expanding.recording || expanding.asked.is_some() {
            return;
        }
        let (up, map) = self.catalog.read(|state| (state.up.clone(), state.map.clone()));
        let Some(map) = map.filter(|_| matches!(up, Up::Running | Up::Founding)) else { return };
        // Never the version of another reign's map: numbers of reigns are not used twice.
        let floor = MapVersion(serving.epoch.number.saturating_mul(VERSIONS_A_REIGN));
        let act = if map.moves().next().is_some() {
            let (now, catalog) = (self.now, &self.catalog);
            expanding.mover.next(now, &map, |content| catalog.read(|state| in_sync(state, content)))
        } else if self.works.is_empty() {
            let contents = self.catalog.read(data_contents);
            let counts = map.counts();
            let without = contents.iter().any(|content| !counts.contains_key(content));
            let moves =
                if without { map.expand(&contents).unwrap_or_default() } else { Vec::new() };
            (!moves.is_empty()).then_some(Act::Record(MoveStep::Begin, moves))
        } else {
            None
        };
        match act {
            None => {}
            Some(Act::Ask(content, ask)) => {
                expanding.last_ask = expanding.last_ask.wrapping_add(1);
                let id = expanding.last_ask;
                expanding.asked = Some(id);
                out.push(Out::Carry { id, content, ask });
            }
            Some(Act::Record(step, moves)) => {
                expanding.recording = true;
                if !self.append(Change::Moves { step, floor, moves }, Pending::Moves, out) {
                    self.moves_decided(Err("the catalog takes nothing now".to_owned()), out);
                }
            }
        }
    }

    /// When moves go on by themselves.
    pub(super) fn expanding_deadline(&self) -> Option<Micros> {
        self.expanding.mover.due()
    }

    /// A content's primary has answered, or will not.
    pub(super) fn carried(&mut self, id: u64, reply: Reply, out: &mut Vec<Out>) {
        if self.expanding.asked != Some(id) {
            return;
        }
        self.expanding.asked = None;
        self.expanding.mover.replied(self.now, reply);
        self.tell_why(out);
    }

    /// A step was decided by the catalog.
    pub(super) fn moves_decided(&mut self, done: Result<(), String>, out: &mut Vec<Out>) {
        self.expanding.recording = false;
        self.expanding.mover.recorded(self.now, done);
        self.tell_why(out);
    }

    pub(super) fn moves_refused(&mut self, result: Result<(), Refused>, out: &mut Vec<Out>) {
        self.moves_decided(result.map_err(|refused| refused.to_string()), out);
    }

    fn tell_why(&mut self, out: &mut Vec<Out>) {
        let why = self.expanding.mover.why();
        if why != self.expanding.told {
            why.clone_into(&mut self.expanding.told);
            if !why.is_empty() {
                out.push(Out::Event(Event::Refused { text: format!("rows wait to move: {why}") }));
            }
        }
    }
}

fn data_contents(state: &State) -> Vec<ContentId> {
    state.contents.keys().copied().filter(|content| content.0 >= 0).collect()
}

/// Whether all copies of a content are in sync.
fn in_sync(state: &State, content: ContentId) -> bool {
    let config = state.contents.get(&content).and_then(|row| row.register.config());
    config.is_some_and(|config| config.in_sync_set().count() == config.copies.len())
}

/// What of it is not there yet, or why it cannot be.
fn fresh(state: &State, founding: &Founding) -> Result<Founding, String> {
    match &state.up {
        Up::Running => {}
        Up::Founding => {
            return Err("there is no cluster yet: `outrigger init` makes one".to_owned());
        }
        Up::Stopped | Up::ShutDown { .. } => {
            return Err("the cluster is down: `outrigger start` it first".to_owned());
        }
    }
    if let Some((moved, planned)) = state.expanding() {
        return Err(format!(
            "an expansion is under way, {moved} of {planned} buckets have moved: wait for its end"
        ));
    }
    let late: Vec<_> = data_contents(state)
        .into_iter()
        .filter(|content| !in_sync(state, *content))
        .map(|content| format!("content {content}"))
        .collect();
    if !late.is_empty() {
        let late = late.join(", ");
        return Err(format!("not in sync: {late}; `outrigger recover` them first"));
    }
    let mut rows: Vec<(Dbid, Instance)> = Vec::new();
    for (dbid, row) in &founding.rows {
        match state.instances.get(dbid) {
            Some(known) if (known.instance, known.content) == (row.instance, row.content) => {}
            Some(_) => return Err(format!("instance {dbid} is another one here: plan it anew")),
            None if row.content.0 < 0 || state.contents.contains_key(&row.content) => {
                return Err(format!(
                    "content {} is there already, and an expansion adds contents; add its copy by \
                     `outrigger add-mirrors`",
                    row.content
                ));
            }
            None => rows.push((*dbid, row.clone())),
        }
    }
    let hosts = founding.hosts.iter().filter(|host| !state.hosts.contains_key(&host.name));
    Ok(Founding {
        hosts: hosts.cloned().collect(),
        rows,
        segment_bytes: founding.segment_bytes,
        settings: Vec::new(),
    })
}
