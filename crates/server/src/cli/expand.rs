//! `outrigger expand`: new hosts with their primaries and mirrors.
//!
//! Guarantees: the plan is shown before anything is changed; hosts that are there stay as they are. Not here: how rows
//! move to new contents (cluster).

use std::path::PathBuf;

use clap::Args;
use outrigger_cluster::catalog::tables::{Dbid, Instance, Preferred, Wanted};
use outrigger_cluster::operator::{ClusterState, Founding, Request};
use outrigger_cluster::placement::{Host, Layout, Mirroring, Role, expand};

use super::asking::{Asking, Consent};
use super::hosts::{claim, of_file, unknown};
use super::layout::{addresses_of, layout, new_row, next_dbid};
use super::page::{Cell, Name, Page, Row};
use super::state::seats::CATALOG;
use crate::error::{Error, Verdict};
use crate::process;

const PLAN: &[Name] = &[
    ("Dbid", "dbid"),
    ("Content", "content"),
    ("Role", "role"),
    ("Host", "host"),
    ("Address", "address"),
    ("Port", "port"),
    ("Datadir", "datadir"),
];

#[derive(Debug, Args)]
pub(super) struct Expand {
    /// The cluster's file with the new hosts in it
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Spread the mirrors of each new host over the other new ones; else all are on the next one
    #[arg(long)]
    spread: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

impl Expand {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.expand())
    }

    async fn expand(self) -> Result<Verdict, Error> {
        let asking = &self.asking;
        let (config, listed) = of_file(&self.file)?;
        let state = asking.state().await?;
        let mut before = layout(&state);
        before.directories = config.shape().directories;
        let (planned, hosts): (Vec<Host>, Vec<_>) = listed.into_iter().unzip();
        let hosts = unknown(&state, hosts);
        let fresh: Vec<_> =
            planned.into_iter().filter(|host| before.host(&host.name).is_none()).collect();
        let mirroring = match (before.segments(Role::Mirror).is_empty(), self.spread) {
            (true, false) => Mirroring::None,
            (_, true) => Mirroring::Spread,
            (false, false) => Mirroring::Group,
        };
        let after = expand(&before, &fresh, mirroring)
            .map_err(|refusal| Error::Denied { text: refusal.to_string() })?;
        let rows = rows(&state, &before, &after)?;
        let mut plan = Page::default();
        plan.line(format!("{} new hosts, mirroring {mirroring}", fresh.len()));
        plan.rows("instances", "", PLAN, rows.iter().map(planned_row).collect());
        self.consent.to(&plan, asking.json, "Expand the cluster?")?;
        claim(asking, &state, &hosts).await?;
        let segment_bytes = config.segment_bytes;
        let founding = Founding { hosts, rows, segment_bytes, settings: Vec::new() };
        let text = asking.command(&Request::Expand(founding)).await?;
        asking.tell(&text)?;
        Ok(Verdict::Good)
    }
}

/// Rows for what the layout has more than before.
fn rows(
    state: &ClusterState,
    before: &Layout,
    after: &Layout,
) -> Result<Vec<(Dbid, Instance)>, Error> {
    let added = after
        .instances
        .iter()
        .filter(|placed| placed.content != CATALOG && before.instance(placed.dbid).is_none());
    let rows = added.map(|placed| {
        let preferred = match placed.role {
            Role::Primary => Preferred::Primary,
            Role::Mirror => Preferred::Mirror,
        };
        let row = new_row(
            (placed.content, preferred),
            &placed.place,
            addresses_of(after, &placed.place.host),
            0,
        )?;
        // There is nothing to copy: each is made with an empty log.
        Ok(Instance { wanted: Wanted::New, ..row })
    });
    let rows = rows.collect::<Result<Vec<_>, Error>>()?;
    Ok((next_dbid(state)..).map(Dbid).zip(rows).collect())
}

fn planned_row((dbid, row): &(Dbid, Instance)) -> Row {
    let role = if row.preferred == Preferred::Primary { "primary" } else { "mirror" };
    Row::new([
        u64::from(dbid.0).into(),
        Cell::Signed(i64::from(row.content.0)),
        role.into(),
        row.host.as_str().into(),
        row.address().into(),
        u64::from(row.port()).into(),
        row.data_dir.as_str().into(),
    ])
}
