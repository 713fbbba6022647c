//! `outrigger add-mirrors` and `move-mirrors`.
//!
//! Guarantees: the plan is shown before anything is changed; a mirror is in sync in its new place before the old one
//! is dropped; the file that undoes a move is there before the move begins; whoever is killed and begun again
//! goes on. Not here: placement (cluster), following (recover).

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use outrigger_cluster::catalog::tables::{Dbid, Instance, Preferred};
use outrigger_cluster::operator::{ClusterState, Request};
use outrigger_cluster::placement::{
    Layout, Mirroring, Move, Place, Refusal, Role, add_mirrors, move_mirrors,
};
use outrigger_cluster::settings::of_mirroring;
use outrigger_wal::{ContentId, InstanceId};

use super::asking::{Asking, Consent};
use super::hosts::{claim, of_file, unknown};
use super::layout::{addresses_of, layout, new_row, numbered, place_of};
use super::page::{Cell, Name, Page, Row};
use super::recover::ended;
use super::recover::follow::{End, FULL, Show, follow};
use super::recover::leaving::gone;
use super::state::seats::{Pair, data_pairs};
use super::time::stamp;
use crate::error::{Error, Verdict};
use crate::output::complain;
use crate::process;

const PLAN: &[Name] = &[
    ("Content", "content"),
    ("Host", "host"),
    ("Address", "address"),
    ("Port", "port"),
    ("Datadir", "datadir"),
];
const MOVES: &[Name] = &[
    ("Content", "content"),
    ("From", "from"),
    ("Port", "from_port"),
    ("Datadir", "from_datadir"),
    ("To", "to"),
    ("Port", "to_port"),
    ("Datadir", "to_datadir"),
];

#[derive(Debug, Args)]
pub(super) struct AddMirrors {
    /// Spread the mirrors of each host over as many others as it has primaries; else all are on the next one
    #[arg(long)]
    spread: bool,
    /// The cluster's file: its hosts, ports and folders, instead of those that follow from what is there
    #[arg(long, value_name = "FILE.toml")]
    cluster: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct MoveMirrors {
    /// Which mirror goes where: `CONTENT|HOST|PORT|DATADIR` a line; `#` begins a comment
    #[arg(short = 'i', long = "input", value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

fn refused(refusal: Refusal) -> Error {
    Error::Denied { text: refusal.to_string() }
}

const fn show(asking: &Asking) -> Show {
    if asking.json { Show::Nothing } else { Show::Bars }
}

impl AddMirrors {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.add())
    }

    async fn add(self) -> Result<Verdict, Error> {
        let asking = &self.asking;
        let state = asking.state().await?;
        let mut before = layout(&state);
        let mut mirroring = if self.spread { Mirroring::Spread } else { Mirroring::Group };
        let mut hosts = Vec::new();
        if let Some(path) = &self.cluster {
            let (config, listed) = of_file(path)?;
            let shape = config.shape();
            if !self.spread && shape.mirroring != Mirroring::None {
                mirroring = shape.mirroring;
            }
            before.hosts = shape.hosts;
            before.ports.mirrors = shape.ports.mirrors;
            before.directories = shape.directories;
            hosts = unknown(&state, listed.into_iter().map(|(_, row)| row).collect());
        }
        let after = add_mirrors(&before, mirroring).map_err(|refusal| match refusal {
            Refusal::HasMirrors { .. } => Error::Denied {
                text: format!("{refusal}; `outrigger recover` follows mirrors that are being made"),
            },
            other => refused(other),
        })?;
        let rows = mirror_rows(&state, &after)?;
        let mut plan = Page::default();
        plan.line(format!("mirroring {mirroring}"));
        plan.rows("mirrors", "", PLAN, rows.iter().map(|(_, row)| planned(row)).collect());
        self.consent.to(&plan, asking.json, "Add these mirrors?")?;
        claim(asking, &state, &hosts).await?;
        let ids: Vec<_> = rows.iter().map(|(_, row)| (row.instance, FULL)).collect();
        asking.command(&Request::AddCopies { hosts, rows }).await?;
        let mut settings = vec![("mirroring", of_mirroring(mirroring))];
        if let Mirroring::Block { hosts } = mirroring {
            settings.push(("block_hosts", hosts as u64));
        }
        for (key, value) in settings {
            asking.command(&Request::Set { key: key.to_owned(), value }).await?;
        }
        let ends = follow(asking, &ids, show(asking)).await?;
        let (page, wrong) = ended(&ends);
        page.print(asking.json)?;
        Ok(Verdict::good_if(!wrong))
    }
}

/// Rows for the mirrors that a layout has and the cluster has not.
fn mirror_rows(state: &ClusterState, after: &Layout) -> Result<Vec<(Dbid, Instance)>, Error> {
    let rows = after.segments(Role::Mirror).into_iter().map(|placed| {
        let addresses = addresses_of(after, &placed.place.host);
        new_row((placed.content, Preferred::Mirror), &placed.place, addresses, 0)
    });
    Ok(numbered(state, rows.collect::<Result<_, Error>>()?))
}

fn planned(row: &Instance) -> Row {
    Row::new([
        Cell::Signed(i64::from(row.content.0)),
        row.host.as_str().into(),
        row.address().into(),
        u64::from(row.port()).into(),
        row.data_dir.as_str().into(),
    ])
}

/// Where one mirror goes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    number: usize,
    content: ContentId,
    host: String,
    port: u16,
    data_dir: String,
}

fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let mut lines: Vec<Line> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |cause: &str| (number, format!("{line:?}: {cause}"));
        let parts: Vec<_> = line.split('|').map(str::trim).collect();
        let [content, host, port, data_dir] = parts[..] else {
            return Err(wrong("give CONTENT|HOST|PORT|DATADIR"));
        };
        let content = content.parse().map_err(|_| wrong("the content is no number"))?;
        if content < 0 {
            return Err(wrong("the standby is moved by remove-standby and init-standby"));
        }
        let port = port.parse().map_err(|_| wrong("the port is no number"))?;
        if let Some(other) = lines.iter().find(|other| other.content.0 == content) {
            let cause = format!("names the content of line {} again", other.number);
            return Err(wrong(&cause));
        }
        let (host, data_dir) = (host.to_owned(), data_dir.to_owned());
        lines.push(Line { number, content: ContentId(content), host, port, data_dir });
    }
    Ok(lines)
}

/// A mirror on its way to another place.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Going {
    content: ContentId,
    old: Dbid,
    preferred: Preferred,
    from: Place,
    to: Place,
    /// Who takes its place, where that was begun before.
    new: Option<InstanceId>,
}

impl MoveMirrors {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.go())
    }

    async fn go(self) -> Result<Verdict, Error> {
        let asking = &self.asking;
        let path = &self.input;
        let wrong = |line, cause| Error::Config { path: path.clone(), line, cause };
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Error::file("cannot be read", path, cause))?;
        let lines = parse(&text).map_err(|(line, cause)| wrong(line, cause))?;
        let state = asking.state().await?;
        let layout = layout(&state);
        let mut going = Vec::new();
        for line in &lines {
            match moved(&state, &layout, line).map_err(|cause| wrong(line.number, cause))? {
                Some(one) => going.push(one),
                None => complain(format_args!(
                    "warning: {}: line {}: the mirror of content {} is there already",
                    path.display(),
                    line.number,
                    line.content
                )),
            }
        }
        if going.is_empty() {
            asking.tell("no mirror is moved")?;
            return Ok(Verdict::Good);
        }
        let fresh = going.iter().filter(|one| one.new.is_none());
        let moves: Vec<_> = fresh.map(|one| Move { dbid: one.old, to: one.to.clone() }).collect();
        move_mirrors(&layout, &moves).map_err(refused)?;
        let mut plan = Page::default();
        plan.rows("moves", "", MOVES, going.iter().map(row_of).collect());
        self.consent.to(&plan, asking.json, "Move these mirrors?")?;
        let back = write_back(path, &going)?;
        let mut rows = Vec::new();
        for one in going.iter_mut().filter(|one| one.new.is_none()) {
            let row = new_row(
                (one.content, one.preferred),
                &one.to,
                addresses_of(&layout, &one.to.host),
                0,
            )?;
            one.new = Some(row.instance);
            rows.push(row);
        }
        if !rows.is_empty() {
            let rows = numbered(&state, rows);
            asking.command(&Request::AddCopies { hosts: Vec::new(), rows }).await?;
        }
        let ids: Vec<_> = going.iter().filter_map(|one| Some((one.new?, FULL))).collect();
        let ends = follow(asking, &ids, show(asking)).await?;
        // ORDER: the new mirror is in sync before the old one goes.
        let dbids = arrived(&going, &ends);
        let (mut page, wrong) = ended(&ends);
        if !dbids.is_empty() {
            asking.command(&Request::DropCopies { dbids: dbids.clone() }).await?;
            gone(asking, &dbids, &mut page).await?;
        }
        page.remark("notes", format!("to undo it: outrigger move-mirrors -i {}", back.display()));
        page.print(asking.json)?;
        Ok(Verdict::good_if(!wrong))
    }
}

/// What a line asks for; `None`: it is so already.
fn moved(state: &ClusterState, layout: &Layout, line: &Line) -> Result<Option<Going>, String> {
    let pairs = data_pairs(state);
    let Some(pair) = pairs.iter().find(|pair| pair.content == line.content) else {
        return Err(format!("there is no content {}", line.content));
    };
    let Some(host) = layout.host(&line.host) else {
        return Err(format!("there is no host {:?}", line.host));
    };
    let mut mirrors: Vec<_> = pair.mirrors().filter(|seat| !seat.is_going()).collect();
    mirrors.sort_by_key(|seat| seat.dbid());
    let to = Place {
        host: line.host.clone(),
        address: other_network(layout, pair, &host.addresses),
        port: line.port,
        data_dir: line.data_dir.clone(),
    };
    let is_there = |place: Place| {
        (&place.host, place.port, &place.data_dir) == (&to.host, to.port, &to.data_dir)
    };
    let there = mirrors.iter().find(|seat| is_there(place_of(seat)));
    let old = mirrors.iter().find(|seat| !is_there(place_of(seat)));
    let Some((old, dbid)) = old.and_then(|seat| Some((seat, seat.dbid()?))) else {
        return match there {
            Some(_) => Ok(None),
            None => Err(format!("content {} has no mirror", line.content)),
        };
    };
    Ok(Some(Going {
        content: line.content,
        old: dbid,
        preferred: if old.prefers_primary() { Preferred::Primary } else { Preferred::Mirror },
        from: place_of(old),
        to,
        new: there.map(|seat| seat.id()),
    }))
}

/// The address behind the primary's, counted round, so that one network's loss does not part the pair.
fn other_network(layout: &Layout, pair: &Pair<'_>, addresses: &[String]) -> String {
    let primary = pair.primary();
    let index = primary.and_then(|seat| {
        let host = layout.host(seat.host())?;
        host.addresses.iter().position(|address| address == seat.address())
    });
    let index = index.map_or(0, |index| index + 1);
    addresses.iter().cycle().nth(index % addresses.len().max(1)).cloned().unwrap_or_default()
}

fn row_of(one: &Going) -> Row {
    Row::new([
        Cell::Signed(i64::from(one.content.0)),
        one.from.host.as_str().into(),
        u64::from(one.from.port).into(),
        one.from.data_dir.as_str().into(),
        one.to.host.as_str().into(),
        u64::from(one.to.port).into(),
        one.to.data_dir.as_str().into(),
    ])
}

/// The old copies of those that are in sync in their new places.
fn arrived(going: &[Going], ends: &[End]) -> Vec<Dbid> {
    let good = |id| ends.iter().any(|end| Some(end.instance) == id && end.failed.is_none());
    going.iter().filter(|one| good(one.new)).map(|one| one.old).collect()
}

/// The lines that undo these moves.
fn inverse(going: &[Going]) -> String {
    let line = |one: &Going| {
        let from = &one.from;
        format!("{}|{}|{}|{}\n", one.content, from.host, from.port, from.data_dir)
    };
    going.iter().map(line).collect()
}

fn write_back(path: &Path, going: &[Going]) -> Result<PathBuf, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    let mut name = path.as_os_str().to_owned();
    name.push(format!("_backout_{}", stamp(micros)));
    let back = PathBuf::from(name);
    std::fs::write(&back, inverse(going))
        .map_err(|cause| Error::file("cannot be written", &back, cause))?;
    Ok(back)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::world;
    use super::*;

    fn line(content: i32, host: &str, port: u16, data_dir: &str) -> Line {
        let (host, data_dir) = (host.to_owned(), data_dir.to_owned());
        Line { number: 1, content: ContentId(content), host, port, data_dir }
    }

    fn three_hosts() -> ClusterState {
        let mut state = world::healthy();
        let mut third = state.hosts[1].clone();
        third.host.name = "sdw3".to_owned();
        third.host.addresses = vec!["127.0.0.3".to_owned()];
        state.hosts.push(third);
        state
    }

    #[test]
    fn mirrors_of_a_cluster_without_are_planned_from_what_is_there() {
        let state = world::without_mirrors();
        let after = add_mirrors(&layout(&state), Mirroring::Group).unwrap();
        let rows = mirror_rows(&state, &after).unwrap();
        let places: Vec<_> = rows
            .iter()
            .map(|(dbid, row)| {
                (dbid.0, row.content.0, row.host.as_str(), row.port(), row.data_dir.as_str())
            })
            .collect();
        assert_eq!(
            places,
            [
                (7, 0, "sdw2", 6002, "/data/sdw2/mirror/gpseg0"),
                (8, 1, "sdw1", 6002, "/data/sdw1/mirror/gpseg1"),
            ]
        );
        assert_ne!(rows[0].1.instance, rows[1].1.instance);
        assert!(matches!(
            add_mirrors(&layout(&world::healthy()), Mirroring::Group),
            Err(Refusal::HasMirrors { .. })
        ));
    }

    #[test]
    fn the_settings_say_where_mirrors_listen() {
        let mut state = world::without_mirrors();
        state.settings.push(("mirror_port_base".to_owned(), 9000));
        let after = add_mirrors(&layout(&state), Mirroring::Group).unwrap();
        assert_eq!(mirror_rows(&state, &after).unwrap()[0].1.port(), 9000);
    }

    #[test]
    fn a_move_names_the_old_copy_and_is_undone_by_its_inverse() {
        let state = three_hosts();
        let layout = layout(&state);
        let there = line(0, "sdw3", 8000, "/data/sdw3/mirror/gpseg0");
        let going = moved(&state, &layout, &there).unwrap().unwrap();
        assert_eq!((going.old, going.new, going.to.address.as_str()), (Dbid(4), None, "127.0.0.3"));
        let back = inverse(std::slice::from_ref(&going));
        assert_eq!(back, "0|sdw2|8000|/data/sdw2/mirror/gpseg0\n");
        assert_eq!(parse(&back).unwrap(), [line(0, "sdw2", 8000, "/data/sdw2/mirror/gpseg0")]);
        let here = line(0, "sdw2", 8000, "/data/sdw2/mirror/gpseg0");
        assert_eq!(moved(&state, &layout, &here), Ok(None), "it is there already");
        assert!(moved(&state, &layout, &line(7, "sdw3", 8000, "/d")).is_err());
        assert!(moved(&state, &layout, &line(0, "sdw9", 8000, "/d")).is_err());
    }

    #[test]
    fn a_move_that_was_interrupted_is_followed_and_not_begun_again() {
        // The new mirror has its row; the command was killed before the old one was dropped.
        let mut state = three_hosts();
        let mut new = world::instance(&mut state, 4).clone();
        new.dbid = Dbid(7);
        new.row.instance = InstanceId(7);
        new.row.host = "sdw3".to_owned();
        new.row.addresses = vec!["127.0.0.3:8000".to_owned()];
        new.row.data_dir = "/data/sdw3/mirror/gpseg0".to_owned();
        let mut copy = state.contents[1].copies[1].clone();
        copy.instance = InstanceId(7);
        state.contents[1].copies.push(copy);
        state.instances.push(new);
        let there = line(0, "sdw3", 8000, "/data/sdw3/mirror/gpseg0");
        let going = moved(&state, &layout(&state), &there).unwrap().unwrap();
        assert_eq!((going.old, going.new), (Dbid(4), Some(InstanceId(7))));
        assert!(layout(&state).check().is_ok(), "the older mirror counts");
    }

    #[test]
    fn a_mirror_never_goes_to_its_primary_s_host() {
        let state = three_hosts();
        let layout = layout(&state);
        let going = moved(&state, &layout, &line(0, "sdw1", 8009, "/data/x")).unwrap().unwrap();
        let refusal = move_mirrors(&layout, &[Move { dbid: going.old, to: going.to }]).unwrap_err();
        assert!(matches!(refusal, Refusal::SameHost { .. }), "{refusal}");
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        for wrong in ["0|sdw1|8000", "x|sdw1|8000|/d", "0|sdw1|x|/d", "-1|sdw1|8000|/d"] {
            assert_eq!(parse(&format!("# file\n{wrong}")).unwrap_err().0, 2, "{wrong}");
        }
        let twice = parse("0|a|1|/d\n0|b|1|/d\n").unwrap_err();
        assert!(twice.0 == 2 && twice.1.contains("line 1"), "{twice:?}");
    }
}
