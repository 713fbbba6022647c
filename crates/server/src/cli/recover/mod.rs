//! `outrigger recover`: copies that are out come back, in place or elsewhere; `-r`: every instance gets its role back.
//!
//! Guarantees: the plan is shown before anything is changed; whoever is killed and begun again goes on; a copy that
//! goes to another place is in sync there before the old one is dropped. Not here: the ways back (cluster,
//! replica).
//!
//! # Layout
//! - `plan`: what is to be done
//! - `file`: the file of `-i` and `-o`
//! - `follow`: until each is in sync
//! - `leaving`: until those that were replaced are gone
//! - `waiting`: in a cluster without agents, where copies come back by themselves

mod file;
pub(super) mod follow;
pub(super) mod leaving;
mod plan;
mod waiting;

use std::path::PathBuf;

use clap::Args;
use outrigger_cluster::operator::{ClusterState, Request};
use outrigger_wal::{ContentId, InstanceId};
use tokio::time::{Instant, sleep};

use self::follow::{End, Show, follow};
use self::leaving::gone;
use self::plan::Plan;
use super::asking::{Asking, Consent};
use super::hosts::claim;
use super::page::{Cell, Name, Page, Row};
use super::state::seats::{Pair, data_pairs};
use crate::error::{Error, Verdict};
use crate::output::{complain, say};
use crate::process;

const LOOK_TIME: std::time::Duration = std::time::Duration::from_millis(200);
const ENDS: &[Name] = &[
    ("Host", "host"),
    ("Port", "port"),
    ("Dbid", "dbid"),
    ("Content", "content"),
    ("Type", "type"),
    ("Why", "why"),
];

#[derive(Debug, Args)]
pub(super) struct Recover {
    /// Only this content
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    content: Option<i32>,
    /// Copy everything, whatever is there
    #[arg(short = 'F', long = "full", conflicts_with = "differential")]
    full: bool,
    /// Compare what is there, and copy what differs
    #[arg(long)]
    differential: bool,
    /// Give every instance its preferred role again, one pair after the other
    #[arg(short = 'r', long = "rebalance", conflicts_with_all = ["full", "differential", "onto", "input", "output", "content"])]
    rebalance: bool,
    /// Put the failed instances of each host, in the order of names, on these hosts
    #[arg(short = 'p', long = "onto", value_name = "HOST[,HOST]", value_delimiter = ',', conflicts_with_all = ["full", "differential", "input"])]
    onto: Vec<String>,
    /// The cluster's file, for hosts of -p and -i that the catalog does not know yet
    #[arg(long, value_name = "FILE.toml")]
    cluster: Option<PathBuf>,
    /// What comes back, how and where: `[I|D|F|][HOST|]ADDRESS|PORT|DATADIR`, then the same of the new place
    #[arg(short = 'i', long = "input", value_name = "FILE", conflicts_with_all = ["full", "differential", "content"])]
    input: Option<PathBuf>,
    /// Write the file for -i and change nothing
    #[arg(short = 'o', long = "output", value_name = "FILE", conflicts_with = "input")]
    output: Option<PathBuf>,
    /// Bytes a second that a copy may take, 32k to 1024M; k and M are 1024 and 1024 x 1024
    #[arg(long, value_name = "RATE", value_parser = rate)]
    max_rate: Option<u64>,
    /// Progress in lines, one below the other
    #[arg(short = 's', long = "sequential", conflicts_with = "no_progress")]
    sequential: bool,
    /// No progress
    #[arg(long)]
    no_progress: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

/// `64k`, `10M`, or bytes.
fn rate(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let rate = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let rate = rate.filter(|rate| (32 << 10..=1 << 30).contains(rate));
    rate.ok_or_else(|| "give 32k to 1024M".to_owned())
}

impl Recover {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.recover())
    }

    async fn recover(self) -> Result<Verdict, Error> {
        let state = self.asking.state().await?;
        if state.instances.is_empty() {
            return waiting::wait(&self.asking, ContentId(self.content.unwrap_or(0))).await;
        }
        if self.rebalance {
            return self.rebalance(state).await;
        }
        let plan = Plan::new(&self, &state)?;
        if let Some(path) = &self.output {
            let text = plan.as_file(&state);
            std::fs::write(path, text)
                .map_err(|cause| Error::file("cannot be written", path, cause))?;
            self.asking.tell(&format!("{}: written; nothing was changed", path.display()))?;
            return Ok(Verdict::Good);
        }
        for warning in &plan.warnings {
            complain(format_args!("warning: {warning}"));
        }
        if plan.is_empty() {
            self.asking.tell("No segments to recover")?;
            return Ok(Verdict::Good);
        }
        if plan.changes_something() {
            self.consent.to(&plan.page(), self.asking.json, "Recover these segments?")?;
        }
        self.carry_out(&state, plan).await
    }

    async fn carry_out(&self, state: &ClusterState, plan: Plan) -> Result<Verdict, Error> {
        claim(&self.asking, state, &plan.hosts).await?;
        if !plan.rows.is_empty() {
            let (hosts, rows) = (plan.hosts.clone(), plan.rows.clone());
            self.asking.command(&Request::AddCopies { hosts, rows }).await?;
        }
        for (mode, contents) in plan.in_place() {
            let max_rate_bytes = self.max_rate.unwrap_or(0);
            let request = Request::BringBack { contents, mode, max_rate_bytes };
            self.asking.command(&request).await?;
        }
        let ends = follow(&self.asking, &plan.followed(), self.show()).await?;
        // ORDER: the new copy is in sync before the old one goes.
        let dbids = plan.replaced(&ends);
        if !dbids.is_empty() {
            self.asking.command(&Request::DropCopies { dbids }).await?;
        }
        let (mut page, wrong) = ended(&ends);
        gone(&self.asking, &plan.replaced(&ends), &mut page).await?;
        page.print(self.asking.json)?;
        Ok(Verdict::good_if(!wrong))
    }

    fn show(&self) -> Show {
        match (self.no_progress || self.asking.json, self.sequential) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Lines,
            (false, false) => Show::Bars,
        }
    }

    async fn rebalance(&self, state: ClusterState) -> Result<Verdict, Error> {
        let pairs = data_pairs(&state);
        let switched: Vec<_> = pairs.iter().filter(|pair| pair.roles_are_switched()).collect();
        if switched.is_empty() {
            self.asking.tell("every instance has its preferred role")?;
            return Ok(Verdict::Good);
        }
        let mut plan = Page::default();
        for pair in &switched {
            let way = if pair.is_synchronized() {
                "is handed over"
            } else {
                "is left alone: not in sync"
            };
            plan.line(format!("content {}: {way}", pair.content));
        }
        self.consent.to(&plan, self.asking.json, "Rebalance these segments?")?;
        let wanted: Vec<_> = switched
            .iter()
            .filter(|pair| pair.is_synchronized())
            .map(|pair| pair.content)
            .collect();
        if !wanted.is_empty() {
            let text = self.asking.command(&Request::Rebalance).await?;
            if !self.asking.json {
                say(format_args!("{text}"))?;
            }
        }
        let left = self.until_balanced(&wanted).await?;
        let wrong = !left.is_empty() || wanted.len() < switched.len();
        let mut page = Page::default();
        if !left.is_empty() {
            let left: Vec<_> = left.iter().map(ContentId::to_string).collect();
            page.remark("left", format!("not rebalanced: content {}", left.join(", ")));
        }
        let done = wanted.len() - left.len();
        page.remark(
            "notes",
            format!("{done} of {} pairs have their preferred roles", switched.len()),
        );
        page.print(self.asking.json)?;
        Ok(Verdict::good_if(!wrong))
    }

    /// Waits until these contents have their preferred roles and are in sync; those that nothing happens to.
    async fn until_balanced(&self, wanted: &[ContentId]) -> Result<Vec<ContentId>, Error> {
        let still = self.asking.patience.still_time();
        let mut changed = Instant::now();
        let mut before = Vec::new();
        loop {
            // Between two coordinators nobody answers for a while.
            if let Ok(state) = self.asking.state().await {
                let done = |pair: &Pair<'_>| !pair.roles_are_switched() && pair.is_synchronized();
                let pairs = data_pairs(&state);
                let left: Vec<_> = pairs
                    .iter()
                    .filter(|pair| wanted.contains(&pair.content) && !done(pair))
                    .map(|pair| pair.content)
                    .collect();
                if left != before {
                    changed = Instant::now();
                    before.clone_from(&left);
                }
                if left.is_empty() || changed.elapsed() >= still {
                    return Ok(left);
                }
            } else if changed.elapsed() >= still {
                return Ok(before);
            }
            sleep(LOOK_TIME).await;
        }
    }
}

/// What came of it; and whether something failed.
pub(super) fn ended(ends: &[End]) -> (Page, bool) {
    let row = |end: &End| {
        Row::new([
            end.host.as_str().into(),
            u64::from(end.port).into(),
            end.dbid.map_or(Cell::Nothing("-"), |dbid| u64::from(dbid).into()),
            Cell::Signed(i64::from(end.content)),
            end.how.into(),
            end.failed.as_deref().map_or(Cell::Nothing("-"), Cell::from),
        ])
    };
    let (failed, good): (Vec<_>, Vec<_>) = ends.iter().partition(|end| end.failed.is_some());
    let rows = |ends: &[&End]| ends.iter().map(|end| row(end)).collect();
    let mut page = Page::default();
    if !good.is_empty() {
        page.rows("recovered", "Segments successfully recovered.", ENDS, rows(&good));
    }
    if !failed.is_empty() {
        page.rows("failed", "Segments that did not come back:", ENDS, rows(&failed));
    }
    (page, !failed.is_empty())
}

/// The identities of copies.
fn ids<'a>(seats: impl IntoIterator<Item = &'a super::state::seats::Seat<'a>>) -> Vec<InstanceId> {
    seats.into_iter().map(super::state::seats::Seat::id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit_and_a_range() {
        assert_eq!(rate("32k"), Ok(32 << 10));
        assert_eq!(rate("10M"), Ok(10 << 20));
        assert_eq!(rate("65536"), Ok(65_536));
        for wrong in ["31k", "1025M", "fast", "", "M", "99999999999999999999M"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
