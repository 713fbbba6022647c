//! `outrigger state`: how the cluster stands, in tables that WarehousePG's administrators know.
//!
//! Guarantees: exit code 1 with `-e`, `-m`, `-Q` and `-s` when something is wrong, by what that table shows.
//! Not here: what the coordinator knows (cluster).
//!
//! # Layout
//! - `seats`: contents and their copies
//! - `problems`: `-e`
//! - `tables`: `-m`, `-c`, `-Q`, `-p`
//! - `details`: `-b`, `-s`, `-f`
//! - `contents`: every content and copy, in the JSON form

mod contents;
mod details;
pub(super) mod problems;
pub(super) mod seats;
pub(super) mod tables;
#[cfg(test)]
pub(super) mod tests;

use clap::Args;
use outrigger_cluster::operator::ClusterState;
use serde_json::{Map, Value, json};

use super::asking::Asking;
use super::page::Page;
use crate::error::{Error, Verdict};
use crate::output::{say, say_json};
use crate::process;

#[derive(Debug, Args)]
pub(super) struct State {
    #[command(flatten)]
    view: View,
    #[command(flatten)]
    asking: Asking,
}

/// Which table.
#[derive(Clone, Copy, Default, Debug, Args)]
#[group(multiple = false)]
struct View {
    /// Counts, and each content's acting primary (the default)
    #[arg(short = 'b')]
    brief: bool,
    /// Each segment in detail; exit code 1 when something is wrong
    #[arg(short = 's')]
    segments: bool,
    /// What is not as it should be; exit code 1 when something is not
    #[arg(short = 'e')]
    problems: bool,
    /// The mirrors; exit code 1 when one has failed, acts as primary or is not in sync
    #[arg(short = 'm')]
    mirrors: bool,
    /// Each primary with its mirror
    #[arg(short = 'c')]
    map: bool,
    /// The standby coordinator
    #[arg(short = 'f')]
    standby: bool,
    /// What the catalog alone says; exit code 1 when it says that a segment is down
    #[arg(short = 'Q')]
    configured: bool,
    /// Who listens on which port
    #[arg(short = 'p')]
    ports: bool,
}

impl View {
    fn page(self, state: &ClusterState) -> (Page, bool) {
        if self.problems {
            problems::page(state)
        } else if self.mirrors {
            tables::mirrors(state)
        } else if self.configured {
            tables::configured(state)
        } else if self.segments {
            (details::detailed(state), problems::is_wrong(state))
        } else if self.map {
            (tables::map(state), false)
        } else if self.standby {
            (details::standby(state), false)
        } else if self.ports {
            (tables::ports(state), false)
        } else {
            (details::brief(state), false)
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self { problems: true, .. } => "problems",
            Self { mirrors: true, .. } => "mirrors",
            Self { configured: true, .. } => "configured",
            Self { segments: true, .. } => "segments",
            Self { map: true, .. } => "map",
            Self { standby: true, .. } => "standby",
            Self { ports: true, .. } => "ports",
            _ => "brief",
        }
    }
}

impl State {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let state = process::runtime()?.block_on(self.asking.state())?;
        let (page, wrong) = self.view.page(&state);
        if self.asking.json {
            say_json(&as_json(&state, self.view, &page, wrong))?;
        } else {
            say(format_args!("{}", page.text()))?;
        }
        Ok(Verdict::good_if(!wrong))
    }
}

/// What every table's JSON says first, then the table, then, without an option, every content and copy.
fn as_json(state: &ClusterState, view: View, page: &Page, wrong: bool) -> Value {
    let mut object = Map::new();
    object.insert("view".to_owned(), json!(view.name()));
    object.insert("cluster".to_owned(), json!(state.cluster.to_string()));
    object.insert("coordinator_epoch".to_owned(), json!(state.coordinator_epoch));
    object.insert("wrong".to_owned(), json!(wrong));
    for (key, value) in page.json() {
        // The counts' own block of that name would hide the identity.
        let key = if key == "cluster" { "overview".to_owned() } else { key };
        object.insert(key, value);
    }
    if view.name() == "brief" {
        object.insert("contents".to_owned(), contents::json(state));
        let expanding = state
            .expanding
            .map(|(moved, planned)| json!({ "buckets_moved": moved, "buckets_planned": planned }));
        object.insert("expanding".to_owned(), json!(expanding));
    }
    Value::Object(object)
}
