//! The runbook of `docs/operations.md` on real processes: each situation is brought about, each of its commands is typed as
//! it stands there, and every acknowledged row is there at every stage. Refusals beside it: by word and exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;

use support::hosts::Hosts;
use support::runbook::{page, situation, situations};
use support::until;

/// What is killed is found dead at once; a machine that is busy with other tests is no reason to suspect anybody.
const PATIENT: &str = "fts_probe_timeout_ms = 10000";

fn mirrored() -> String {
    format!(
        "{PATIENT}\nmirroring = \"group\"\nstandby = {{ host = \"sdw2\", data_dir = \"/data/sdw2/standby\" }}"
    )
}

#[test]
fn copies_that_were_lost_come_back() {
    let mut cluster = Hosts::new((5, 4), &mirrored());
    let mut made = situation("A cluster is to be made");
    for host in 1..=4 {
        made.run(&mut cluster, &format!("agent --config /data/sdw{host}"));
    }
    made.run(&mut cluster, "init cluster.toml --dry-run");
    made.run(&mut cluster, "init cluster.toml -a");
    cluster.in_sync();
    made.run(&mut cluster, "state -e");
    cluster.refused("init cluster.toml -a", "made already");
    cluster.write(200);

    let mut gone = situation("A mirror is gone");
    cluster.kill(6);
    cluster.shows("-e", "Downed Segments");
    cluster.shows("-Q", "Down");
    cluster.write(50);
    for letter in ["-e", "-m", "-s", "-Q"] {
        gone.run(&mut cluster, &format!("state {letter}"));
    }
    gone.run(&mut cluster, "recover -a");
    gone.run(&mut cluster, "state -e");
    cluster.rows_are_there();

    let mut gone = situation("A primary is gone");
    cluster.kill(4);
    cluster.shows("-e", "Roles Switched");
    cluster.write(50);
    cluster.shows("-Q", "Down");
    gone.run(&mut cluster, "state -e");
    let left = gone.run(&mut cluster, "recover -r -a");
    assert!(left.contains("not in sync") && left.contains("0 of 1 pairs"), "{left}");
    gone.run(&mut cluster, "recover -a");
    cluster.rows_are_there();
    let table = gone.run(&mut cluster, "state -m");
    assert!(table.contains("Acting as Primary"), "{table}");
    gone.run(&mut cluster, "recover -r -a");
    gone.run(&mut cluster, "state -e");
    cluster.rows_are_there();
}

#[test]
fn every_situation_of_the_runbook_has_its_story() {
    let page = page();
    let told: BTreeSet<_> = situations(&page).into_iter().map(|(title, _)| title).collect();
    let here = include_str!("the_runbook.rs").split("situation(\"").skip(1);
    let here: BTreeSet<_> = here.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    assert_eq!(told.iter().collect::<Vec<_>>(), here.iter().collect::<Vec<_>>());
}
