//! Each table, for each way a cluster can stand.

pub(in crate::cli) mod world;

use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::tables::Up;
use outrigger_cluster::operator::ClusterState;
use outrigger_wal::Lsn;
use serde_json::Value;

use super::{View, details, problems, tables};
use crate::cli::page::Page;

fn json(page: &Page) -> Value {
    Value::Object(page.json())
}

fn problems_of(state: &ClusterState) -> Value {
    let (page, wrong) = problems::page(state);
    assert_eq!(wrong, problems::is_wrong(state));
    assert_eq!(wrong, !page.text().contains("All segments are running normally"));
    json(&page)
}

#[test]
fn a_healthy_cluster_has_no_problems() {
    let found = problems_of(&world::healthy());
    assert_eq!(found["notes"][0], "All segments are running normally");
    assert_eq!(found.as_object().unwrap().len(), 1, "{found}");
    assert_eq!(problems_of(&world::without_agents())["notes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_failover_shows_switched_roles_the_lost_segment_and_the_pair_out_of_sync() {
    let state = world::failed_over();
    let found = problems_of(&state);
    let switched = &found["roles_switched"][0];
    assert_eq!((&switched["primary"], &switched["mirror"]), (&"sdw2".into(), &"sdw1".into()));
    let pair = &found["unsynchronized_pairs"][0];
    assert_eq!(pair["remaining_bytes"], Value::Null, "nobody knows what a lost copy lacks");
    let down = &found["downed_segments"][0];
    assert_eq!((&down["segment"], &down["config_status"]), (&"sdw1".into(), &"Down".into()));
    assert!(down["status"].as_str().unwrap().contains("until it is recovered"), "{down}");
    assert!(found.get("segments_in_recovery").is_none());
    let text = problems::page(&state).0.text();
    assert!(text.contains("Segments with Primary and Mirror Roles Switched"), "{text}");
    assert!(text.contains("Unknown") && !text.contains("UNAVAILABLE"), "{text}");
}

#[test]
fn a_copy_that_catches_up_shows_the_bytes_that_remain_and_is_not_down() {
    let found = problems_of(&world::catching_up());
    assert_eq!(found["unsynchronized_pairs"][0]["remaining_bytes"], 4096);
    let recovery = &found["segments_in_recovery"][0];
    assert_eq!(
        (&recovery["recovery_type"], &recovery["percent"]),
        (&"incremental".into(), &"99%".into())
    );
    assert!(found.get("downed_segments").is_none(), "{found}");
}

#[test]
fn a_full_recovery_shows_kilobytes_of_kilobytes() {
    let found = problems_of(&world::rebuilding());
    let recovery = &found["segments_in_recovery"][0];
    assert_eq!(recovery["recovery_type"], "full");
    assert_eq!(
        (&recovery["completed_kb"], &recovery["total_kb"]),
        (&1_164_848.into(), &1_371_715.into())
    );
    assert_eq!(recovery["percent"], "84%");
    assert!(found.get("downed_segments").is_none());
}

#[test]
fn a_content_without_a_usable_instance_is_a_banner() {
    let state = world::double_fault();
    let found = problems_of(&state);
    assert_eq!(found["banners"][0], "DATABASE IS PROBABLY UNAVAILABLE");
    assert_eq!(found["banners"][1], "Contents without a usable instance: 0");
    assert!(found["double_faults"][0]["note"].as_str().unwrap().contains("durable to"), "{found}");
    // The acting primary is never down in the configuration; what it is shows all the same.
    let down = found["downed_segments"].as_array().unwrap();
    let primary = down.iter().find(|row| row["segment"] == "sdw2").unwrap();
    assert_eq!(
        (&primary["config_status"], &primary["status"]),
        (&"Up".into(), &"dead: refused".into())
    );
}

#[test]
fn what_is_under_way_or_suspected_is_a_problem() {
    let mut state = world::healthy();
    state.contents[1].note = "promoting dbid 4".to_owned();
    world::instance(&mut state, 2).seen = "suspect".to_owned();
    let found = problems_of(&state);
    assert_eq!(found["under_way"][0]["note"], "promoting dbid 4");
    assert_eq!(found["under_way"][0]["in_sync_set"], "dbid 2, dbid 4");
    assert_eq!(found["suspect_segments"][0]["segment"], "sdw1");
}

#[test]
fn an_agent_that_is_gone_is_a_problem() {
    let mut state = world::healthy();
    state.hosts[1].agent_here = false;
    assert_eq!(problems_of(&state)["hosts_without_agent"][0]["host"], "sdw2");
}

#[test]
fn a_cluster_that_is_down_says_by_whom() {
    let mut state = world::healthy();
    state.up = Up::Stopped;
    assert!(problems_of(&state)["banners"][0].as_str().unwrap().contains("outrigger start"));
    state.up = Up::ShutDown { why: "content 0 has no mirror".to_owned() };
    let found = problems_of(&state);
    assert_eq!(found["banners"][0], "DATABASE IS PROBABLY UNAVAILABLE");
    assert!(found["banners"][1].as_str().unwrap().contains("content 0 has no mirror"));
}

#[test]
fn a_standby_that_lags_is_a_problem_and_says_so_in_its_own_table() {
    let mut state = world::healthy();
    world::with_copy(&mut state, 6, |copy| {
        copy.in_sync = false;
        copy.durable = Lsn(world::END - 512);
        copy.lag_bytes = 512;
    });
    assert_eq!(problems_of(&state)["standby"][0]["segment"], "sdw2");
    let shown = json(&details::standby(&state));
    assert_eq!(shown["replication"]["sync_state"], "not in sync");
    assert_eq!(
        (&shown["replication"]["sender_state"], &shown["replication"]["lag_bytes"]),
        (&"catchup".into(), &512.into())
    );
}

#[test]
fn the_standby_s_table_never_hides_that_there_is_none() {
    let shown = details::standby(&world::healthy()).text();
    assert!(shown.contains("Standby status") && shown.contains("Standby host passive"), "{shown}");
    assert!(shown.contains("Sync state") && shown.contains("= sync"), "{shown}");
    assert!(shown.contains("Flush Location") && shown.contains("0/40000000"), "{shown}");
    let none = details::standby(&world::without_standby()).text();
    assert!(none.contains("Standby coordinator instance not configured"), "{none}");
    assert!(none.contains("No entries found."), "{none}");
    let mut state = world::healthy();
    world::instance(&mut state, 6).process = Some(Process::Stopped);
    let down = details::standby(&state).text();
    assert!(
        down.contains("Standby process not running") && down.contains("No entries found."),
        "{down}"
    );
}

#[test]
fn mirrors_are_listed_with_the_type_that_was_configured() {
    let (page, wrong) = tables::mirrors(&world::healthy());
    assert!(!wrong);
    let shown = json(&page);
    assert_eq!(shown["mirroring"]["type"], "Group");
    assert_eq!(shown["mirrors"].as_array().unwrap().len(), 2);
    assert_eq!(shown["mirrors"][0]["status"], "Passive");
    assert_eq!(shown["mirrors"][0]["data_status"], "Synchronized");
    let mut state = world::healthy();
    state.settings = vec![("mirroring".to_owned(), 3)];
    assert_eq!(json(&tables::mirrors(&state).0)["mirroring"]["type"], "Spread");
    state.settings.clear();
    assert_eq!(json(&tables::mirrors(&state).0)["mirroring"]["type"], Value::Null, "never guessed");
}

#[test]
fn a_mirror_that_acts_as_primary_is_marked_and_counted() {
    let (page, wrong) = tables::mirrors(&world::failed_over());
    assert!(wrong);
    let text = page.text();
    let line = text.lines().find(|line| line.contains("Acting as Primary")).unwrap();
    assert!(line.contains("Not In Sync") && line.ends_with("<<<<<<<<"), "{line}");
    assert!(text.contains("warning: 1 segment(s) configured as mirror(s) are acting as primaries"));
    assert!(text.contains("warning: 1 segment(s) configured as mirror(s) are not synchronized"));
}

#[test]
fn a_mirror_that_is_lost_has_failed() {
    let mut state = world::healthy();
    world::with_copy(&mut state, 4, |copy| {
        (copy.in_sync, copy.held, copy.in_touch) = (false, true, false)
    });
    let (page, wrong) = tables::mirrors(&state);
    assert!(wrong && page.text().contains("1 segment(s) configured as mirror(s) have failed"));
    assert!(tables::map(&state).text().contains("Primary Active, Mirror Failed"));
}

#[test]
fn without_mirrors_there_is_nothing_wrong_with_them() {
    let state = world::without_mirrors();
    let (page, wrong) = tables::mirrors(&state);
    assert!(!wrong && page.text() == "Mirroring is not configured");
    assert!(tables::map(&state).text().contains("Primary Active, No Mirror"));
    assert_eq!(problems_of(&state)["notes"][0], "All segments are running normally");
}

#[test]
fn the_map_names_pairs_by_the_roles_they_were_made_for() {
    let healthy = json(&tables::map(&world::healthy()));
    assert_eq!(healthy["pairs"][0]["status"], "Primary Active, Mirror Available");
    let over = json(&tables::map(&world::failed_over()));
    assert_eq!(over["pairs"][0]["status"], "Mirror Active, Primary Failed");
    assert_eq!(
        (&over["pairs"][0]["primary"], &over["pairs"][0]["bad"]),
        (&"sdw1".into(), &true.into())
    );
    let back = json(&tables::map(&world::catching_up()));
    assert_eq!(back["pairs"][0]["status"], "Mirror Active, Primary Available");
}

#[test]
fn the_catalog_s_word_counts_what_it_says_is_up() {
    let (page, wrong) = tables::configured(&world::healthy());
    assert!(!wrong && page.text().contains("# of up segments, from configuration table"));
    assert_eq!(json(&page)["segments"]["up"], 4);
    let (page, wrong) = tables::configured(&world::failed_over());
    assert!(wrong);
    assert_eq!(json(&page)["down_segments"][0]["segment"], "sdw1");
    // In a double fault the catalog still says that the acting primary is up: this table repeats it.
    assert_eq!(json(&tables::configured(&world::double_fault()).0)["segments"]["up"], 3);
}

#[test]
fn each_port_is_listed_with_whoever_listens() {
    let shown = json(&tables::ports(&world::healthy()));
    let ports = shown["ports"].as_array().unwrap();
    assert_eq!(ports.len(), 6);
    assert_eq!((&ports[0]["role"], &ports[0]["port"]), (&"coordinator".into(), &7000.into()));
}

#[test]
fn the_counts_tell_primaries_from_mirrors_by_what_they_were_made_for() {
    let shown = json(&details::brief(&world::failed_over()));
    assert_eq!(
        (&shown["primaries"]["total"], &shown["primaries"]["valid"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        (&shown["mirrors"]["acting_as_primary"], &shown["mirrors"]["acting_as_mirror"]),
        (&1.into(), &1.into())
    );
    assert_eq!(shown["primaries"]["processes_missing"], 1);
    let summary = shown["summary"].as_array().unwrap();
    assert_eq!(
        (&summary[0]["primary"], &summary[0]["in_sync_set"]),
        (&"sdw2".into(), &"dbid 4".into())
    );
}

#[test]
fn each_segment_is_shown_with_epoch_in_sync_set_and_bytes_left() {
    let shown = json(&details::detailed(&world::catching_up()));
    let segments = shown["segments"].as_array().unwrap();
    let old = segments.iter().find(|segment| segment["dbid"] == 2).unwrap();
    assert_eq!((&old["lag_bytes"], &old["epoch"]), (&4096.into(), &2.into()));
    assert_eq!((&old["role"], &old["preferred_role"]), (&"Mirror".into(), &"Primary".into()));
    assert_eq!((&old["mirror_status"], &old["in_sync_set"]), (&"Catchup".into(), &"dbid 4".into()));
    let shown = json(&details::detailed(&world::rebuilding()));
    let old = shown["segments"].as_array().unwrap().iter().find(|one| one["dbid"] == 2).unwrap();
    assert_eq!(old["mirror_status"], "Copying files from primary");
}

#[test]
fn every_option_shows_every_cluster_and_its_json_begins_alike() {
    let views = [
        View::default(),
        View { segments: true, ..View::default() },
        View { problems: true, ..View::default() },
        View { mirrors: true, ..View::default() },
        View { map: true, ..View::default() },
        View { standby: true, ..View::default() },
        View { configured: true, ..View::default() },
        View { ports: true, ..View::default() },
    ];
    let worlds = [
        world::healthy(),
        world::failed_over(),
        world::catching_up(),
        world::rebuilding(),
        world::double_fault(),
        world::without_mirrors(),
        world::without_standby(),
        world::without_agents(),
    ];
    for state in &worlds {
        for view in views {
            let (page, wrong) = view.page(state);
            assert!(!page.text().is_empty());
            let shown = super::as_json(state, view, &page, wrong);
            assert_eq!(shown["cluster"], state.cluster.to_string());
            assert_eq!(shown["wrong"], wrong);
        }
        let shown = super::as_json(state, View::default(), &View::default().page(state).0, false);
        assert_eq!(shown["contents"].as_array().unwrap().len(), state.contents.len());
    }
}
