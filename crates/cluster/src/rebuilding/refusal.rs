//! Why a catalog is not made anew, and what could not be proved of one that is.

use outrigger_net::config::Version;
use outrigger_wal::{ClusterId, ContentId, InstanceId};

use crate::catalog::tables::Dbid;
use crate::error::CodecError;

/// Why a catalog is not made anew; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No agent answered.
    #[error("no agent answered: start the agents, and name one with --agent")]
    NobodyAnswered,
    /// Agents of different clusters.
    #[error(
        "the agents work for more clusters than one ({one}; {agent}: {other}): name those of one"
    )]
    MoreClusters {
        /// One.
        one: ClusterId,
        /// Another one.
        other: ClusterId,
        /// Who works for it.
        agent: String,
    },
    /// An agent that was never claimed.
    #[error("the agent at {agent} works for no cluster: there is nothing to rebuild")]
    NoCluster {
        /// Which.
        agent: String,
    },
    /// No rows.
    #[error(
        "none of the agents that answered keeps the catalog's rows: start further agents, and ask again"
    )]
    NothingKept,
    /// Rows that cannot be read.
    #[error("what the agent of {host} keeps of the catalog cannot be read: {error}")]
    Unreadable {
        /// Whose.
        host: String,
        /// Why.
        error: CodecError,
    },
    /// A cluster that was never made to its end.
    #[error("this cluster was still being made: `outrigger init` goes on with it")]
    NotMade,
    /// A copy of the catalog is there.
    #[error(
        "{path} on host {host} holds the catalog (dbid {dbid}, the {role}): {advice}; --force gives it up for lost"
    )]
    CatalogThere {
        /// On which host.
        host: String,
        /// Which instance.
        dbid: Dbid,
        /// Coordinator or standby.
        role: &'static str,
        /// Its data directory.
        path: String,
        /// What to do.
        advice: String,
    },
    /// A coordinator's process runs, though its data is gone.
    #[error(
        "dbid {dbid} on host {host}, a copy of the catalog, runs though {path} is gone; --force stops it first"
    )]
    CatalogRuns {
        /// On which host.
        host: String,
        /// Which instance.
        dbid: Dbid,
        /// Its data directory.
        path: String,
    },
    /// Too few voters.
    #[error(
        "{answered} of {voters} voters answered: without a majority another coordinator may act; start their agents, \
         or, knowing that none does, use --force"
    )]
    NoMajority {
        /// How many answered.
        answered: usize,
        /// Of how many.
        voters: usize,
    },
    /// A coordinator that no voter knows.
    #[error(
        "a coordinator of epoch {heard} was heard, and the voters that answered know of {promised} at most: it was \
         activated by force, and its catalog may be there; start all agents, or use --force"
    )]
    UnknownCoordinator {
        /// What was heard.
        heard: u64,
        /// What voters know.
        promised: u64,
    },
    /// No host for the coordinator.
    #[error("the coordinator cannot be put on host {host:?}: {why}; name another one with --host")]
    NoPlace {
        /// Which host.
        host: String,
        /// Why.
        why: String,
    },
    /// The data directory is in use.
    #[error(
        "{path} on host {host} is not empty ({why}): move it away, or give another one with --data-dir"
    )]
    PlaceTaken {
        /// On which host.
        host: String,
        /// Which directory.
        path: String,
        /// What is in it.
        why: String,
    },
    /// Nobody knows a content's configuration.
    #[error(
        "content {content}: no copy that answered holds a configuration{}: start the agents of its hosts",
        listed(missing)
    )]
    NoConfiguration {
        /// Which content.
        content: ContentId,
        /// Its copies, and why they say nothing.
        missing: Vec<(Dbid, String)>,
    },
    /// One version, two values: this must not be.
    #[error(
        "content {content}: version {} has two values: two authorities have recorded it; look before anything else",
        version.0
    )]
    TwoValues {
        /// Which content.
        content: ContentId,
        /// Which version.
        version: Version,
    },
    /// A copy heard of something newer than any copy that answered holds.
    #[error(
        "content {content}: {instance} has heard of version {} (epoch {epoch}), and the newest configuration that was \
         found is version {}: start the agents of all its hosts",
        heard.0, newest.0
    )]
    HeardOfNewer {
        /// Which content.
        content: ContentId,
        /// Who.
        instance: InstanceId,
        /// What it heard of.
        heard: Version,
        /// And the number of the epoch it accepted.
        epoch: u64,
        /// What was found.
        newest: Version,
    },
    /// A copy without a row.
    #[error(
        "content {content}: nobody knows where its copy {instance} is: start the agent of its host"
    )]
    NoRow {
        /// Which content.
        content: ContentId,
        /// Whose copy.
        instance: InstanceId,
    },
    /// More rows than a record of the catalog holds.
    #[error("the catalog does not fit one record: {0}")]
    TooLarge(CodecError),
}

fn listed(missing: &[(Dbid, String)]) -> String {
    let each: Vec<_> = missing.iter().map(|(dbid, why)| format!("dbid {dbid}: {why}")).collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join("; ")) }
}

/// What could not be proved of a catalog that is made anew.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Doubt {
    /// An agent did not answer.
    Silent {
        /// Whose.
        host: String,
        /// Why.
        why: String,
    },
    /// Voters did not answer.
    Voters {
        /// How many did.
        answered: usize,
        /// Of how many.
        voters: usize,
    },
    /// A copy of the catalog is given up for lost, by force.
    GivenUp {
        /// On which host.
        host: String,
        /// Which.
        dbid: Dbid,
    },
    /// The rows are as old as what was kept.
    Rows {
        /// With whom it was kept.
        host: String,
        /// The reign that left it.
        epoch: u64,
    },
    /// Copies of a content said nothing.
    NotReported {
        /// Which content.
        content: ContentId,
        /// Which copies, and why.
        missing: Vec<(Dbid, String)>,
    },
    /// A content of which nothing was ever recorded is left out.
    NeverMade {
        /// Which.
        content: ContentId,
    },
    /// An instance that no configuration names.
    NotACopy {
        /// Which.
        dbid: Dbid,
        /// Of which content.
        content: ContentId,
    },
    /// Rows move to other contents.
    Moving {
        /// So many buckets.
        buckets: usize,
    },
    /// There is no standby any more.
    NoStandby,
    /// What happened before is forgotten.
    History,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent { host, why } => {
                write!(f, "host {host}: its agent did not answer: {why}")
            }
            Self::Voters { answered, voters } => write!(
                f,
                "{answered} of {voters} voters answered: that the others hold nothing newer, and no coordinator acts \
                 by them, is not proved"
            ),
            Self::GivenUp { host, dbid } => {
                write!(
                    f,
                    "dbid {dbid} on host {host} holds the catalog and is given up: what it recorded is lost"
                )
            }
            Self::Rows { host, epoch } => write!(
                f,
                "hosts, instances, preferred roles, settings and the map of rows are as coordinator epoch {epoch} left \
                 them with host {host}; a later change that reached no agent is not in them"
            ),
            Self::NotReported { content, missing } => {
                let each: Vec<_> =
                    missing.iter().map(|(dbid, why)| format!("dbid {dbid}: {why}")).collect();
                write!(
                    f,
                    "content {content}: not every copy reported ({}); nothing is recorded for it, no failover either, \
                     before each has",
                    each.join("; ")
                )
            }
            Self::NeverMade { content } => {
                write!(
                    f,
                    "content {content} held no rows and no configuration: it is left out; expand again"
                )
            }
            Self::NotACopy { dbid, content } => write!(
                f,
                "dbid {dbid} belongs to content {content}, and no configuration names it: drop it, or add it again"
            ),
            Self::Moving { buckets } => write!(
                f,
                "{buckets} buckets of rows were moving: the moves go on from the steps that reached an agent"
            ),
            Self::NoStandby => {
                write!(f, "there is no standby: `outrigger init-standby` makes one")
            }
            Self::History => write!(f, "the history of what happened before is lost"),
        }
    }
}
