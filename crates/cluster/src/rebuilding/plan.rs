//! What follows from what was found: a catalog, where its coordinator goes, and what is in doubt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use outrigger_net::config::Config;
use outrigger_replica::control::Identity;
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId, Lsn};

use super::found::{Found, newest_kept, runs, whole, why_not};
use super::refusal::{Doubt, Refusal};
use crate::agent::{Accepted, Data, Order};
use crate::buckets::MapVersion;
use crate::catalog::record::MAX_RESTORED_BYTES;
use crate::catalog::tables::{Dbid, History, Instance, Preferred, Up, Wanted};
use crate::catalog::{Content as Row, Keepsake, State, encode_image};
use crate::coordinator::{CATALOG, PROVED, SETTLED, UNPROVED, VERSIONS_A_REIGN};
use crate::error::CodecError;
use crate::register::Register;

/// Whether what is in the way is given up for lost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Force {
    /// A copy of the catalog, missing voters or an unknown coordinator refuse it.
    #[default]
    No,
    /// An administrator knows that no other coordinator acts, and gives every copy of the catalog up.
    Yes,
}

/// Where the coordinator is wanted; where nothing is said, where it was.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Seat {
    /// On which host.
    pub host: Option<String>,
    /// In which data directory.
    pub data_dir: Option<String>,
    /// The identity of the new coordinator: fresh.
    pub instance: InstanceId,
}

/// What is recorded for a content, and who said so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// Which.
    pub content: ContentId,
    /// Its configuration.
    pub config: Config,
    /// How many of its copies have reported.
    pub reported: usize,
}

/// How a catalog is made anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The cluster.
    pub cluster: ClusterId,
    /// The catalog; its map of rows has no version of the new reign yet.
    pub state: State,
    /// The coordinator's number.
    pub dbid: Dbid,
    /// Its row.
    pub coordinator: Instance,
    /// The addresses of the voters' agents.
    pub voters: Vec<Vec<String>>,
    /// What is recorded for each content.
    pub contents: Vec<Content>,
    /// Copies of the old catalog that agents remember: host, number, whether it runs. They are stopped and forgotten.
    pub forget: Vec<(String, Dbid, bool)>,
    /// A number that is above every coordinator's that was heard of.
    pub above_epoch: u64,
    /// What could not be proved.
    pub doubts: Vec<Doubt>,
}

/// Works out the catalog.
///
/// # Errors
/// [`Refusal`].
pub fn plan(found: &Found, seat: &Seat, force: Force) -> Result<Plan, Refusal> {
    let (cluster, kept, holder) = newest_kept(&found.hosts)?;
    if kept.rows.up == Up::Founding {
        return Err(Refusal::NotMade);
    }
    let mut doubts: Vec<_> = found
        .silent
        .iter()
        .map(|(host, why)| Doubt::Silent { host: host.clone(), why: why.clone() })
        .collect();
    fenced(found, force, &mut doubts)?;
    let forget = given_up(found, force, &mut doubts)?;
    let rows = &holder.kept;
    doubts.push(Doubt::Rows { host: holder.host.clone(), epoch: rows.coordinator_epoch });
    let (dbid, coordinator) = place(found, &kept, seat)?;
    let mut making = Making { found, kept: &kept, cluster, contents: Vec::new(), doubts };
    let mut state = making.state()?;
    state.instances.insert(dbid, coordinator.clone());
    if let Some(map) = state.map.as_deref().filter(|map| map.moves().next().is_some()) {
        making.doubts.push(Doubt::Moving { buckets: map.moves().count() });
    }
    let Making { contents, mut doubts, .. } = making;
    doubts.extend([Doubt::NoStandby, Doubt::History]);
    state.history = noted(&doubts);
    let above_epoch = found.highest_coordinator().max(found.voters.promised);
    let voters = kept.voters.clone();
    Ok(Plan { cluster, state, dbid, coordinator, voters, contents, forget, above_epoch, doubts })
}

/// Whether a majority of the voters can be asked, and knows of every coordinator.
fn fenced(found: &Found, force: Force, doubts: &mut Vec<Doubt>) -> Result<(), Refusal> {
    let voters = &found.voters;
    let (answered, all) = (voters.answered, voters.voters);
    let heard = found.highest_coordinator();
    if force == Force::No && answered <= all / 2 {
        return Err(Refusal::NoMajority { answered, voters: all });
    }
    if force == Force::No && heard > voters.promised {
        return Err(Refusal::UnknownCoordinator { heard, promised: voters.promised });
    }
    if answered < all {
        doubts.push(Doubt::Voters { answered, voters: all });
    }
    Ok(())
}

/// Copies of the old catalog: none may be there, unless it is given up.
fn given_up(
    found: &Found,
    force: Force,
    doubts: &mut Vec<Doubt>,
) -> Result<Vec<(String, Dbid, bool)>, Refusal> {
    let newest = &found.voters.newest;
    let mut forget = Vec::new();
    for (host, holding) in found.catalogs() {
        let (dbid, instance) = (holding.dbid, holding.order.instance);
        let running = runs(&holding.process);
        // One that was replaced or removed before holds an older catalog: nobody may start it.
        let counts = newest.copy(instance).is_some();
        let there = whole(host.cluster, holding).is_some();
        if counts && there {
            if force == Force::No {
                let acting = newest.primary == instance;
                let first = holding.order.addresses.first().cloned().unwrap_or_default();
                let (role, advice) = if acting {
                    ("coordinator", format!("`outrigger start --agent {}` starts it", host.agent))
                } else {
                    let verb = format!("`outrigger activate-standby --standby {first}`");
                    ("standby", format!("{verb} makes it the coordinator"))
                };
                let path = holding.order.data_dir.clone();
                return Err(Refusal::CatalogThere {
                    host: host.host.clone(),
                    dbid,
                    role,
                    path,
                    advice,
                });
            }
            doubts.push(Doubt::GivenUp { host: host.host.clone(), dbid });
        } else if counts && running && force == Force::No {
            let (host, path) = (host.host.clone(), holding.order.data_dir.clone());
            return Err(Refusal::CatalogRuns { host, dbid, path });
        }
        forget.push((host.host.clone(), dbid, running));
    }
    Ok(forget)
}

/// The coordinator's row: where the old one was, unless somewhere else is asked for.
fn place(found: &Found, kept: &Keepsake, seat: &Seat) -> Result<(Dbid, Instance), Refusal> {
    let catalogs = || kept.rows.instances.iter().filter(|(_, row)| row.content == CATALOG);
    let was = catalogs().find(|(_, row)| row.instance == found.voters.newest.primary);
    let was = was.or_else(|| catalogs().find(|(_, row)| row.preferred == Preferred::Primary));
    let host = seat.host.clone().or_else(|| was.map(|(_, row)| row.host.clone()));
    let host = host.unwrap_or_default();
    let no = |why: &str| Refusal::NoPlace { host: host.clone(), why: why.to_owned() };
    let row = kept.rows.hosts.get(&host).ok_or_else(|| no("there is no such host"))?;
    let there = found.hosts.iter().find(|at| at.host == host);
    let there = there.ok_or_else(|| no("its agent did not answer"))?;
    let same = was.filter(|(_, row)| row.host == host);
    let data_dir = seat.data_dir.clone().or_else(|| same.map(|(_, row)| row.data_dir.clone()));
    let data_dir = data_dir.ok_or_else(|| no("give the data directory too, with --data-dir"))?;
    let taken = there.instances.iter().find(|at| at.order.data_dir == data_dir);
    if let Some(taken) = taken {
        let why = match &taken.data {
            Data::Nothing if taken.order.content == CATALOG => None,
            Data::Nothing => Some(format!("it is instance {}'s", taken.dbid)),
            Data::Unreadable { why } => Some(why.clone()),
            Data::Copy(copy) => Some(format!("it holds instance {}", copy.identity.instance)),
        };
        if let Some(why) = why {
            return Err(Refusal::PlaceTaken { host, path: data_dir, why });
        }
    }
    let port = was.map(|(_, row)| row.port()).filter(|port| *port > 0);
    let port = port.ok_or_else(|| no("nobody knows the coordinator's port"))?;
    let addresses = match same {
        Some((_, row)) => row.addresses.clone(),
        None => row.addresses.iter().map(|address| format!("{address}:{port}")).collect(),
    };
    let dbid = was.map_or(Dbid(1), |(dbid, _)| *dbid);
    let coordinator = Instance {
        content: CATALOG,
        instance: seat.instance,
        preferred: Preferred::Primary,
        host,
        addresses,
        data_dir,
        wanted: Wanted::New,
        run: 1,
        max_rate_bytes: 0,
    };
    Ok((dbid, coordinator))
}

struct Making<'a> {
    found: &'a Found,
    kept: &'a Keepsake,
    cluster: ClusterId,
    contents: Vec<Content>,
    doubts: Vec<Doubt>,
}

impl Making<'_> {
    fn state(&mut self) -> Result<State, Refusal> {
        let mut state = State { cluster: Some(self.cluster), ..self.kept.rows.clone() };
        state.instances.retain(|_, row| row.content != CATALOG);
        self.add_unknown(&mut state);
        let wanted: BTreeSet<_> = state.instances.values().map(|row| row.content).collect();
        for content in wanted {
            match self.content(content, &state)? {
                Some(row) => drop(state.contents.insert(content, row)),
                None => state.instances.retain(|_, row| row.content != content),
            }
        }
        for (dbid, row) in &state.instances {
            let config = state.contents.get(&row.content).and_then(|at| at.register.config());
            if config.is_some_and(|config| config.copy(row.instance).is_none()) {
                self.doubts.push(Doubt::NotACopy { dbid: *dbid, content: row.content });
            }
        }
        Ok(state)
    }

    /// What an agent was told last is at least as new as what it keeps: rows that it alone knows, and higher numbers.
    fn add_unknown(&self, state: &mut State) {
        for (host, holding) in self.found.holdings() {
            let order = &holding.order;
            if order.content == CATALOG {
                continue;
            }
            match state.instances.get_mut(&holding.dbid) {
                Some(row) if row.instance == order.instance => row.run = row.run.max(order.run),
                Some(_) => {}
                // One that was removed since is gone; one that a configuration names is missed below.
                None if order.wanted == Wanted::Gone || !self.is_named(order) => {}
                None => {
                    let row = row_of(order, host.host.clone());
                    state.instances.insert(holding.dbid, row);
                }
            }
        }
    }

    fn is_named(&self, order: &Order) -> bool {
        let newest = self.newest(order.content).ok().flatten();
        newest.is_some_and(|config| config.copy(order.instance).is_some())
    }

    /// The newest configuration that a copy of a content has accepted.
    fn newest(&self, content: ContentId) -> Result<Option<Config>, Refusal> {
        let configs = || self.found.copies(content).filter_map(|(_, copy)| copy.config.as_ref());
        let Some(newest) = configs().max_by_key(|config| config.version) else { return Ok(None) };
        if configs().any(|config| config.version == newest.version && config != newest) {
            return Err(Refusal::TwoValues { content, version: newest.version });
        }
        let newer = |(_, copy): &(InstanceId, &Accepted)| {
            copy.version > newest.version || copy.epoch.number > newest.epoch.number
        };
        if let Some((instance, copy)) = self.found.copies(content).find(newer) {
            let (heard, epoch) = (copy.version, copy.epoch.number);
            let newest = newest.version;
            return Err(Refusal::HeardOfNewer { content, instance, heard, epoch, newest });
        }
        Ok(Some(newest.clone()))
    }

    fn content(&mut self, content: ContentId, state: &State) -> Result<Option<Row>, Refusal> {
        let Some(config) = self.newest(content)? else {
            let missing = self.missing(state, content, None);
            if self.holds_rows(content) || !self.found.silent.is_empty() {
                return Err(Refusal::NoConfiguration { content, missing });
            }
            self.doubts.push(Doubt::NeverMade { content });
            return Ok(None);
        };
        let rowless = config.copies.iter().find(|copy| state.row_of(copy.instance).is_none());
        if let Some(copy) = rowless {
            return Err(Refusal::NoRow { content, instance: copy.instance });
        }
        let missing = self.missing(state, content, Some(&config));
        let reported = config.copies.len().saturating_sub(missing.len());
        if !missing.is_empty() {
            self.doubts.push(Doubt::NotReported { content, missing });
        }
        let mut heard = BTreeMap::new();
        let mut about = Identity::default();
        for (instance, copy) in self.found.copies(content) {
            about = copy.identity;
            if let Some(known) = config.copy(instance) {
                heard.insert(instance, known.durable.max(copy.durable));
            }
        }
        let Identity { log, segment_bytes, .. } = about;
        let register = Register::from_parts(Some(config.clone()), heard);
        self.contents.push(Content { content, config, reported });
        Ok(Some(Row { log, segment_bytes, register }))
    }

    /// The copies of a content that say nothing, and why.
    fn missing(
        &self,
        state: &State,
        content: ContentId,
        config: Option<&Config>,
    ) -> Vec<(Dbid, String)> {
        let rows = state.instances.iter().filter(|(_, row)| {
            let named = config.is_none_or(|config| config.copy(row.instance).is_some());
            row.content == content && named
        });
        let silent = rows.filter_map(|(dbid, row)| {
            let mut holdings = self.found.holdings();
            let held = holdings.find(|(_, holding)| holding.order.instance == row.instance);
            let why = match held {
                Some((host, holding)) => why_not(host.cluster, holding)?,
                None => format!("host {} did not answer for it", row.host),
            };
            Some((*dbid, why))
        });
        silent.collect()
    }

    fn holds_rows(&self, content: ContentId) -> bool {
        let Some(map) = &self.kept.rows.map else { return true };
        let mut moves = map.moves();
        map.counts().contains_key(&content)
            || moves.any(|(one, _)| one.to == content || one.from == content)
    }
}

fn row_of(order: &Order, host: String) -> Instance {
    Instance {
        content: order.content,
        instance: order.instance,
        // Nobody knows: a mirror takes no reign by being preferred.
        preferred: Preferred::Mirror,
        host,
        addresses: order.addresses.clone(),
        data_dir: order.data_dir.clone(),
        wanted: order.wanted,
        run: order.run,
        max_rate_bytes: order.max_rate_bytes,
    }
}

fn noted(doubts: &[Doubt]) -> VecDeque<History> {
    let rebuilt =
        "the catalog was lost, and rebuilt from what agents, instances and voters hold".to_owned();
    let texts =
        std::iter::once(rebuilt).chain(doubts.iter().map(|doubt| format!("not proved: {doubt}")));
    let row = |description: String| {
        let description = crate::catalog::tables::cut(description);
        History { at: 0, dbid: Dbid(0), description }
    };
    texts.map(row).collect()
}

impl Plan {
    /// The same with this coordinator: number and row.
    #[must_use]
    pub fn at(mut self, (dbid, row): (Dbid, Instance)) -> Self {
        self.state.instances.remove(&self.dbid);
        self.state.instances.insert(dbid, row.clone());
        Self { dbid, coordinator: row, ..self }
    }

    /// Lists these too: they were found before it was begun.
    pub fn also<'a>(&mut self, doubts: impl Iterator<Item = &'a Doubt>) {
        let doubts: Vec<_> = doubts.filter(|doubt| !self.doubts.contains(doubt)).cloned().collect();
        self.doubts.extend(doubts);
        self.state.history = noted(&self.doubts);
    }

    /// The bytes of the catalog, for a coordinator that begins in this epoch of the voters or in a later one.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`].
    pub fn body(&self, epoch: u64) -> Result<Bytes, Refusal> {
        let mut state = self.state.clone();
        // Unlike any mark of an earlier reign: what was settled by then is settled no more.
        state.settings.retain(|key, _| key != PROVED && !key.starts_with(SETTLED));
        state.settings.insert(UNPROVED.to_owned(), epoch.max(1));
        if let Some(map) = &mut state.map {
            // Above every version that a content was told of: earlier reigns gave lower ones.
            Arc::make_mut(map).raise(MapVersion(epoch.saturating_mul(VERSIONS_A_REIGN)));
        }
        let body = encode_image(&state, Lsn::ZERO).map_err(Refusal::TooLarge)?;
        if body.len() > MAX_RESTORED_BYTES {
            return Err(Refusal::TooLarge(CodecError::TooLong {
                what: "the body of a catalog",
                found: body.len(),
                cap: MAX_RESTORED_BYTES,
            }));
        }
        Ok(body)
    }

    /// What the agent of the coordinator's host is told: to make it, and to start it.
    #[must_use]
    pub fn order(&self, log: LogId, segment_bytes: u64) -> Order {
        Order {
            content: CATALOG,
            instance: self.coordinator.instance,
            log,
            segment_bytes,
            addresses: self.coordinator.addresses.clone(),
            data_dir: self.coordinator.data_dir.clone(),
            wanted: Wanted::New,
            run: 1,
            coordinators: self.coordinator.addresses.clone(),
            voters: self.voters.clone(),
            source: Vec::new(),
            max_rate_bytes: 0,
            settings: Vec::new(),
        }
    }
}
