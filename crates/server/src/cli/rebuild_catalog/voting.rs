//! The voters, asked by whoever makes a catalog anew: for its coordinator, which is not there yet.
//!
//! Guarantees: the new coordinator is recorded by a majority, or, forced, by every voter that promised; nothing is
//! repeated that was overtaken. Not here: the votes (cluster, agents).

use std::time::Duration;

use outrigger_cluster::agent;
use outrigger_cluster::rebuilding::{Plan, VotersFound};
use outrigger_cluster::voters::{Act, Anew, Ask, Ballot, Question, Reply, Say, Seat, Whose, Why};
use outrigger_replica::rules::Rules;
use outrigger_wal::{ClusterId, InstanceId};
use tokio::task::JoinSet;

use super::super::asking::Asking;
use super::no;
use crate::error::Error;
use crate::kv::agents::ask_agent;
use crate::process;

/// A voter that is there answers at once.
const VOTE_TIME: Duration = Duration::from_secs(2);
/// The version of the list of voters that every cluster has.
const LIST: u64 = 1;

/// What the voters hold.
///
/// # Errors
/// None of them answered.
pub(super) async fn read(
    asking: &Asking,
    cluster: ClusterId,
    voters: &[Vec<String>],
) -> Result<VotersFound, Error> {
    let seats = (0..u8::try_from(voters.len()).unwrap_or(u8::MAX)).map(Seat);
    let from = InstanceId::default();
    let asks =
        seats.map(|seat| Ask { cluster, list: LIST, seat, from, op: 1, question: Question::Read });
    let said = ask_all(asking, voters, asks.collect()).await;
    let mut newest = None;
    let (mut promised, mut answered) = (0, 0);
    for say in said {
        if let Reply::Holds { promised: epoch, newest: held } = say.reply {
            answered += 1;
            promised = epoch.number.max(promised);
            let name =
                |config: &outrigger_net::config::Config| (config.epoch.number, config.version);
            if newest.as_ref().is_none_or(|newest| name(newest) < name(&held)) {
                newest = Some(held);
            }
        }
    }
    let newest = newest.ok_or_else(|| no("no voter answered: start the agents"))?;
    Ok(VotersFound { newest, promised, answered, voters: voters.len() })
}

/// Has the new coordinator recorded as the only copy of the catalog; in which epoch.
///
/// # Errors
/// Too few voters answer, or another candidate is there.
pub(super) async fn replace(
    asking: &Asking,
    plan: &Plan,
    found: &VotersFound,
    force: bool,
) -> Result<u64, Error> {
    let voters = u8::try_from(plan.voters.len()).unwrap_or(u8::MAX);
    let me = plan.coordinator.instance;
    let whose = Whose { cluster: plan.cluster, me, list: LIST, voters };
    let first_op = u64::try_from(process::random()? >> 64).unwrap_or_default();
    let mut ballot = Ballot::new(whose, first_op, Rules::all());
    let anew = Anew {
        addresses: plan.coordinator.addresses.clone(),
        above: (found.newest.epoch.number, found.newest.version.0),
        above_epoch: plan.above_epoch,
    };
    let mut acts = Vec::new();
    ballot.replace(process::random()?, anew, force, &mut acts);
    let mut refused = Vec::new();
    loop {
        let mut asks = Vec::new();
        for act in std::mem::take(&mut acts) {
            match act {
                Act::Ask(ask) => asks.push(ask),
                Act::Recorded(config) => return Ok(config.epoch.number),
                Act::Refused(why) => return Err(no(moved(&why))),
                Act::Overtaken { by, .. } => {
                    return Err(no(format!(
                        "another candidate asks the voters (epoch {by}): is a coordinator alive? ask again"
                    )));
                }
                Act::Denied { seat, text } => refused.push(format!("voter {seat}: {text}")),
                _ => {}
            }
        }
        let asked = !asks.is_empty();
        for say in ask_all(asking, &plan.voters, asks).await {
            ballot.hear(say, &mut acts);
        }
        if acts.is_empty() {
            ballot.hurry(&mut acts);
        }
        if acts.is_empty() && !asked {
            return Err(no(format!(
                "{} of {voters} voters answered: start the agents of the others, or use --force{}",
                ballot.answered(),
                refused.iter().map(|text| format!("; {text}")).collect::<String>()
            )));
        }
    }
}

fn moved(why: &Why) -> String {
    match why {
        Why::Stranger(newest) | Why::Deposed(newest) | Why::Behind(newest) | Why::Moved(newest) => {
            format!(
                "instance {} became the coordinator meanwhile, in epoch {} (version {}): look again",
                newest.primary, newest.epoch, newest.version.0
            )
        }
        _ => "the voters have recorded something else meanwhile: look again".to_owned(),
    }
}

async fn ask_all(asking: &Asking, voters: &[Vec<String>], asks: Vec<Ask>) -> Vec<Say> {
    let patience = asking.patience.time().min(VOTE_TIME);
    let mut asked = JoinSet::new();
    for ask in asks {
        let Some(addresses) = voters.get(usize::from(ask.seat.0)).cloned() else { continue };
        asked.spawn(async move {
            let body = agent::Ask::Vote { body: ask.encode().ok()? };
            match ask_agent(&addresses, &body, patience).await {
                Ok(agent::Say::Voted { body }) => Say::decode(&body).ok(),
                _ => None,
            }
        });
    }
    let mut said = Vec::new();
    while let Some(answer) = asked.join_next().await {
        said.extend(answer.ok().flatten());
    }
    said
}
