//! The verbs and their options.
//!
//! Guarantees: Ctrl-C during a command that only reads ends it at once, as the system does it (130 in
//! a shell); commands that own processes or files end in order, and those that write say what is left
//! open. Not here: what a verb does.

mod asking;
mod bench;
mod catalog;
mod demo;
mod expand;
mod hosts;
mod init;
mod kv;
mod layout;
mod lifecycle;
mod mirrors;
mod page;
mod process;
mod promote;
mod rebuild;
mod rebuild_catalog;
mod recover;
mod settings;
mod standby;
mod state;
mod store;
mod time;
mod wal;

use clap::{Parser, Subcommand};

use self::asking::{Patience, Where};
use crate::config::{
    AgentConfig, ClusterConfig, CoordinatorConfig, InstanceConfig, Keyed, key_help,
};
use crate::error::{Error, Verdict};

/// A mirrored write-ahead log, and the servers around it.
#[derive(Debug, Parser)]
#[command(
    name = "outrigger",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 all is well, 1 wrong or partial, 2 error, 130 interrupted."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the agent of a host: it starts and watches the host's instances, and votes
    #[command(after_long_help = key_help(AgentConfig::KEYS))]
    Agent(process::Agent),
    /// Plan a cluster from its file
    #[command(after_long_help = key_help(ClusterConfig::KEYS))]
    Init(init::Init),
    /// Bring a cluster up
    Start(lifecycle::Start),
    /// Bring a cluster down in order, or one host
    Stop(lifecycle::Stop),
    /// Bring a cluster down and up again
    Restart(lifecycle::Restart),
    /// Run the coordinator of a cluster
    #[command(after_long_help = key_help(CoordinatorConfig::KEYS))]
    Coordinator(process::Process),
    /// Run one copy of one content
    #[command(after_long_help = key_help(InstanceConfig::KEYS))]
    Instance(process::Process),
    /// Make the copy of an instance that is down anew from its primary's
    #[command(hide = true)]
    Rebuild(rebuild::Rebuild),
    /// Make the mirror of a content its primary
    Promote(promote::Promote),
    /// Let copies that are out come back, and follow them until each is in sync
    ///
    /// In a cluster without agents it waits until all copies of a content are in sync, and says what they wait for.
    Recover(recover::Recover),
    /// Give every content of a cluster without mirrors one, while it runs
    AddMirrors(mirrors::AddMirrors),
    /// Move mirrors: each is built in its new place before the old one is dropped
    MoveMirrors(mirrors::MoveMirrors),
    /// Add hosts with their primaries and mirrors
    Expand(expand::Expand),
    /// Make a standby coordinator on another host
    InitStandby(standby::InitStandby),
    /// Remove the standby coordinator and its data
    RemoveStandby(standby::RemoveStandby),
    /// Make the standby the coordinator
    ActivateStandby(standby::ActivateStandby),
    /// Make a lost catalog anew out of what agents, instances and voters hold
    RebuildCatalog(rebuild_catalog::RebuildCatalog),
    /// Print how the cluster stands
    State(state::State),
    /// Print a table of the catalog, with WarehousePG's columns
    Catalog(catalog::Catalog),
    /// Print the cluster's settings, and change them
    Config(settings::Settings),
    /// Read and write rows
    Kv(kv::Kv),
    /// Watch a primary die and nothing be lost
    Demo(demo::Demo),
    /// Look into a log
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Look into a store
    #[command(subcommand)]
    Store(store::Store),
    /// Measure, beside what the bare machine does
    #[command(subcommand)]
    Bench(bench::Bench),
}

/// Carries a command out.
///
/// # Errors
/// What it could not do.
pub(crate) fn run(arguments: Arguments) -> Result<Verdict, Error> {
    match arguments.verb {
        Verb::Agent(agent) => agent.run(),
        Verb::Init(init) => init.run(),
        Verb::Coordinator(process) => process.coordinator(),
        Verb::Instance(process) => process.instance(),
        Verb::Rebuild(rebuild) => rebuild.run(),
        Verb::Promote(promote) => promote.run(),
        Verb::Recover(recover) => recover.run(),
        Verb::Start(start) => start.run(),
        Verb::Stop(stop) => stop.run(),
        Verb::Restart(restart) => restart.run(),
        Verb::AddMirrors(add) => add.run(),
        Verb::MoveMirrors(moves) => moves.run(),
        Verb::Expand(expand) => expand.run(),
        Verb::InitStandby(init) => init.run(),
        Verb::RemoveStandby(remove) => remove.run(),
        Verb::ActivateStandby(activate) => activate.run(),
        Verb::RebuildCatalog(rebuild) => rebuild.run(),
        Verb::State(state) => state.run(),
        Verb::Catalog(catalog) => catalog.run(),
        Verb::Config(settings) => settings.run(),
        Verb::Kv(kv) => kv.run(),
        Verb::Demo(demo) => demo.run(),
        Verb::Wal(wal) => wal.run(),
        Verb::Store(store) => store.run(),
        Verb::Bench(bench) => bench.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn options_of_every_verb_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).map(|_| ());
        for line in [
            "outrigger state -e -m",
            "outrigger recover -F --differential",
            "outrigger recover -r -F",
            "outrigger recover -p sdw3 -i file",
            "outrigger recover -p sdw3 -F",
            "outrigger recover -s --no-progress",
            "outrigger recover --max-rate 1k",
            "outrigger promote --old-primary-is-fenced",
            "outrigger start --agent a:1 --cluster c.toml",
            "outrigger catalog pg_class",
            "outrigger config --set fts_probe_interval_ms",
            "outrigger activate-standby",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "outrigger state -e --json",
            "outrigger recover -a -p sdw3,sdw4 --cluster c.toml --max-rate 64k -s",
            "outrigger recover -o file --content 3",
            "outrigger stop --host sdw2 -a --coordinator a:1,b:1",
            "outrigger promote --content 1 --accept-data-loss --old-primary-is-fenced -a",
            "outrigger activate-standby --standby b:1 --force -a",
        ] {
            assert_eq!(parse(line).map_err(|error| error.to_string()), Ok(()), "{line}");
        }
    }
}
