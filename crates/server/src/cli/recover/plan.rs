//! What `outrigger recover` is going to do.
//!
//! Guarantees: pure but for random identities and the files it reads; a copy that is replaced already is followed, not
//! replaced again. Not here: doing it.

use std::collections::BTreeSet;

use outrigger_cluster::catalog::tables::{self, Dbid, Instance, Preferred};
use outrigger_cluster::operator::{ClusterState, RecoverMode};
use outrigger_cluster::placement::{Host, Move, Place, move_mirrors, recovery_target};
use outrigger_wal::{ContentId, InstanceId};

use super::follow::{DIFFERENTIAL, End, FULL, INCREMENTAL};
use super::{Recover, file, ids};
use crate::cli::hosts::{of_file, unknown};
use crate::cli::layout::{addresses_of, layout, new_row, numbered, place_of};
use crate::cli::page::{Fact, Page};
use crate::cli::state::seats::{Pair, Seat, data_pairs};
use crate::error::Error;

/// One copy and what becomes of it.
#[derive(Clone, Debug)]
struct Item {
    content: ContentId,
    mode: RecoverMode,
    instance: InstanceId,
    dbid: Dbid,
    preferred: Preferred,
    place: Place,
    source: Option<Place>,
    /// Another place, if it goes to one; and who takes it, once there is a row.
    target: Option<(Place, Option<InstanceId>)>,
    /// It is on its way already.
    begun: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    items: Vec<Item>,
    /// Hosts that the catalog does not know yet.
    pub(super) hosts: Vec<tables::Host>,
    /// Rows of copies in other places.
    pub(super) rows: Vec<(Dbid, Instance)>,
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// What the options ask for.
    ///
    /// # Errors
    /// A file is wrong, a host does not exist, or a copy cannot go where it should.
    pub(super) fn new(recover: &Recover, state: &ClusterState) -> Result<Self, Error> {
        let pairs = data_pairs(state);
        let mut plan = match &recover.input {
            Some(path) => Self::of_lines(path, &pairs)?,
            None => Self::of_failed(recover, &pairs),
        };
        let mut known = Vec::new();
        if let Some(path) = &recover.cluster {
            known = of_file(path)?.1;
        }
        if !recover.onto.is_empty() {
            plan.place_onto(recover, state, &known)?;
        }
        plan.make_rows(recover, state, known)?;
        Ok(plan)
    }

    /// Every copy that is not in sync or does not run, in place.
    fn of_failed(recover: &Recover, pairs: &[Pair<'_>]) -> Self {
        let mode = match (recover.full, recover.differential) {
            (true, _) => RecoverMode::Full,
            (_, true) => RecoverMode::Differential,
            _ => RecoverMode::Auto,
        };
        let mut items = Vec::new();
        for pair in
            pairs.iter().filter(|pair| recover.content.is_none_or(|at| at == pair.content.0))
        {
            // A primary that nobody could take over from is started again; where a file is written, or a host is given,
            // it is left out: only mirrors go elsewhere.
            let moves = !recover.onto.is_empty() || recover.output.is_some();
            let primary = pair.primary().filter(|seat| !moves && !seat.is_alive());
            items.extend(primary.and_then(|seat| item(pair, seat, RecoverMode::Auto)));
            let out = pair.mirrors().filter(|seat| needs_recovery(seat));
            items.extend(out.filter_map(|seat| item(pair, seat, mode)));
        }
        Self { items, ..Self::default() }
    }

    fn of_lines(path: &std::path::Path, pairs: &[Pair<'_>]) -> Result<Self, Error> {
        let wrong = |line, cause| Error::Config { path: path.to_owned(), line, cause };
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Error::file("cannot be read", path, cause))?;
        let entries = file::parse(&text).map_err(|(line, cause)| wrong(line, cause))?;
        let mut plan = Self::default();
        for entry in entries {
            let seats =
                pairs.iter().flat_map(|pair| pair.seats.iter().map(move |seat| (pair, seat)));
            let found = seats.clone().find(|(_, seat)| entry.failed.is(&place_of(seat)));
            let Some((pair, seat)) = found else {
                return Err(wrong(entry.line, "there is no such instance".to_owned()));
            };
            if seat.is_primary() {
                return Err(wrong(
                    entry.line,
                    "it acts as primary: only mirrors are recovered".to_owned(),
                ));
            }
            let Some(mut item) = item(pair, seat, entry.mode) else { continue };
            if let Some(target) = entry.target {
                let host = target.host.clone().unwrap_or_else(|| {
                    let same = seats.clone().find(|(_, other)| other.address() == target.address);
                    same.map_or(target.address.clone(), |(_, other)| other.host().to_owned())
                });
                let place = Place {
                    host,
                    address: target.address,
                    port: target.port,
                    data_dir: target.data_dir,
                };
                item.begun = false;
                item.target = Some((place, None));
            } else if !needs_recovery(seat) && entry.mode == RecoverMode::Auto {
                plan.warnings.push(format!("line {}: it is in sync, and left alone", entry.line));
                continue;
            }
            plan.items.push(item);
        }
        Ok(plan)
    }

    /// The failed of each host on another one.
    fn place_onto(
        &mut self,
        recover: &Recover,
        state: &ClusterState,
        known: &[(Host, tables::Host)],
    ) -> Result<(), Error> {
        let layout = layout(state);
        self.items.retain(|item| !item.begun || item.target.is_some());
        let failed: BTreeSet<String> =
            self.items.iter().map(|item| item.place.host.clone()).collect();
        if failed.len() > recover.onto.len() {
            return Err(Error::Option {
                option: "-p",
                cause: format!(
                    "instances of {} hosts have failed ({}): give as many hosts",
                    failed.len(),
                    failed.into_iter().collect::<Vec<_>>().join(", ")
                ),
            });
        }
        for extra in recover.onto.iter().skip(failed.len()) {
            self.warnings.push(format!("host {extra} is not needed"));
        }
        for (from, onto) in failed.iter().zip(&recover.onto) {
            let host = layout
                .host(onto)
                .or_else(|| known.iter().map(|(host, _)| host).find(|host| host.name == *onto));
            let Some(host) = host else {
                return Err(Error::Option {
                    option: "-p",
                    cause: format!(
                        "there is no host {onto:?}: give --cluster a file that lists it"
                    ),
                });
            };
            let dbids: Vec<_> = self
                .items
                .iter()
                .filter(|item| item.place.host == *from && item.target.is_none())
                .map(|item| item.dbid)
                .collect();
            let moved = recovery_target(&layout, &dbids, host).map_err(refused)?;
            for item in self.items.iter_mut().filter(|item| dbids.contains(&item.dbid)) {
                let placed = moved.layout.instance(item.dbid);
                item.target = placed.map(|placed| (placed.place.clone(), None));
            }
        }
        Ok(())
    }

    /// Rows for those that go elsewhere, checked against everything that is there.
    fn make_rows(
        &mut self,
        recover: &Recover,
        state: &ClusterState,
        known: Vec<(Host, tables::Host)>,
    ) -> Result<(), Error> {
        let targets = |item: &Item| match &item.target {
            Some((place, None)) => Some(Move { dbid: item.dbid, to: place.clone() }),
            _ => None,
        };
        let moves: Vec<_> = self.items.iter().filter_map(targets).collect();
        if moves.is_empty() {
            return Ok(());
        }
        let mut layout = layout(state);
        let names: BTreeSet<&str> = moves.iter().map(|one| one.to.host.as_str()).collect();
        let (planned, rows): (Vec<_>, Vec<_>) =
            known.into_iter().filter(|(host, _)| names.contains(host.name.as_str())).unzip();
        let fresh = planned.into_iter().filter(|host| layout.host(&host.name).is_none());
        let fresh: Vec<_> = fresh.collect();
        layout.hosts.extend(fresh);
        move_mirrors(&layout, &moves).map_err(refused)?;
        self.hosts = unknown(state, rows);
        let mut made = Vec::new();
        for item in &mut self.items {
            if let Some((place, instance @ None)) = &mut item.target {
                let whose = (item.content, item.preferred);
                let row = new_row(
                    whose,
                    place,
                    addresses_of(&layout, &place.host),
                    recover.max_rate.unwrap_or(0),
                )?;
                *instance = Some(row.instance);
                made.push(row);
            }
        }
        self.rows = numbered(state, made);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether it is more than following what was begun.
    pub(super) fn changes_something(&self) -> bool {
        self.items.iter().any(|item| !item.begun)
    }

    /// The contents of copies that come back where they are, by the way.
    pub(super) fn in_place(&self) -> Vec<(RecoverMode, Vec<ContentId>)> {
        let modes = [RecoverMode::Auto, RecoverMode::Differential, RecoverMode::Full];
        let of = |mode: RecoverMode| {
            let items = self.items.iter();
            let mine =
                items.filter(|item| item.mode == mode && item.target.is_none() && !item.begun);
            let contents: BTreeSet<_> = mine.map(|item| item.content).collect();
            (mode, contents.into_iter().collect::<Vec<_>>())
        };
        modes.map(of).into_iter().filter(|(_, contents)| !contents.is_empty()).collect()
    }

    /// Whom to wait for, and how each comes back.
    pub(super) fn followed(&self) -> Vec<(InstanceId, &'static str)> {
        let how = |item: &Item| match (&item.target, item.mode) {
            (Some(_), _) | (None, RecoverMode::Full) => FULL,
            (None, RecoverMode::Differential) => DIFFERENTIAL,
            (None, RecoverMode::Auto) => INCREMENTAL,
        };
        let who = |item: &Item| item.target.as_ref().and_then(|(_, id)| *id);
        let items = self.items.iter();
        let mut found: Vec<_> =
            items.map(|item| (who(item).unwrap_or(item.instance), how(item))).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The old copies of those that are in sync in their other places.
    pub(super) fn replaced(&self, ends: &[End]) -> Vec<Dbid> {
        let good =
            |id: InstanceId| ends.iter().any(|end| end.instance == id && end.failed.is_none());
        let items = self.items.iter();
        let moved = items.filter(|item| matches!(item.target, Some((_, Some(id))) if good(id)));
        moved.map(|item| item.dbid).collect()
    }

    /// The plan as gprecoverseg shows one.
    pub(super) fn page(&self) -> Page {
        let mut page = Page::default();
        let count = self.items.len();
        for (at, item) in self.items.iter().enumerate() {
            page.line(format!("Recovery {} of {count}", at + 1)).rule();
            page.facts("", "", facts(item)).rule();
        }
        page
    }

    /// The file for `-i`; lines of hosts that cannot be reached are commented out.
    pub(super) fn as_file(&self, state: &ClusterState) -> String {
        let mut text =
            String::from("# [I|D|F|]HOST|ADDRESS|PORT|DATADIR [HOST|ADDRESS|PORT|DATADIR]\n");
        for item in &self.items {
            let here =
                state.hosts.iter().any(|at| at.host.name == item.place.host && at.agent_here);
            let mark = if here { "" } else { "# the agent of this host is not connected: " };
            let letter = match item.mode {
                RecoverMode::Auto => "I",
                RecoverMode::Differential => "D",
                RecoverMode::Full => "F",
            };
            let target = item.target.as_ref();
            let target = target.map_or(String::new(), |(to, _)| format!(" {}", file::written(to)));
            let place = file::written(&item.place);
            text.push_str(&format!("{mark}{letter}|{place}{target}\n"));
        }
        text
    }
}

fn refused(refusal: outrigger_cluster::placement::Refusal) -> Error {
    Error::Denied { text: refusal.to_string() }
}

/// Whether an administrator has to do something about it, or has and it is under way.
fn needs_recovery(seat: &Seat<'_>) -> bool {
    !seat.is_going() && seat.copy.is_some() && (!seat.in_sync() || !seat.is_alive())
}

fn item(pair: &Pair<'_>, seat: &Seat<'_>, mode: RecoverMode) -> Option<Item> {
    // A copy with a higher number takes its place already.
    let newer = pair.mirrors().filter(|other| {
        let replaces = other.dbid() > seat.dbid() && !seat.is_primary();
        replaces && !other.is_going() && !seat.is_coming_back()
    });
    let newer = newer.max_by_key(|other| other.dbid());
    let preferred = if seat.prefers_primary() { Preferred::Primary } else { Preferred::Mirror };
    Some(Item {
        content: pair.content,
        mode: if newer.is_some() { RecoverMode::Full } else { mode },
        instance: seat.id(),
        dbid: seat.dbid()?,
        preferred,
        place: place_of(seat),
        source: pair.primary().filter(|_| !seat.is_primary()).map(place_of),
        target: newer.map(|other| (place_of(other), ids([other]).first().copied())),
        begun: newer.is_some() || (seat.is_coming_back() && mode == RecoverMode::Auto),
    })
}

fn facts(item: &Item) -> Vec<Fact> {
    let mode = match (&item.target, item.mode) {
        (Some(_), _) | (None, RecoverMode::Full) => "Full",
        (None, RecoverMode::Differential) => "Differential",
        (None, RecoverMode::Auto) => "Incremental",
    };
    let mut facts: Vec<Fact> = vec![
        (("Synchronization mode", "mode"), mode.into()),
        (("Failed instance host", "failed_host"), item.place.host.as_str().into()),
        (("Failed instance address", "failed_address"), item.place.address.as_str().into()),
        (("Failed instance directory", "failed_datadir"), item.place.data_dir.as_str().into()),
        (("Failed instance port", "failed_port"), u64::from(item.place.port).into()),
    ];
    if let Some(source) = &item.source {
        facts.extend([
            (("Recovery Source instance host", "source_host"), source.host.as_str().into()),
            (
                ("Recovery Source instance address", "source_address"),
                source.address.as_str().into(),
            ),
            (
                ("Recovery Source instance directory", "source_datadir"),
                source.data_dir.as_str().into(),
            ),
            (("Recovery Source instance port", "source_port"), u64::from(source.port).into()),
        ]);
    }
    match &item.target {
        None => facts.push((("Recovery Target", "target"), "in-place".into())),
        Some((to, _)) => facts.extend([
            (("Recovery Target instance host", "target_host"), to.host.as_str().into()),
            (("Recovery Target instance address", "target_address"), to.address.as_str().into()),
            (("Recovery Target instance directory", "target_datadir"), to.data_dir.as_str().into()),
            (("Recovery Target instance port", "target_port"), u64::from(to.port).into()),
        ]),
    }
    if item.begun {
        facts.push((("Under way", "begun"), true.into()));
    }
    facts
}
