//! Whom a verb asks, for how long, and in which form it answers; and whether somebody agrees.
//!
//! Guarantees: a refusal is an error with the words of who refused. Not here: what is asked.

use std::time::Duration;

use clap::Args;
use outrigger_cluster::catalog::tables::History;
use outrigger_cluster::operator::{Answer, ClusterState, Request};
use outrigger_wal::ContentId;
use serde_json::json;

use super::page::Page;
use crate::error::Error;
use crate::kv::operator::ask;
use crate::output::{confirm, say, say_json};

const ANOTHER_RELEASE: &str = "the coordinator answered something else; is it of another release?";
/// How long an answer may take where nothing else is said.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How long nothing may change on something that is followed, where nothing else is said.
const STILL_TIME: Duration = Duration::from_secs(60);

/// Where a cluster is.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The coordinator's address; with the standby's behind a comma, the one that serves is asked
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "OUTRIGGER_COORDINATOR",
        global = true,
        required = false,
        default_value = "127.0.0.1:7000"
    )]
    pub(super) coordinator: String,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Patience {
    /// How long to wait, in seconds: for an answer 10 where nothing is said; what is followed may stand
    /// still for 60
    #[arg(long, value_name = "SECONDS", global = true, value_parser = seconds)]
    timeout: Option<f64>,
}

impl Patience {
    /// For an answer.
    pub(super) fn time(&self) -> Duration {
        self.timeout.map_or(ANSWER_TIME, Duration::from_secs_f64)
    }

    /// For something that is followed to change.
    pub(super) fn still_time(&self) -> Duration {
        self.timeout.map_or(STILL_TIME, Duration::from_secs_f64)
    }
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let found: Option<f64> = text.parse().ok();
    found.filter(|found| (0.1..=3600.0).contains(found)).ok_or_else(|| "0.1 to 3600".to_owned())
}

/// What every verb of a cluster takes.
#[derive(Debug, Args)]
pub(super) struct Asking {
    #[command(flatten)]
    pub(super) whom: Where,
    #[command(flatten)]
    pub(super) patience: Patience,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Asking {
    /// Asks the coordinator.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        ask(&self.whom.coordinator, request, self.patience.time()).await
    }

    /// How the cluster stands.
    ///
    /// # Errors
    /// The coordinator cannot be reached, or does not say.
    pub(super) async fn state(&self) -> Result<ClusterState, Error> {
        match self.ask(&Request::State).await? {
            Answer::State(state) => Ok(state),
            answer => Err(denied(answer)),
        }
    }

    /// What happened.
    ///
    /// # Errors
    /// The coordinator cannot be reached, or does not say.
    pub(super) async fn history(&self, limit: u32) -> Result<Vec<History>, Error> {
        match self.ask(&Request::History { limit }).await? {
            Answer::History(rows) => Ok(rows),
            answer => Err(denied(answer)),
        }
    }

    /// Has something done: what was done, in words.
    ///
    /// # Errors
    /// The coordinator cannot be reached, or refuses.
    pub(super) async fn command(&self, request: &Request) -> Result<String, Error> {
        match self.ask(request).await? {
            Answer::Done { text } => Ok(text),
            answer => Err(denied(answer)),
        }
    }

    /// Says what was done.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(super) fn tell(&self, text: &str) -> Result<(), Error> {
        if self.json { say_json(&json!({ "done": text })) } else { say(format_args!("{text}")) }
    }
}

/// What an answer means that is not the one that was asked for.
pub(super) fn denied(answer: Answer) -> Error {
    Error::Denied { text: words(answer) }
}

/// As [`denied`], about one content.
pub(super) fn refused(content: ContentId, answer: Answer) -> Error {
    Error::Refused { content, text: words(answer) }
}

fn words(answer: Answer) -> String {
    match answer {
        Answer::Denied { text } => text,
        _ => ANOTHER_RELEASE.to_owned(),
    }
}

/// Whether somebody is asked before anything is changed.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Consent {
    /// Do not ask
    #[arg(short = 'a', long = "yes")]
    yes: bool,
}

impl Consent {
    /// Shows a plan and asks whether it is to be carried out.
    ///
    /// # Errors
    /// Somebody said no, or there is nobody to ask; nothing was changed then.
    pub(super) fn to(self, plan: &Page, json: bool, question: &str) -> Result<(), Error> {
        if self.yes {
            return if json { Ok(()) } else { plan.print(false) };
        }
        if json {
            return Err(Error::Option {
                option: "-a",
                cause: "a script that wants JSON cannot be asked; -a goes on without a question"
                    .to_owned(),
            });
        }
        plan.print(false)?;
        if confirm(question)? {
            Ok(())
        } else {
            Err(Error::Partial("not confirmed: nothing was changed".to_owned()))
        }
    }
}
