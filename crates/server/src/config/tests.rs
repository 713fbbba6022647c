//! What a configuration file may say, and how its errors read.

use super::cluster::AutoRejoin;
use super::*;

const INSTANCE: &str = "data_dir = \"/d\"\nlisten = \"127.0.0.1:7001\"\ncoordinator = \"c:7000\"\n";
const COORDINATOR: &str = "data_dir = \"/d\"\nlisten = \"127.0.0.1:7000\"\n";

const CLUSTER: &str = r#"name = "c"
segments_per_host = 1
coordinator.host = "sdw1"
coordinator.data_dir = "/data/coordinator"
data_dirs = ["/data/primary"]
mirror_data_dirs = ["/data/mirror"]
"#;
const HOSTS: &str = r#"
[[host]]
name = "sdw1"
addresses = ["10.0.0.1"]
agent = "10.0.0.1:7070"

[[host]]
name = "sdw2"
addresses = ["10.0.0.2"]
agent = "10.0.0.2:7070"
"#;

/// With more keys of the cluster, and more of its last host.
fn cluster(more: &str, of_host: &str) -> Result<ClusterConfig, String> {
    let text = format!("{CLUSTER}{more}\n{HOSTS}{of_host}\n");
    parse(Path::new("c.toml"), &text).map_err(|error| error.to_string())
}

fn instance(more: &str) -> Result<InstanceConfig, String> {
    let text = format!("{INSTANCE}{more}");
    parse(Path::new("i.toml"), &text).map_err(|error| error.to_string())
}

#[test]
fn what_must_be_given_is_enough() {
    let config = instance("").unwrap();
    assert_eq!((config.content, config.copy_grace_ms), (0, 200));
    let config: CoordinatorConfig = parse(Path::new("c.toml"), COORDINATOR).unwrap();
    assert_eq!(config.log, "info");
}

#[test]
fn an_unknown_key_names_its_line_and_the_closest_known_one() {
    let error = instance("\ncopy_grace = 5\n").unwrap_err();
    assert_eq!(error, "i.toml: line 5: unknown key copy_grace; did you mean copy_grace_ms?");
    let error = instance("[table]\nx = 1").unwrap_err();
    assert!(
        error.starts_with("i.toml: line 4: unknown key table; the keys are data_dir,"),
        "{error}"
    );
}

#[test]
fn a_value_that_makes_no_sense_names_its_line() {
    for (more, expected) in [
        ("segment_bytes = 1000", "i.toml: line 4: segment_bytes: 1000 is not a power of two"),
        ("\n\nadvertise = [\"here\"]", "i.toml: line 6: advertise: \"here\" is not host:port"),
        ("copy_grace_ms = 1", "i.toml: line 4: copy_grace_ms: 1 is not between"),
        ("content = \"a\"", "i.toml: line 4: content: invalid type"),
        ("content = ", "i.toml: line 4: "),
    ] {
        let error = instance(more).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_missing_key_is_named() {
    let error = parse::<InstanceConfig>(Path::new("i.toml"), "data_dir = \"d\"").unwrap_err();
    assert!(error.to_string().contains("missing field `listen`"), "{error}");
}

#[test]
fn every_key_can_be_given_and_its_documented_default_is_its_default() {
    let defaults = |keys: &[Key]| -> String {
        keys.iter()
            .filter(|key| !key.default.is_empty() && key.default != "none")
            .map(|key| format!("{} = {}\n", key.name, key.default.split(" (").next().unwrap()))
            .collect()
    };
    assert_eq!(instance(&defaults(InstanceConfig::KEYS)).unwrap(), instance("").unwrap());
    let text = format!("{COORDINATOR}{}", defaults(CoordinatorConfig::KEYS));
    let given: CoordinatorConfig = parse(Path::new("c.toml"), &text).unwrap();
    assert_eq!(given, parse(Path::new("c.toml"), COORDINATOR).unwrap());
}

#[test]
fn every_key_of_a_cluster_can_be_given_and_its_documented_default_is_its_default() {
    let defaults = |of_host: bool| -> String {
        let keys = ClusterConfig::KEYS.iter().filter(|key| {
            let is_optional = !key.default.is_empty() && key.default != "none";
            is_optional
                && key.name.starts_with("host.") == of_host
                && key.name != "mirror_data_dirs"
        });
        keys.map(|key| format!("{} = {}\n", key.name.trim_start_matches("host."), key.default))
            .collect()
    };
    assert_eq!(cluster(&defaults(false), &defaults(true)).unwrap(), cluster("", "").unwrap());
    let standby = "standby = { host = \"sdw2\", data_dir = \"/data/standby\" }";
    let config = cluster(standby, "rack = \"r\"\nstorage = \"s\"").unwrap();
    let shape = config.shape();
    assert_eq!(shape.standby.unwrap().host, "sdw2");
    assert_eq!(shape.hosts[1].storage.as_deref(), Some("s"));
    assert_eq!(shape.hosts[1].agent_port, Some(7070));
}

#[test]
fn every_key_of_a_cluster_is_known_and_no_other() {
    // A key that the table has and the type lacks would be refused when it is given.
    for key in ClusterConfig::KEYS {
        let (table, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        let text = match table {
            "" => format!("{name} = []\n"),
            "host" => format!("[[host]]\n{name} = 3.5\n"),
            table => format!("{table}.{name} = 3.5\n"),
        };
        let error = parse::<ClusterConfig>(Path::new("c.toml"), &text).unwrap_err().to_string();
        assert!(!error.contains("unknown"), "{error}");
    }
}

#[test]
fn an_unknown_key_in_a_table_names_its_line_and_the_closest_one_there() {
    for (more, of_host, expected) in [
        (
            "mirorring = \"group\"",
            "",
            "c.toml: line 7: unknown key mirorring; did you mean mirroring?",
        ),
        (
            "",
            "adresses = []",
            "c.toml: line 18: unknown key host.adresses; did you mean host.addresses?",
        ),
        (
            "",
            "zone = 1",
            "c.toml: line 18: unknown key host.zone; the keys are name, addresses, agent,",
        ),
        (
            "standby = { host = \"sdw2\", port = 7000 }",
            "",
            "c.toml: line 7: unknown key standby.port; the keys are host, data_dir",
        ),
        ("", "[[hosts]]\nname = \"x\"", "c.toml: line 18: unknown key hosts; did you mean host?"),
        ("[port_base]\nx = 1", "", "c.toml: line 7: port_base: invalid type"),
    ] {
        let error = cluster(more, of_host).unwrap_err();
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn a_wrong_value_of_a_cluster_names_key_and_line() {
    for (more, of_host, expected) in [
        ("mirroring = \"grup\"", "", "line 7: mirroring: unknown variant `grup`, expected one of"),
        ("port_base = 70000", "", "line 7: port_base: invalid value"),
        ("block_hosts = 1\nmirroring = \"block\"", "", "line 7: block_hosts: 1 is not between 2"),
        ("segment_bytes = 7", "", "line 7: segment_bytes: 7 is not a power of two"),
        (
            "\nauto_rejoin = \"after lunch\"",
            "",
            "line 8: auto_rejoin: \"after lunch\" is no policy",
        ),
        ("auto_rejoin = \"after 25h\"", "", "line 7: auto_rejoin: \"after 25h\" is no policy"),
        ("fts_probe_interval_ms = 1", "", "line 7: fts_probe_interval_ms: 1 is not between 10"),
        ("fts_probe_retries = 101", "", "line 7: fts_probe_retries: 101 is not between 0 and 100"),
        (
            "standby = { host = \"sdw3\", data_dir = \"/d\" }",
            "",
            "line 7: standby.host: \"sdw3\" is the name of no [[host]]",
        ),
        ("standby = { host = \"sdw2\" }", "", "line 7: standby: missing field `data_dir`"),
        ("", "rack = \"\"", "line 18: host.rack: is empty"),
        (
            "",
            "[[host]]\nname = \"sdw1\"\naddresses = [\"a\"]\nagent = \"a:1\"",
            "line 19: host.name: host sdw1 is there twice",
        ),
        (
            "",
            "[[host]]\nname = \"../x\"\naddresses = [\"a\"]\nagent = \"a:1\"",
            "line 19: host.name: host name \"../x\": use letters",
        ),
        (
            "",
            "[[host]]\nname = \"x\"\naddresses = [\"10.0.0.1\"]\nagent = \"a:1\"",
            "line 20: host.addresses: address 10.0.0.1 is given for sdw1 and again for x",
        ),
        ("mirroring = \"rack\"", "", "line 10: host.name: host sdw1 names no rack"),
        ("", "segments = \"no\"", "line 18: host.segments: invalid type"),
        (
            "",
            "[[host]]\nname = \"x\"\naddresses = [\"10.0.0.3:70\"]\nagent = \"10.0.0.3:70\"",
            "line 20: host.addresses: \"10.0.0.3:70\" is no address",
        ),
        (
            "",
            "[[host]]\nname = \"x\"\naddresses = [\"a\"]\nagent = \"a\"",
            "line 21: host.agent: \"a\" is not host:port",
        ),
        (
            "",
            "[[host]]\nname = \"x\"\naddresses = [\"a\"]\nagent = \"10.0.0.2:7070\"",
            "line 21: host.agent: 10.0.0.2:7070 is the agent of host sdw2 already",
        ),
        ("", "[[host]]\nname = \"x\"", "line 18: missing field `addresses`"),
    ] {
        let error = cluster(more, of_host).unwrap_err();
        assert!(error.starts_with(&format!("c.toml: {expected}")), "{error}\n{expected}");
    }
}

#[test]
fn an_agent_has_an_address_on_each_network() {
    let third = |agent: &str| {
        cluster("", &format!("[[host]]\nname = \"x\"\naddresses = [\"a\"]\nagent = {agent}"))
    };
    let config = third("[\"10.0.0.3:7070\", \"10.0.1.3:7070\"]").unwrap();
    assert_eq!(config.hosts[2].agent, ["10.0.0.3:7070", "10.0.1.3:7070"]);
    assert_eq!(config.hosts[1].agent, ["10.0.0.2:7070"]);
    assert_eq!(config.shape().hosts[2].agent_port, Some(7070));
    let many: Vec<_> = (0..17).map(|host| format!("10.0.9.{host}:7070")).collect();
    for (agent, expected) in [
        ("[]", "line 21: host.agent: no address is given"),
        ("[\"a:1\", \"b\"]", "line 21: host.agent: \"b\" is not host:port"),
        ("[\"a:1\", \"b:2\"]", "line 21: host.agent: an agent has one port"),
        (
            "[\"a:7070\", \"10.0.0.2:7070\"]",
            "line 21: host.agent: 10.0.0.2:7070 is the agent of host sdw2 already",
        ),
        ("[\"a:1\", \"a:1\"]", "line 21: host.agent: a:1 is the agent of host x already"),
        (&format!("{many:?}"), "line 21: host.agent: 17 addresses: give 16 at most"),
    ] {
        let error = third(agent).unwrap_err();
        assert!(error.starts_with(&format!("c.toml: {expected}")), "{error}\n{expected}");
    }
}

#[test]
fn a_voter_is_one_address_or_several() {
    let voters = |text: &str| {
        let text = format!("{COORDINATOR}\nvoters = {text}");
        let config = parse::<CoordinatorConfig>(Path::new("c.toml"), &text);
        config.map(|config| config.voters).map_err(|error| error.to_string())
    };
    assert_eq!(voters("[\"a:1\", \"b:1\"]").unwrap(), [["a:1"], ["b:1"]]);
    let mixed = voters("[[\"a:1\", \"a:2\"], \"b:1\"]").unwrap();
    assert_eq!(mixed, [vec!["a:1", "a:2"], vec!["b:1"]]);
    for wrong in ["[[]]", "[[\"a:1\"], \"b\"]"] {
        let error = voters(wrong).unwrap_err();
        assert!(error.contains("voters: "), "{error}");
    }
}

#[test]
fn a_cluster_with_mirrors_needs_folders_for_them() {
    let text = format!("{CLUSTER}{HOSTS}").replace("mirror_data_dirs = [\"/data/mirror\"]\n", "");
    let error = parse::<ClusterConfig>(Path::new("c.toml"), &text).unwrap_err().to_string();
    assert!(error.starts_with("c.toml: mirror_data_dirs: 0 folders: give one for all"), "{error}");
    let text = format!("mirroring = \"none\"\n{text}");
    parse::<ClusterConfig>(Path::new("c.toml"), &text).unwrap();
}

#[test]
fn a_rejoin_policy_has_a_whole_number_and_a_unit() {
    use std::time::Duration;
    let policy = |text: &str| cluster(&format!("auto_rejoin = {text:?}"), "").unwrap().auto_rejoin;
    assert_eq!(policy("manual"), AutoRejoin::Manual);
    assert_eq!(policy("immediate"), AutoRejoin::Immediate);
    assert_eq!(policy("after 30s"), AutoRejoin::After(Duration::from_secs(30)));
    assert_eq!(policy("after 250ms"), AutoRejoin::After(Duration::from_millis(250)));
    assert_eq!(policy("after 24h"), AutoRejoin::After(Duration::from_secs(86_400)));
    for wrong in [
        "",
        "after",
        "after 30",
        "after s",
        "after -1s",
        "after 1.5s",
        "Manual",
        "after 99999999999999999999s",
    ] {
        assert!(cluster(&format!("auto_rejoin = {wrong:?}"), "").is_err(), "{wrong}");
    }
}

#[test]
fn the_documentation_has_every_key_with_unit_and_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let tables =
        [AgentConfig::KEYS, ClusterConfig::KEYS, InstanceConfig::KEYS, CoordinatorConfig::KEYS];
    for keys in tables {
        for key in keys {
            let default = if key.default.is_empty() {
                "must be given".to_owned()
            } else {
                format!("`{}`", key.default)
            };
            let row = format!("| `{}` | {} | {default} | {} |", key.name, key.unit, key.meaning);
            assert!(docs.contains(&row), "docs/operations.md lacks:\n{row}");
        }
    }
}
