//! The runbook of `docs/operations.md` on real processes: each situation is brought about, each of its commands is typed as
//! it stands there, and every acknowledged row is there at every stage. Refusals beside it: by word and exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use support::hosts::Hosts;
use support::runbook::{page, situation, situations};
use support::until;

/// What is killed is found dead at once; a machine that is busy with other tests is no reason to suspect anybody.
const PATIENT: &str = "fts_probe_timeout_ms = 10000\nfts_mark_mirror_down_grace_period_ms = 1000";

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
    // Again: it is so already. Another one on the same hosts is refused.
    cluster.ask("init cluster.toml -a").ok();
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

    let mut gone = situation("A host is gone, and comes back");
    cluster.kill_host(3);
    cluster.shows("-e", "Hosts whose agent is not connected");
    cluster.shows("-e", "Roles Switched");
    cluster.write(50);
    gone.run(&mut cluster, "state -e");
    gone.run(&mut cluster, "outrigger agent --config");
    gone.run(&mut cluster, "recover -a -s");
    cluster.rows_are_there();
    gone.run(&mut cluster, "recover -r -a");
    gone.run(&mut cluster, "state -e");
    cluster.rows_are_there();

    let mut own = situation("Instances are to come back in a way of one's own");
    cluster.kill(6);
    cluster.shows("-Q", "Down");
    own.run(&mut cluster, "recover -o way.txt");
    let way = std::fs::read_to_string(cluster.path("way.txt")).unwrap();
    assert!(way.contains("\nI|sdw2|") && way.lines().count() == 2, "{way}");
    // Its letter is what is edited.
    std::fs::write(cluster.path("way.txt"), way.replace("\nI|", "\nF|")).unwrap();
    let came = own.run(&mut cluster, "recover -i way.txt -a");
    assert!(came.contains("full"), "{came}");
    for (way, how) in [("--differential", "differential"), ("-F", "full")] {
        cluster.write(20);
        cluster.kill(7);
        cluster.shows("-Q", "Down");
        let came = own.run(&mut cluster, &format!("recover --content 1 {way}"));
        assert!(came.contains(how), "{came}");
        cluster.rows_are_there();
    }
    cluster.in_sync();
    assert_eq!(cluster.ask("recover -a").ok().trim(), "No segments to recover");
    std::fs::write(cluster.path("empty.txt"), "# nobody\n").unwrap();
    assert_eq!(cluster.ask("recover -i empty.txt -a").ok().trim(), "No segments to recover");
    std::fs::write(cluster.path("nobody.txt"), "sdw9|6000|/nowhere\n").unwrap();
    cluster.refused("recover -i nobody.txt -a", "line 1: there is no such instance");

    let mut gone = situation("A host is gone for good");
    cluster.list("cluster5.toml", 5, &mirrored());
    cluster.kill_host(3);
    cluster.shows("-e", "Roles Switched");
    cluster.shows("-Q", "= 6");
    cluster.refused("recover -p sdw9 -a", "there is no host");
    cluster.refused("recover -p sdw4 -a", "sdw4");
    gone.run(&mut cluster, "outrigger agent --config");
    gone.run(&mut cluster, "recover -p sdw5");
    cluster.rows_are_there();
    gone.run(&mut cluster, "recover -r -a");
    let map = gone.run(&mut cluster, "state -c");
    assert!(map.contains("sdw5") && !map.contains("sdw3"), "{map}");
    cluster.write(50);
    cluster.rows_are_there();
    // The lost host is back after all: what it had is removed.
    cluster.start_agent(3);
    cluster.in_sync();
    until(|| !cluster.path("data/sdw3/primary/gpseg2").exists());
    assert!(!cluster.path("data/sdw3/mirror/gpseg1").exists());
}

#[test]
fn a_cluster_is_looked_at_and_goes_down_and_up() {
    let mut cluster = Hosts::cluster((4, 4), &mirrored());
    let mut look = situation("How does it stand?");
    for (letter, says) in [
        ("state", "sdw1"),
        ("state -b", "sdw1"),
        ("state -s", "Synchronized"),
        ("state -e", "All segments are running normally"),
        ("state -m", "Passive"),
        ("state -c", "Mirror Available"),
        ("state -f", "streaming"),
        ("state -Q", "= 8"),
        ("state -p", "7000"),
        ("state --json", "coordinator_epoch"),
        ("catalog gp_segment_configuration", "preferred_role"),
        ("catalog gp_configuration_history", "description"),
        ("catalog gp_stat_replication", "streaming"),
        ("catalog gp_replication_slots", "internal_wal_replication_slot"),
        ("config", "fts_probe_interval_ms"),
        ("kv count", "200"),
    ] {
        let shown = look.run(&mut cluster, letter);
        assert!(shown.contains(says), "{letter}: {shown}");
    }
    let mut set = situation("A setting is to be changed");
    set.run(&mut cluster, "config --set fts_probe_interval_ms=50");
    set.run(&mut cluster, "config --set fts_probe_interval_ms=1");
    let shown = set.run(&mut cluster, "config");
    let row = shown.lines().find(|line| line.contains("fts_probe_interval_ms")).unwrap();
    assert!(row.split_whitespace().any(|word| word == "50"), "{row}");
    cluster.ask("config --set fts_probe_interval_ms=100").ok();

    let mut work = situation("A host is to be worked on");
    cluster.refused("stop --host sdw1 -a", "has the coordinator or its standby");
    cluster.refused("stop --host sdw2 -a", "has the coordinator or its standby");
    cluster.refused("stop --host sdw9 -a", "there is no host");
    cluster.kill(8);
    cluster.shows("-Q", "Down");
    cluster.refused("stop --host sdw3 -a", "content 2 would have no copy in sync");
    cluster.ask("recover -a").ok();
    work.run(&mut cluster, "stop --host sdw3");
    cluster.rows_are_there();
    cluster.write(50);
    work.run(&mut cluster, "state -e");
    work.run(&mut cluster, "recover -a");
    work.run(&mut cluster, "recover -r -a");
    cluster.in_sync();
    cluster.rows_are_there();

    let mut down = situation("The cluster is to be brought down, and up");
    down.run(&mut cluster, "stop -a");
    down.run(&mut cluster, "state");
    let error = down.run(&mut cluster, "outrigger start");
    assert!(error.contains("--agent HOST:PORT"), "{error}");
    down.run(&mut cluster, "start --agent");
    cluster.in_sync();
    down.run(&mut cluster, "state -e");
    cluster.rows_are_there();
    down.run(&mut cluster, "stop -a");
    // Both know a cluster's file and nobody else.
    cluster.refused("start --agent sdw3:7070", "none of these agents has a coordinator");
    down.run(&mut cluster, "start --cluster");
    cluster.write(20);
    cluster.rows_are_there();
    down.run(&mut cluster, "restart -a");
    cluster.in_sync();
    down.run(&mut cluster, "state -e");
    cluster.rows_are_there();
    cluster.write(20);
    assert_eq!(cluster.ask("start").ok().lines().next(), Some("the cluster is up already"));
}

#[test]
fn another_coordinator_takes_over() {
    let mut cluster = Hosts::cluster((4, 4), &mirrored());
    let mut gone = situation("The coordinator is gone, its host is not");
    cluster.kill(1);
    gone.run(&mut cluster, "state");
    let row = gone.run(&mut cluster, "kv get key000001 --direct");
    assert!(row.contains("xxx"), "{row}");
    gone.run(&mut cluster, "start --agent");
    cluster.in_sync();
    gone.run(&mut cluster, "state -e");
    cluster.rows_are_there();
    a_commit_waits_for_its_mirror_while_nobody_can_drop_it(&cluster, row.trim());
    cluster.rows_are_there();
    cluster.refused("activate-standby --standby sdw1:7000 -a", "this is the acting coordinator");
    cluster.refused("init-standby --host sdw3 -a", "there is a standby on host sdw2");

    let mut gone = situation("The coordinator's host is gone");
    cluster.kill_host(1);
    gone.run(&mut cluster, "activate-standby");
    cluster.shows("-e", "Roles Switched");
    cluster.write(50);
    gone.run(&mut cluster, "state -e");
    let shown = gone.run(&mut cluster, "state -f");
    assert!(shown.contains("Status could not be determined"), "{shown}");
    gone.run(&mut cluster, "remove-standby -a");
    gone.run(&mut cluster, "init-standby --host sdw2 -a");
    gone.run(&mut cluster, "init-standby --host sdw3 -a");
    let shown = gone.run(&mut cluster, "state -f");
    assert!(shown.contains("streaming"), "{shown}");
    cluster.rows_are_there();
    // The old one returns, and commands nothing: what it had is removed.
    cluster.start_agent(1);
    until(|| !cluster.path("data/sdw1/coordinator").exists());
    cluster.ask("recover -a").ok();
    cluster.ask("recover -r -a").ok();
    cluster.in_sync();
    cluster.write(20);
    cluster.rows_are_there();
}

/// What a bad disk leaves of a standby: a bit of its log flipped, both slots of its control file gone, nothing at all.
fn spoil(dir: &Path, how: &str) {
    match how {
        "log" => {
            let path = dir.join("wal/0000000000000000.seg");
            let mut bytes = std::fs::read(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            let at = (0..used / 2).rev().find(|at| bytes[*at] != 0).unwrap();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        "control file" => {
            for slot in ["control-0", "control-1"] {
                std::fs::write(dir.join(slot), b"nothing of an instance").unwrap();
            }
        }
        _ => {
            std::fs::remove_dir_all(dir).unwrap();
            std::fs::create_dir(dir).unwrap();
        }
    }
}

#[test]
fn a_standby_that_is_gone_or_bad_is_replaced() {
    let mut cluster = Hosts::cluster((4, 4), &mirrored());
    let standby = 10;
    let refused_to_open = "it ended with code 2";
    let mut gone = situation("The standby is gone, or its data is bad");
    cluster.kill(standby);
    spoil(&cluster.path("data/sdw2/standby"), "log");
    cluster.shows("-f", "Standby process not running");
    gone.run(&mut cluster, "state -e");
    gone.run(&mut cluster, "start --agent");
    cluster.shows("-e", refused_to_open);
    let shown = gone.run(&mut cluster, "state -f");
    assert!(shown.contains("not running") && !shown.contains("streaming"), "{shown}");
    // What cannot open cannot become the coordinator, by force neither; the cluster goes on without it.
    for force in ["", "--force"] {
        cluster
            .refused(&format!("activate-standby --standby sdw2:7000 {force} -a --timeout 2"), "");
    }
    cluster.write(20);
    gone.run(&mut cluster, "remove-standby");
    gone.run(&mut cluster, "init-standby");
    gone.run(&mut cluster, "state -e");

    for (how, at) in [("control file", "coordinator"), ("everything", "another")] {
        let dir = cluster.path(&format!("data/sdw2/{at}"));
        cluster.kill(standby);
        spoil(&dir, how);
        cluster.ask("start --agent sdw2:7070").ok();
        cluster.shows("-e", refused_to_open);
        cluster.write(20);
        cluster.ask("remove-standby -a").ok();
        cluster.ask("init-standby --host sdw2 --data-dir /data/sdw2/another -a").ok();
        assert!(cluster.ask("state -f").ok().contains("streaming"), "{how}");
        assert!(cluster.path("data/sdw2/another/control-0").exists());
    }
    // The last one is as good as any.
    cluster.kill_host(1);
    cluster.ask("activate-standby --standby sdw2:7000 -a").ok();
    cluster.shows("-e", "Roles Switched");
    cluster.write(20);
    cluster.rows_are_there();
}

/// With the coordinator down a mirror that dies holds the commits of its primary, and of nobody else, until the coordinator
/// is back and records a configuration without it.
fn a_commit_waits_for_its_mirror_while_nobody_can_drop_it(cluster: &Hosts, value: &str) {
    let put = |key: &str, content: u32, at: &str, timeout: u32| {
        let line = format!("kv put {key} '{value}' --direct --content {content} --at {at}");
        cluster.ask(&format!("{line} --timeout {timeout}"))
    };
    cluster.kill(1);
    cluster.kill(7);
    let held = put("key000001", 1, "sdw2:6000,sdw3:8000", 1);
    assert_eq!(held.code, Some(1), "{}{}", held.out, held.err);
    assert!(held.err.contains("in doubt"), "{}", held.err);
    // The row's own value, wherever it lies: one of the others has it, and takes it.
    let value = |n: u32| format!("kv get key00000{n} --direct --content 2 --at sdw3:6000");
    let other = (0..10).find(|n| cluster.ask(&value(*n)).code == Some(0)).expect("some key");
    let same = cluster.ask(&value(other)).ok();
    let line = format!("kv put key00000{other} '{}' --direct --content 2", same.trim());
    cluster.ask(&format!("{line} --at sdw3:6000,sdw4:8000")).ok();
    cluster.ask("start --agent sdw1:7070").ok();
    until(|| put("key000001", 1, "sdw2:6000,sdw3:8000", 10).code == Some(0));
    cluster.ask("recover -a").ok();
    cluster.in_sync();
}

#[test]
fn a_catalog_that_is_lost_is_made_anew() {
    let mut cluster = Hosts::cluster((4, 4), &mirrored());
    cluster.refused("rebuild-catalog --agent sdw3:7070 -a", "serves");
    cluster.ask("remove-standby -a").ok();
    cluster.kill(1);
    std::fs::remove_dir_all(cluster.path("data/sdw1/coordinator")).unwrap();
    let mut lost = situation("The catalog is lost");
    let said = lost.run(&mut cluster, "rebuild-catalog");
    assert!(said.contains("there is no standby"), "{said}");
    cluster.in_sync();
    lost.run(&mut cluster, "state -e");
    lost.run(&mut cluster, "init-standby");
    cluster.write(20);
    cluster.rows_are_there();
}

#[test]
fn a_standby_is_forced_when_the_voters_have_no_majority() {
    let mut cluster = Hosts::cluster((4, 4), &mirrored());
    let mut none = situation("The voters have no majority");
    for host in [1, 3, 4] {
        cluster.kill_host(host);
    }
    let refused = none.run(&mut cluster, "activate-standby");
    assert!(refused.contains("voters"), "{refused}");
    let report = none.run(&mut cluster, "activate-standby --standby sdw2:7000 --force");
    assert!(report.contains("voters"), "{report}");
    none.run(&mut cluster, "state -e");
    // The old one comes back with a majority of the agents, and is told.
    for host in [3, 4, 1] {
        cluster.start_agent(host);
    }
    cluster.ask("recover -a").ok();
    cluster.ask("recover -r -a").ok();
    until(|| cluster.copies(-1).len() == 2);
    cluster.rows_are_there();
    cluster.write(20);
    cluster.rows_are_there();
}

#[test]
fn a_double_fault_heals_or_ends_with_an_accepted_loss() {
    let mut cluster = Hosts::cluster((4, 4), &mirrored());
    // The mirror of content 1 misses something; then its primary is lost with its disk.
    cluster.kill(7);
    cluster.shows("-Q", "Down");
    cluster.refused("promote --content 1 --accept-data-loss -a", "nothing need be lost");
    cluster.kill(3);
    cluster.shows("-e", "Double Faults");
    let mut double = situation("Both copies of a content are down");
    double.run(&mut cluster, "state -e");
    let dir = cluster.path("data/sdw2/primary/gpseg1");
    let away = cluster.path("away");
    std::fs::rename(&dir, &away).unwrap();
    double.run(&mut cluster, "recover -a --timeout 5");
    double.run(&mut cluster, "promote --content 1 --accept-data-loss -a");
    double.run(&mut cluster, "promote --content 1 --accept-data-loss --old-primary-is-fenced");
    cluster.rows_are_there();
    double.run(&mut cluster, "recover -a");
    cluster.ask("recover -r -a").ok();
    double.run(&mut cluster, "state -e");
    cluster.write(20);
    cluster.rows_are_there();
}

#[test]
fn a_cluster_without_mirrors_goes_down_and_gets_them() {
    let mut cluster = Hosts::cluster((3, 3), &format!("{PATIENT}\nmirroring = \"none\""));
    let mut none = situation("The cluster has no mirrors");
    let (dir, away) = (cluster.path("data/sdw2/primary/gpseg1"), cluster.path("away"));
    cluster.kill(3);
    std::fs::rename(&dir, &away).unwrap();
    cluster.shows("-e", "The cluster went down by itself");
    let shown = none.run(&mut cluster, "state -e");
    assert!(shown.contains("DATABASE IS PROBABLY UNAVAILABLE"), "{shown}");
    let refused = none.run(&mut cluster, "outrigger start");
    assert!(refused.contains("not enough valid instances"), "{refused}");
    std::fs::rename(&away, &dir).unwrap();
    none.run(&mut cluster, "outrigger start");
    cluster.rows_are_there();
    std::fs::write(cluster.path("moves.txt"), "0|sdw3|8010|/nowhere\n").unwrap();
    cluster.refused("move-mirrors -i moves.txt -a", "line 1: content 0 has no mirror");
    none.run(&mut cluster, "add-mirrors --spread");
    let shown = none.run(&mut cluster, "state -m");
    assert!(shown.contains("Spread"), "{shown}");
    cluster.refused("add-mirrors -a", "`outrigger recover` follows mirrors");
    cluster.write(20);
    cluster.rows_are_there();

    let mut moves = situation("Mirrors are to be elsewhere");
    let line = cluster.here("0|sdw3|8010|/data/sdw3/mirror/moved0\n");
    std::fs::write(cluster.path("moves.txt"), line).unwrap();
    moves.run(&mut cluster, "move-mirrors -i moves.txt -a");
    let map = moves.run(&mut cluster, "state -c");
    assert!(map.contains("moved0"), "{map}");
    cluster.write(20);
    moves.run(&mut cluster, "move-mirrors -i moves.txt_backout_");
    moves.run(&mut cluster, "state -e");
    assert!(!cluster.path("data/sdw3/mirror/moved0").exists());
    cluster.rows_are_there();
}

#[test]
fn every_situation_of_the_runbook_has_its_story() {
    let page = page();
    let told: BTreeSet<_> = situations(&page).into_iter().map(|(title, _)| title).collect();
    let here = include_str!("the_runbook.rs").split("= situation(\"").skip(1);
    let here: BTreeSet<_> =
        here.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    assert_eq!(told.iter().collect::<Vec<_>>(), here.iter().collect::<Vec<_>>());
}

/// Verbs that no situation needs, and whose tests they are in.
const ELSEWHERE: [(&str, &str); 7] = [
    ("expand", include_str!("a_cluster_is_expanded.rs")),
    ("wal", include_str!("logs_are_open_to_others.rs")),
    ("store", include_str!("a_cluster_of_processes.rs")),
    ("coordinator", include_str!("an_interrupted_init_goes_on.rs")),
    ("instance", include_str!("an_interrupted_init_goes_on.rs")),
    ("bench", include_str!("an_interrupted_bench_leaves_nothing.rs")),
    ("demo", include_str!("the_demo.rs")),
];

#[test]
fn every_verb_of_the_page_is_run_by_a_test() {
    let page = page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `outrigger "));
    let verb = |row: &str| row.split([' ', '`']).next().unwrap_or_default().to_owned();
    let verbs: BTreeSet<_> = rows.map(verb).collect();
    assert!(verbs.len() > 15, "{verbs:?}");
    let situations = situations(&page);
    let typed: BTreeSet<_> = situations
        .iter()
        .flat_map(|(_, commands)| commands)
        .filter_map(|command| command.line.strip_prefix("outrigger "))
        .map(verb)
        .collect();
    let elsewhere = |verb: &str| {
        ELSEWHERE.iter().any(|(at, text)| *at == verb && text.contains(&format!("\"{verb}\"")))
    };
    let left: Vec<_> =
        verbs.iter().filter(|verb| !typed.contains(*verb) && !elsewhere(verb)).collect();
    assert!(left.is_empty(), "no test runs {left:?}");
}
