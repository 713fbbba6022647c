//! What is said to operators, and what they can do.

use outrigger_net::config::Config;
use outrigger_wal::{Epoch, InstanceId};

use super::ballot::{Outcome, Why};
use super::list::Seat;

pub(super) fn few_voters(voters: u8) -> String {
    format!(
        "with {voters} voting hosts no majority survives the loss of one: make sure that the old coordinator is \
         down and stays down, then activate with --force"
    )
}

pub(super) fn not_a_copy(me: InstanceId, newest: &Config) -> String {
    format!(
        "instance {me} is no copy of the catalog in version {} (coordinator {}): it was removed; make it a \
         standby again with init-standby",
        newest.version.0, newest.primary
    )
}

pub(super) fn refused(me: InstanceId, why: &Why) -> String {
    match why {
        Why::Stranger(newest) => not_a_copy(me, newest),
        Why::Moved(newest) => format!(
            "instance {} has the catalog in epoch {} (version {}), recorded meanwhile: look again",
            newest.primary, newest.epoch, newest.version.0
        ),
        Why::Deposed(newest) => format!(
            "instance {} is the coordinator since epoch {} (version {}); this one commands nothing: it comes back \
             as a standby with init-standby",
            newest.primary, newest.epoch, newest.version.0
        ),
        Why::Behind(newest) => format!(
            "instance {me} is not in sync in version {} (epoch {}, coordinator {}): it may lack committed changes of \
             the catalog; start the coordinator, or activate with --force and read what could not be proved",
            newest.version.0, newest.epoch, newest.primary
        ),
    }
}

pub(super) fn duel(by: Epoch) -> String {
    format!("another candidate goes on asking the voters (epoch {by}); is the coordinator alive?")
}

pub(super) fn no_majority(answered: usize, voters: usize, missing: &[Seat], force: bool) -> String {
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let advice = if answered == 0 {
        "without any voter nothing can be activated: start the agents"
    } else if force {
        "voters that answered before are gone: ask again"
    } else {
        "start the agents of the others, or activate with --force"
    };
    let missing = missing.join(", ");
    format!("{answered} of {voters} voters answered, not {missing}; {advice}")
}

pub(super) fn activated(config: &Config, outcome: Outcome) -> String {
    let Outcome { answered, voters, was_in_sync } = outcome;
    let mut text = format!(
        "instance {} is the coordinator in epoch {} (version {}); {answered} of {voters} voters promised",
        config.primary, config.epoch, config.version.0
    );
    if answered <= voters / 2 {
        text.push_str("; not proved: that the others hold nothing newer, and that no other coordinator acts by them");
    }
    if !was_in_sync {
        text.push_str("; not proved: that this copy holds every committed change of the catalog");
    }
    text
}
