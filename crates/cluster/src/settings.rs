//! The settings that a cluster keeps in its catalog: names, defaults, ranges.
//!
//! Times end in `_ms`, sizes in `_bytes`. Guarantees: a name that is not listed is refused with the closest one
//! that is. Not here: what they do.

use crate::catalog::State;
use crate::detect::DetectOptions;
use crate::placement::Mirroring;

/// Copies that are out stay out until an administrator recovers them.
pub const MANUAL: u64 = u64::MAX;

/// A setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// The value it has until it is set.
    pub default: u64,
    /// The least and the greatest value.
    pub range: (u64, u64),
    /// Whether instances take it, at their next start.
    pub of_instances: bool,
    /// What it means.
    pub meaning: &'static str,
}

const DAY_MS: u64 = 86_400_000;

/// All of them, by name.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "auto_rejoin_ms",
        default: MANUAL,
        range: (0, MANUAL),
        of_instances: false,
        meaning: "how long a copy that failed stays out before it is let come back; the greatest value: until \
                  `outrigger recover`",
    },
    Setting {
        name: "block_hosts",
        default: 4,
        range: (2, 1_000),
        of_instances: false,
        meaning: "how many hosts a block has, where mirrors are placed in blocks",
    },
    Setting {
        name: "copy_grace_ms",
        default: 200,
        range: (10, 3_600_000),
        of_instances: true,
        meaning: "how long commits wait for a mirror whose connection is lost \
                  (gp_fts_mark_mirror_down_grace_period)",
    },
    Setting {
        name: "disk_probe_timeout_ms",
        default: 2_000,
        range: (100, DAY_MS),
        of_instances: false,
        meaning: "how long a write to a disk may take before its instance counts as failed",
    },
    Setting {
        name: "expand_rate_bytes",
        default: 64 << 20,
        range: (0, u64::MAX),
        of_instances: false,
        meaning: "how many bytes of rows a second an expansion copies at most; 0: no limit; taken by the next coordinator",
    },
    Setting {
        name: "first_beat_ms",
        default: 2_000,
        range: (100, DAY_MS),
        of_instances: false,
        meaning: "how long an instance that was never heard may take to start",
    },
    Setting {
        name: "fts_mark_mirror_down_grace_period_ms",
        default: 500,
        range: (10, DAY_MS),
        of_instances: false,
        meaning: "how long a mirror may hear nothing from its primary before the state says that it is down",
    },
    Setting {
        name: "fts_probe_interval_ms",
        default: 100,
        range: (10, 3_600_000),
        of_instances: false,
        meaning: "how often each instance is asked",
    },
    Setting {
        name: "fts_probe_retries",
        default: 1,
        range: (0, 100),
        of_instances: false,
        meaning: "how many more refusals it takes after the first before an instance counts as dead",
    },
    Setting {
        name: "fts_probe_timeout_ms",
        default: 500,
        range: (50, DAY_MS),
        of_instances: false,
        meaning: "how long an instance may be silent before it counts as dead",
    },
    Setting {
        name: "fts_replication_attempt_count",
        default: 10,
        range: (1, 1_000_000),
        of_instances: false,
        meaning: "how often a mirror may connect without ever catching up before it is dropped",
    },
    Setting {
        name: "hand_over_ms",
        default: 1_000,
        range: (10, 60_000),
        of_instances: false,
        meaning: "how long writes may wait for a planned change of the primary before it is given up",
    },
    Setting {
        name: "max_connections",
        default: 64,
        range: (2, 65_536),
        of_instances: true,
        meaning: "how many connections an instance takes",
    },
    Setting {
        name: "memtable_bytes",
        default: 12 << 20,
        range: (1 << 20, 256 << 20),
        of_instances: true,
        meaning: "the store's memtable is flushed at this size",
    },
    Setting {
        name: "mirror_port_base",
        default: 0,
        range: (0, 65_535),
        of_instances: false,
        meaning: "the first port of mirrors on each host; 0: behind the ports that are taken",
    },
    Setting {
        name: "mirroring",
        default: 0,
        range: (0, 5),
        of_instances: false,
        meaning: "how mirrors are placed: 0 not recorded, 1 none, 2 group, 3 spread, 4 block, 5 rack",
    },
    Setting {
        name: "port_base",
        default: 0,
        range: (0, 65_535),
        of_instances: false,
        meaning: "the first port of primaries on each host; 0: the lowest that one has",
    },
    Setting {
        name: "recovery_stall_ms",
        default: 2_000,
        range: (100, DAY_MS),
        of_instances: false,
        meaning: "how long an instance that reads its log back may stand still",
    },
    Setting {
        name: "retain_bytes",
        default: 1 << 30,
        range: (0, u64::MAX),
        of_instances: true,
        meaning: "log that nobody needs is kept for so many bytes of log space",
    },
    Setting {
        name: "serve_within_ms",
        default: 10_000,
        range: (1_000, DAY_MS),
        of_instances: false,
        meaning: "how long a primary may answer without coming to serve, and without getting on, before its mirror is promoted",
    },
    Setting {
        name: "stuck_ms",
        default: 3_000,
        range: (1_000, DAY_MS),
        of_instances: false,
        meaning: "how long the threads of an instance that serve may not get on while its heartbeats are answered",
    },
];

/// How mirrors are placed, as the settings `mirroring` and `block_hosts` say; `None`: nobody has recorded it.
#[must_use]
pub fn mirroring(value: u64, block_hosts: u64) -> Option<Mirroring> {
    Some(match value {
        1 => Mirroring::None,
        2 => Mirroring::Group,
        3 => Mirroring::Spread,
        4 => Mirroring::Block { hosts: usize::try_from(block_hosts).unwrap_or(usize::MAX) },
        5 => Mirroring::Rack,
        _ => return None,
    })
}

/// What the setting `mirroring` is for this.
#[must_use]
pub const fn of_mirroring(mirroring: Mirroring) -> u64 {
    match mirroring {
        Mirroring::None => 1,
        Mirroring::Group => 2,
        Mirroring::Spread => 3,
        Mirroring::Block { .. } => 4,
        Mirroring::Rack => 5,
    }
}

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Whether instances take a setting.
#[must_use]
pub fn is_of_instances(name: &str) -> bool {
    find(name).is_some_and(|setting| setting.of_instances)
}

/// Judges a value.
///
/// # Errors
/// An unknown name, or a value out of its range.
pub fn check(name: &str, value: u64) -> Result<(), String> {
    let Some(setting) = find(name) else {
        let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        return Err(format!("there is no setting {name:?}; they are {}", names.join(", ")));
    };
    let (least, most) = setting.range;
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name}: {value} is not between {least} and {most}"))
    }
}

/// What a setting says in this catalog.
#[must_use]
pub fn value(state: &State, name: &str) -> u64 {
    let set = state.settings.get(name).copied();
    set.or_else(|| find(name).map(|setting| setting.default)).unwrap_or(0)
}

/// How many bytes of rows a second an expansion copies, by this catalog.
#[must_use]
pub fn expand_rate_bytes(state: &State) -> u64 {
    value(state, "expand_rate_bytes")
}

/// How instances are watched, by this catalog.
#[must_use]
pub fn detect_options(state: &State) -> DetectOptions {
    let of = |name| value(state, name);
    let count = |name| u32::try_from(of(name)).unwrap_or(u32::MAX);
    DetectOptions {
        fts_probe_interval_millis: of("fts_probe_interval_ms"),
        fts_probe_timeout_millis: of("fts_probe_timeout_ms"),
        fts_probe_retries: count("fts_probe_retries"),
        fts_mark_mirror_down_grace_period_millis: of("fts_mark_mirror_down_grace_period_ms"),
        fts_replication_attempt_count: count("fts_replication_attempt_count"),
        disk_probe_timeout_millis: of("disk_probe_timeout_ms"),
        recovery_stall_millis: of("recovery_stall_ms"),
        first_beat_millis: of("first_beat_ms"),
        serve_within_millis: of("serve_within_ms"),
        stuck_millis: of("stuck_ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_in_their_ranges_and_names_in_order() {
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
        for setting in SETTINGS {
            assert_eq!(check(setting.name, setting.default), Ok(()));
        }
    }

    #[test]
    fn what_is_not_listed_or_out_of_range_is_refused() {
        assert!(check("fts_probe_intervall_ms", 100).is_err());
        assert!(check("fts_probe_interval_ms", 1).is_err());
    }

    #[test]
    fn each_way_to_place_mirrors_is_read_back() {
        let ways = [
            Mirroring::None,
            Mirroring::Group,
            Mirroring::Spread,
            Mirroring::Block { hosts: 4 },
            Mirroring::Rack,
        ];
        for way in ways {
            assert_eq!(check("mirroring", of_mirroring(way)), Ok(()));
            assert_eq!(mirroring(of_mirroring(way), 4), Some(way));
        }
        assert_eq!(mirroring(0, 4), None);
    }

    #[test]
    fn an_empty_catalog_watches_with_the_defaults() {
        assert_eq!(detect_options(&State::default()), DetectOptions::default());
    }
}
