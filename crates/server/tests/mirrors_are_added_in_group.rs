//! A running cluster without mirrors gets them on the next host each: the default layout, as processes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use support::hosts::Hosts;

#[test]
fn a_cluster_without_mirrors_gets_them_in_group_and_then_survives_a_host() {
    let keys = "fts_probe_timeout_ms = 10000\nmirroring = \"none\"";
    let mut cluster = Hosts::cluster((3, 3), keys);
    assert_eq!(cluster.copies(0).len(), 1);
    cluster.ask("add-mirrors -a").ok();
    cluster.in_sync();
    assert!(cluster.ask("state -m").ok().contains("Group"));
    // Next hosts, round: 0 on 1 and 2, 1 on 2 and 3, 2 on 3 and 1.
    for (content, hosts) in [(0, ["sdw1", "sdw2"]), (1, ["sdw2", "sdw3"]), (2, ["sdw3", "sdw1"])] {
        let copies = cluster.copies(content);
        let found: Vec<_> = copies.iter().filter_map(|copy| copy["host"].as_str()).collect();
        assert_eq!(found, hosts, "content {content}");
    }
    cluster.write(50);
    cluster.kill_host(3);
    cluster.shows("-e", "Roles Switched");
    cluster.write(50);
    cluster.rows_are_there();
}
