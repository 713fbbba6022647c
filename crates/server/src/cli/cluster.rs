//! `outrigger promote`, `recover` and `state`.

use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use outrigger_cluster::operator::{
    Answer, ClusterState, ContentState, CopyRole, CopyState, Loss, Request,
};
use outrigger_wal::ContentId;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{Patience, Where, Which};
use crate::error::{Error, Verdict};
use crate::kv::operator::ask;
use crate::output::{say, say_json};
use crate::process;
use crate::process::instance::short;

/// How often a copy that is not in sync is looked at.
const LOOK_TIME: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct Promote {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Where,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, Args)]
pub(super) struct Recover {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Where,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, Args)]
pub(super) struct State {
    #[command(flatten)]
    whom: Where,
    #[command(flatten)]
    patience: Patience,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

fn refused<T>(content: ContentId, answer: Answer) -> Result<T, Error> {
    let text = match answer {
        Answer::Denied { text } => text,
        _ => "the coordinator answered something else; is it of another release?".to_owned(),
    };
    Err(Error::Refused { content, text })
}

impl Promote {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let content = self.which.id();
        let request = Request::Promote { content, loss: Loss::None };
        let asking = ask(&self.whom.coordinator, &request, self.patience.time());
        match process::runtime()?.block_on(asking)? {
            Answer::Promoted { primary, epoch, .. } => {
                say(format_args!(
                    "content {content}: {primary} is the primary, epoch {}",
                    epoch.number
                ))?;
                Ok(Verdict::Good)
            }
            answer => refused(content, answer),
        }
    }
}

impl Recover {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.wait())
    }

    async fn wait(self) -> Result<Verdict, Error> {
        let content = self.which.id();
        let request = Request::Recover { content };
        let until = Instant::now() + self.patience.time();
        let mut said = String::new();
        loop {
            match ask(&self.whom.coordinator, &request, self.patience.time()).await? {
                Answer::Recovery { done: true, .. } => {
                    say(format_args!("content {content}: all copies are in sync"))?;
                    return Ok(Verdict::Good);
                }
                Answer::Recovery { text, .. } => {
                    if text != said {
                        say(format_args!("content {content}: {text}"))?;
                        said = text;
                    }
                }
                answer => return refused(content, answer),
            }
            if Instant::now() >= until {
                let seconds = self.patience.timeout;
                return Err(Error::Partial(format!(
                    "content {content}: not in sync within {seconds} s: {said}; ask again, or look \
                     at `outrigger state`"
                )));
            }
            sleep(LOOK_TIME).await;
        }
    }
}

#[derive(Serialize)]
struct StateJson {
    cluster: String,
    coordinator_epoch: u64,
    contents: Vec<ContentJson>,
}

#[derive(Serialize)]
struct ContentJson {
    content: i32,
    log: String,
    segment_bytes: u64,
    version: u64,
    epoch: u64,
    primary: String,
    copies: Vec<CopyJson>,
}

#[derive(Serialize)]
struct CopyJson {
    instance: String,
    role: &'static str,
    addresses: Vec<String>,
    in_sync: bool,
    in_touch: bool,
    durable_lsn: u64,
    commit_lsn: u64,
    applied_lsn: u64,
    lag_bytes: u64,
}

impl State {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let asking = ask(&self.whom.coordinator, &Request::State, self.patience.time());
        match process::runtime()?.block_on(asking)? {
            Answer::State(state) if self.json => say_json(&as_json(state))?,
            Answer::State(state) => say(format_args!("{}", table(&state)))?,
            answer => return refused(ContentId(-1), answer),
        }
        Ok(Verdict::Good)
    }
}

const fn role(copy: &CopyState) -> &'static str {
    match copy.role {
        CopyRole::Primary => "primary",
        CopyRole::Mirror => "mirror",
        _ => "other",
    }
}

fn table(state: &ClusterState) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "content", "role", "instance", "address", "in sync", "in touch", "epoch", "durable",
        "commit", "applied", "lag",
    ]);
    for content in &state.contents {
        for copy in &content.copies {
            table.add_row([
                content.content.to_string(),
                role(copy).to_owned(),
                short(copy.instance),
                copy.addresses.join(" "),
                yes(copy.in_sync),
                yes(copy.in_touch),
                content.epoch.number.to_string(),
                copy.durable.to_string(),
                copy.commit.to_string(),
                copy.applied.to_string(),
                copy.lag_bytes.to_string(),
            ]);
        }
    }
    format!("cluster {}, coordinator's epoch {}\n{table}", state.cluster, state.coordinator_epoch)
}

fn yes(holds: bool) -> String {
    if holds { "yes" } else { "no" }.to_owned()
}

fn as_json(state: ClusterState) -> StateJson {
    let copy = |copy: CopyState| CopyJson {
        role: role(&copy),
        instance: copy.instance.to_string(),
        addresses: copy.addresses,
        in_sync: copy.in_sync,
        in_touch: copy.in_touch,
        durable_lsn: copy.durable.0,
        commit_lsn: copy.commit.0,
        applied_lsn: copy.applied.0,
        lag_bytes: copy.lag_bytes,
    };
    let content = |content: ContentState| ContentJson {
        content: content.content.0,
        log: content.log.to_string(),
        segment_bytes: content.segment_bytes,
        version: content.version.0,
        epoch: content.epoch.number,
        primary: content.primary.to_string(),
        copies: content.copies.into_iter().map(copy).collect(),
    };
    StateJson {
        cluster: state.cluster.to_string(),
        coordinator_epoch: state.coordinator_epoch,
        contents: state.contents.into_iter().map(content).collect(),
    }
}
