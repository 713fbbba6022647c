//! What a configuration file may say, and how its errors read.

use super::*;

const INSTANCE: &str = "data_dir = \"/d\"\nlisten = \"127.0.0.1:7001\"\ncoordinator = \"c:7000\"\n";
const COORDINATOR: &str = "data_dir = \"/d\"\nlisten = \"127.0.0.1:7000\"\n";

fn instance(more: &str) -> Result<InstanceConfig, String> {
    let text = format!("{INSTANCE}{more}");
    parse(Path::new("i.toml"), &text).map_err(|error| error.to_string())
}

#[test]
fn what_must_be_given_is_enough() {
    let config = instance("").unwrap();
    assert_eq!((config.content, config.copy_grace_ms), (0, 500));
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
            .filter(|key| !key.default.is_empty())
            .map(|key| format!("{} = {}\n", key.name, key.default.split(" (").next().unwrap()))
            .collect()
    };
    assert_eq!(instance(&defaults(InstanceConfig::KEYS)).unwrap(), instance("").unwrap());
    let text = format!("{COORDINATOR}{}", defaults(CoordinatorConfig::KEYS));
    let given: CoordinatorConfig = parse(Path::new("c.toml"), &text).unwrap();
    assert_eq!(given, parse(Path::new("c.toml"), COORDINATOR).unwrap());
}

#[test]
fn the_documentation_has_every_key_with_unit_and_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let docs = std::fs::read_to_string(path).unwrap();
    for keys in [InstanceConfig::KEYS, CoordinatorConfig::KEYS] {
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
