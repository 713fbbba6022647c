//! Waiting until copies that are to be removed are gone, so that their places are free for the next command.
//!
//! Guarantees: it changes nothing; a copy whose host is lost is waited for only until nothing counts on it any more, since
//! its data cannot be removed before its agent is back. Not here: having them removed (cluster).

use outrigger_cluster::catalog::tables::Dbid;
use outrigger_cluster::operator::ClusterState;
use tokio::time::{Instant, sleep};

use super::LOOK_TIME;
use crate::cli::asking::Asking;
use crate::cli::page::Page;
use crate::cli::state::seats::{Seat, pairs};
use crate::error::Error;

/// Waits until these copies are gone, and remarks those that remain.
///
/// # Errors
/// When the coordinator cannot be asked for as long as the patience that was given.
pub(in crate::cli) async fn gone(
    asking: &Asking,
    dbids: &[Dbid],
    page: &mut Page,
) -> Result<(), Error> {
    let until = Instant::now() + asking.patience.still_time();
    let left = loop {
        let late = Instant::now() >= until;
        match asking.state().await {
            Ok(state) => {
                let (waiting, lost) = remaining(&state, dbids);
                if waiting.is_empty() || late {
                    break [waiting, lost].concat();
                }
            }
            Err(error) if late => return Err(error),
            Err(_) => {}
        }
        sleep(LOOK_TIME).await;
    };
    for name in left {
        page.remark("leaving", format!("{name}: its data is removed as soon as its agent can"));
    }
    Ok(())
}

/// The copies that are there still: those that will be gone soon, and those whose host is lost.
fn remaining(state: &ClusterState, dbids: &[Dbid]) -> (Vec<String>, Vec<String>) {
    let pairs = pairs(state);
    let seats = pairs.iter().flat_map(|pair| &pair.seats);
    let named = |seat: &&Seat<'_>| seat.dbid().is_some_and(|dbid| dbids.contains(&dbid));
    let is_lost = |seat: &&Seat<'_>| {
        let here = state.hosts.iter().any(|at| at.host.name == seat.host() && at.agent_here);
        seat.copy.is_none() && !here
    };
    let (lost, waiting): (Vec<_>, Vec<_>) = seats.filter(named).partition(is_lost);
    let name = |seat: &Seat<'_>| format!("{} on host {}", seat.name(), seat.host());
    (waiting.into_iter().map(name).collect(), lost.into_iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use outrigger_cluster::catalog::tables::Wanted;

    use super::*;
    use crate::cli::state::tests::world;

    #[test]
    fn a_copy_on_a_lost_host_is_waited_for_until_nothing_counts_on_it() {
        let mut state = world::healthy();
        world::instance(&mut state, 4).row.wanted = Wanted::Gone;
        let name = vec!["dbid 4 on host sdw2".to_owned()];
        assert_eq!(remaining(&state, &[Dbid(4)]), (name.clone(), Vec::new()));
        let host = state.hosts.iter_mut().find(|at| at.host.name == "sdw2").unwrap();
        host.agent_here = false;
        assert_eq!(remaining(&state, &[Dbid(4)]), (name.clone(), Vec::new()), "it is configured");
        let content = state.contents.iter_mut().find(|at| at.content.0 == 0).unwrap();
        content.copies.pop();
        assert_eq!(remaining(&state, &[Dbid(4)]), (Vec::new(), name));
        state.instances.retain(|at| at.dbid != Dbid(4));
        assert_eq!(remaining(&state, &[Dbid(4)]), (Vec::new(), Vec::new()));
    }
}
