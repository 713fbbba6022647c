//! `outrigger init FILE --dry-run`: the plan of the examples, of what the planner is known by, and what
//! is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Ran, run};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clusters").join(name)
}

fn dry_run(file: &Path) -> Ran {
    run(&["init", file.to_str().unwrap(), "--dry-run"])
}

fn plan(file: &Path) -> Value {
    run(&["init", file.to_str().unwrap(), "--dry-run", "--json"]).json().remove(0)
}

/// A cluster of this many hosts, each with this many primaries.
fn file(home: &Path, hosts: usize, segments_per_host: usize, mirroring: &str) -> PathBuf {
    let mut text = format!(
        "name = \"c\"\nmirroring = \"{mirroring}\"\nsegments_per_host = {segments_per_host}\n\
         coordinator = {{ host = \"sdw0\", data_dir = \"/data/coordinator\" }}\n\
         data_dirs = [\"/data/primary\"]\nmirror_data_dirs = [\"/data/mirror\"]\n"
    );
    for host in 0..hosts {
        let at = host + 1;
        text += &format!(
            "[[host]]\nname = \"sdw{host}\"\naddresses = [\"10.0.0.{at}\"]\nagent = \"10.0.0.{at}:7070\"\n"
        );
    }
    let path = home.join(format!("{hosts}x{segments_per_host}-{mirroring}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

/// The host of the copy of each content in this role.
fn hosts_of(plan: &Value, role: &str) -> Vec<String> {
    let instances = plan["instances"].as_array().unwrap();
    let of_role = instances.iter().filter(|one| one["role"] == role);
    of_role.map(|one| one["host"].as_str().unwrap().to_owned()).collect()
}

fn named(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("sdw{number}")).collect()
}

#[test]
fn four_hosts_of_four_in_group_have_all_mirrors_on_the_next_host() {
    let home = tempfile::tempdir().unwrap();
    let plan = plan(&file(home.path(), 4, 4, "group"));
    assert_eq!(hosts_of(&plan, "primary"), named((0..16).map(|content| content / 4)));
    assert_eq!(hosts_of(&plan, "mirror"), named((0..16).map(|content| (content / 4 + 1) % 4)));
    assert_eq!(plan["most_acting_primaries"], 8);
    let loss = &plan["losses"][1];
    assert_eq!(loss["lost"], "sdw1");
    let load = |at: usize| loss["acting_primaries"][at]["after"].as_u64().unwrap();
    assert_eq!([load(0), load(1), load(2)], [4, 8, 4]);
}

#[test]
fn four_hosts_of_four_in_spread_are_refused_and_five_are_laid_out() {
    let home = tempfile::tempdir().unwrap();
    let refused = dry_run(&file(home.path(), 4, 4, "spread")).error(2);
    let reason = "refused: spread mirroring needs more hosts than primaries per host: 4 hosts, 4 \
                  primaries per host";
    assert!(refused.contains(reason), "{refused}");
    let plan = plan(&file(home.path(), 5, 4, "spread"));
    let expected = (0..20).map(|content| (content / 4 + 1 + content % 4) % 5);
    assert_eq!(hosts_of(&plan, "mirror"), named(expected));
    assert_eq!(plan["most_acting_primaries"], 5);
}

#[test]
fn the_documentation_shows_what_the_example_prints() {
    let printed = dry_run(&example("one-machine.toml")).ok();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let docs = std::fs::read_to_string(path).unwrap();
    assert!(docs.contains(&format!("```text\n{printed}```\n")), "{printed}");
}

#[test]
fn the_example_of_one_machine_has_every_instance_in_a_place_of_its_own() {
    let plan = plan(&example("one-machine.toml"));
    assert_eq!(hosts_of(&plan, "mirror").len(), 8);
    let pairs = plan["fatal_pairs"].as_array().unwrap();
    assert_eq!(pairs[0]["hosts"], serde_json::json!(["sdw1", "sdw2"]));
    assert_eq!(pairs[0]["contents"], serde_json::json!([-1, 0, 1]));
    assert_eq!((pairs.len(), plan["fatal_hosts"].as_array().unwrap().len()), (4, 0));
    assert_eq!(plan["notes"].as_array().unwrap().len(), 0);
}

#[test]
fn the_example_in_spread_uses_both_networks_for_each_content() {
    let plan = plan(&example("spread.toml"));
    assert_eq!((plan["contents"].as_u64(), plan["hosts"].as_u64()), (Some(20), Some(7)));
    let instances = plan["instances"].as_array().unwrap();
    for pair in instances.chunks(2) {
        let network = |one: &Value| one["address"].as_str().unwrap()[..7].to_owned();
        assert_eq!(pair[0]["content"], pair[1]["content"]);
        assert_ne!(network(&pair[0]), network(&pair[1]), "{pair:?}");
    }
    // The catalog's hosts carry nothing else.
    assert!(!hosts_of(&plan, "primary").iter().any(|host| host.contains("cdw")));
}

#[test]
fn the_example_with_two_racks_survives_either_of_them() {
    let plan = plan(&example("two-racks.toml"));
    let rack = |host: &String| host[..4].to_owned();
    for (one, other) in [("primary", "mirror"), ("coordinator", "standby")] {
        for (one, other) in hosts_of(&plan, one).iter().zip(&hosts_of(&plan, other)) {
            assert_ne!(rack(one), rack(other));
        }
    }
}

#[test]
fn a_cluster_without_standby_or_with_few_voters_is_told_what_that_means() {
    let home = tempfile::tempdir().unwrap();
    let alone = plan(&file(home.path(), 3, 1, "none"));
    assert_eq!(alone["fatal_hosts"].as_array().unwrap().len(), 3);
    assert!(alone["notes"][0].as_str().unwrap().starts_with("there is no standby"));
    let few = file(home.path(), 2, 1, "group");
    let text = std::fs::read_to_string(&few).unwrap();
    let standby = "standby = { host = \"sdw1\", data_dir = \"/data/standby\" }\n";
    std::fs::write(&few, format!("{standby}{text}")).unwrap();
    let printed = dry_run(&few).ok();
    assert!(printed.contains("note: 2 hosts vote on who is the coordinator"), "{printed}");
}

#[test]
fn a_file_that_is_wrong_names_key_and_line_and_nothing_is_made() {
    let home = tempfile::tempdir().unwrap();
    let path = file(home.path(), 2, 1, "group");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("mirroring", "mirorring")).unwrap();
    let error = dry_run(&path).error(2);
    assert!(error.ends_with("line 2: unknown key mirorring; did you mean mirroring?"), "{error}");
    let missing = dry_run(&home.path().join("none.toml")).error(2);
    assert!(missing.contains("cannot be read"), "{missing}");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the file itself");
    std::fs::write(&path, text).unwrap();
    let undecided = run(&["init", path.to_str().unwrap()]);
    assert_eq!(undecided.code, Some(2));
    assert!(undecided.err.contains("-a goes on"), "{}", undecided.err);
}
