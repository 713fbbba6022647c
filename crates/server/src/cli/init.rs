//! `outrigger init FILE`: a cluster is planned, shown, and made.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use outrigger_cluster::placement::{
    CATALOG, HostLoss, Layout, Outlook, Placed, Role, outlook, plan,
};
use outrigger_wal::ContentId;
use serde::Serialize;

use crate::config::{self, ClusterConfig};
use crate::error::{Error, Verdict};
use crate::found::found;
use crate::output::{Lines, confirm, say, say_json};

/// With fewer voters no majority is left when one is lost.
const ENOUGH_VOTERS: usize = 3;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The cluster's file, in TOML
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the plan and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short = 'a', long = "yes")]
    yes: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct PlanJson<'a> {
    cluster: &'a str,
    mirroring: String,
    hosts: usize,
    contents: usize,
    instances: Vec<InstanceJson<'a>>,
    losses: Vec<LossJson<'a>>,
    most_acting_primaries: usize,
    fatal_hosts: Vec<FatalJson<'a>>,
    fatal_pairs: Vec<FatalJson<'a>>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct InstanceJson<'a> {
    dbid: u16,
    content: i32,
    role: &'static str,
    host: &'a str,
    address: &'a str,
    port: u16,
    datadir: &'a str,
}

#[derive(Serialize)]
struct LossJson<'a> {
    lost: &'a str,
    acting_primaries: Vec<LoadJson<'a>>,
}

#[derive(Serialize)]
struct LoadJson<'a> {
    host: &'a str,
    before: usize,
    after: usize,
}

#[derive(Serialize)]
struct FatalJson<'a> {
    hosts: Vec<&'a str>,
    contents: Vec<i32>,
}

impl Init {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let config: ClusterConfig = config::read(&self.file)?;
        let layout = plan(&config.shape()).map_err(|refusal| Error::Plan {
            path: self.file.clone(),
            refusal: Box::new(refusal),
        })?;
        let outlook = outlook(&layout);
        if self.json {
            say_json(&as_json(&config.name, &layout, &outlook))?;
        } else {
            print(&config.name, &layout, &outlook)?;
        }
        if self.dry_run {
            return Ok(Verdict::Good);
        }
        if !self.yes && !confirm("Make this cluster?")? {
            return Ok(Verdict::Wrong);
        }
        let runtime = crate::process::runtime()?;
        let address = runtime.block_on(found(&config, &layout, !self.json))?;
        if !self.json {
            say(format_args!("connect to {address}"))?;
        }
        Ok(Verdict::Good)
    }
}

/// By content; the primary first.
fn rows(layout: &Layout) -> Vec<&Placed> {
    let mut rows: Vec<_> = layout.instances.iter().collect();
    rows.sort_by_key(|placed| (placed.content, placed.role));
    rows
}

const fn role(placed: &Placed) -> &'static str {
    match (placed.content, placed.role) {
        (CATALOG, Role::Primary) => "coordinator",
        (CATALOG, Role::Mirror) => "standby",
        (_, Role::Primary) => "primary",
        (_, Role::Mirror) => "mirror",
    }
}

fn notes(layout: &Layout) -> Vec<String> {
    let voters = layout.hosts.len();
    let has_standby = layout.copy(CATALOG, Role::Mirror).is_some();
    let few = (has_standby && voters < ENOUGH_VOTERS).then(|| {
        format!(
            "{voters} hosts vote on who is the coordinator: with fewer than {ENOUGH_VOTERS}, \
             activating the standby needs --force; a further host may have segments = false"
        )
    });
    let alone = (!has_standby).then(|| {
        "there is no standby: while the coordinator's host is lost, nothing fails over".to_owned()
    });
    few.into_iter().chain(alone).collect()
}

fn print(name: &str, layout: &Layout, outlook: &Outlook) -> Result<(), Error> {
    let mut lines = Lines::new();
    let contents = layout.segments(Role::Primary).len();
    lines.text(format_args!(
        "cluster {name}: {} hosts, {contents} contents, mirroring {}\n",
        layout.hosts.len(),
        layout.mirroring
    ))?;
    let mut instances = table(&["content", "role", "dbid", "host", "address", "port", "datadir"]);
    for placed in rows(layout) {
        let place = &placed.place;
        instances.add_row([
            placed.content.to_string(),
            role(placed).to_owned(),
            placed.dbid.to_string(),
            place.host.clone(),
            place.address.clone(),
            place.port.to_string(),
            place.data_dir.clone(),
        ]);
    }
    lines.text(format_args!("{}\n", trimmed(&instances)))?;
    let mut losses = table(&["lost host", "acting primaries on the survivors"]);
    for loss in &outlook.losses {
        losses.add_row([loss.host.clone(), load(loss)]);
    }
    lines.text(format_args!("{}", trimmed(&losses)))?;
    lines.text(format_args!(
        "most acting primaries on a host: {}\n",
        outlook.most_acting_primaries
    ))?;
    let mut fatal = table(&["fatal together", "contents without a copy"]);
    for alone in &outlook.fatal_hosts {
        fatal.add_row([format!("{} alone", alone.hosts), listed(&alone.contents)]);
    }
    for pair in &outlook.fatal_pairs {
        let (one, other) = &pair.hosts;
        fatal.add_row([format!("{one}, {other}"), listed(&pair.contents)]);
    }
    if fatal.is_empty() {
        lines.text(format_args!("no two hosts are fatal together"))?;
    } else {
        lines.text(format_args!("{}", trimmed(&fatal)))?;
    }
    for note in notes(layout) {
        lines.text(format_args!("\nnote: {note}"))?;
    }
    lines.finish()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    table
}

/// The table without the blanks at the ends of its lines.
fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Those that take over by name, the others by their number.
fn load(loss: &HostLoss) -> String {
    let gaining = loss.load.iter().filter(|load| load.after > load.before);
    let mut parts: Vec<String> =
        gaining.map(|load| format!("{} {}", load.host, load.after)).collect();
    let mut others: Vec<_> = loss.load.iter().filter(|load| load.after == load.before).collect();
    others.sort_by_key(|load| load.after);
    if let (Some(least), Some(most)) = (others.first(), others.last()) {
        let range = if least.after == most.after {
            least.after.to_string()
        } else {
            format!("{} to {}", least.after, most.after)
        };
        let whom = if parts.is_empty() { "all" } else { "others" };
        parts.push(format!("{whom} {range}"));
    }
    if parts.is_empty() { "there are none".to_owned() } else { parts.join(", ") }
}

fn listed(contents: &[ContentId]) -> String {
    let name = |content: &ContentId| {
        if *content == CATALOG { "the catalog".to_owned() } else { content.to_string() }
    };
    contents.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn as_json<'a>(name: &'a str, layout: &'a Layout, outlook: &'a Outlook) -> PlanJson<'a> {
    let instance = |placed: &'a Placed| InstanceJson {
        dbid: placed.dbid.0,
        content: placed.content.0,
        role: role(placed),
        host: &placed.place.host,
        address: &placed.place.address,
        port: placed.place.port,
        datadir: &placed.place.data_dir,
    };
    let loss = |loss: &'a HostLoss| LossJson {
        lost: &loss.host,
        acting_primaries: loss
            .load
            .iter()
            .map(|load| LoadJson { host: &load.host, before: load.before, after: load.after })
            .collect(),
    };
    let fatal = |hosts: Vec<&'a str>, contents: &[ContentId]| FatalJson {
        hosts,
        contents: contents.iter().map(|content| content.0).collect(),
    };
    PlanJson {
        cluster: name,
        mirroring: layout.mirroring.to_string(),
        hosts: layout.hosts.len(),
        contents: layout.segments(Role::Primary).len(),
        instances: rows(layout).into_iter().map(instance).collect(),
        losses: outlook.losses.iter().map(loss).collect(),
        most_acting_primaries: outlook.most_acting_primaries,
        fatal_hosts: outlook
            .fatal_hosts
            .iter()
            .map(|one| fatal(vec![one.hosts.as_str()], &one.contents))
            .collect(),
        fatal_pairs: outlook
            .fatal_pairs
            .iter()
            .map(|pair| fatal(vec![pair.hosts.0.as_str(), pair.hosts.1.as_str()], &pair.contents))
            .collect(),
        notes: notes(layout),
    }
}
