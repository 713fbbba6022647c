//! The suite as a command: `cargo run --release -p outrigger-sim -- --seeds N`.

#![forbid(unsafe_code)]

mod whole_suite;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use outrigger_replica::rules::{Rule, Rules};
use outrigger_sim::cluster::{Cluster, Plan};
use outrigger_sim::suite::{Summary, coverage, run_seed};

/// How many seeds make a suite that must have seen everything; a smaller one says what it saw too little of.
const FULL_SUITE: u64 = 500;
/// How often it must have seen it.
const SEEN: u64 = 50;

/// Runs the simulated cluster through many seeds; each is one run, the same every time.
#[derive(Parser, Debug)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event of that seed to standard error.
    #[arg(long)]
    trace: bool,
    /// Leave a safety rule out, by its name (as S4Wait); some seed must then go wrong.
    #[arg(long)]
    rule: Option<String>,
    /// Kills are the only faults.
    #[arg(long)]
    kills_only: bool,
    /// The whole cluster: coordinator, standby, agents that vote, several contents.
    #[arg(long)]
    whole: bool,
    /// With --whole: seed a defect, by its name (as ObeyLower); some seed must then go wrong.
    #[arg(long)]
    bug: Option<String>,
    /// Go on after this many seeds went wrong.
    #[arg(long, default_value_t = 1)]
    stop_after: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let told = writeln!(io::stderr(), "{error}");
            drop(told);
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<ExitCode> {
    let mut out = io::stdout();
    if arguments.whole {
        return whole_suite::run(&mut out, arguments);
    }
    let rules = match &arguments.rule {
        None => Rules::all(),
        Some(name) => without(name)?,
    };
    if let Some(seed) = arguments.seed {
        let mut plan = if arguments.kills_only { Plan::kills(seed) } else { Plan::swarm(seed) };
        plan.rules = rules;
        let mut cluster = Cluster::new(plan);
        if arguments.trace {
            cluster = cluster.traced();
        }
        let outcome = cluster.run();
        writeln!(out, "seed {seed}: trace hash {:016x}", outcome.trace_hash)?;
        writeln!(out, "{:?}", outcome.stats)?;
        return Ok(match outcome.violation {
            Some(text) => {
                writeln!(out, "VIOLATION: {text}")?;
                ExitCode::from(1)
            }
            None => ExitCode::SUCCESS,
        });
    }
    let mut summary = Summary::default();
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let outcome = if arguments.kills_only {
            let mut plan = Plan::kills(seed);
            plan.rules = rules;
            Cluster::new(plan).run()
        } else {
            run_seed(seed, rules)
        };
        summary.seeds += 1;
        summary.stats.add(&outcome.stats);
        if let Some(text) = outcome.violation {
            let rule =
                arguments.rule.as_ref().map_or(String::new(), |name| format!(" --rule {name}"));
            let kills = if arguments.kills_only { " --kills-only" } else { "" };
            writeln!(
                out,
                "seed {seed} went wrong (trace hash {:016x}): {text}",
                outcome.trace_hash
            )?;
            writeln!(
                out,
                "  replay: cargo run --release -p outrigger-sim -- --seed {seed} --trace{rule}{kills}"
            )?;
            summary.failures.push(outrigger_sim::suite::Failure {
                seed,
                trace_hash: outcome.trace_hash,
                text,
            });
            if summary.failures.len() >= arguments.stop_after {
                break;
            }
        }
    }
    report(&mut out, &summary)?;
    if !summary.failures.is_empty() {
        return Ok(ExitCode::from(1));
    }
    let thin: Vec<_> =
        coverage(&summary.stats).into_iter().filter(|(_, seen)| *seen < SEEN).collect();
    if thin.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let thin: Vec<_> = thin.iter().map(|(what, seen)| format!("{what} {seen}")).collect();
    let thin = thin.join(", ");
    if arguments.seeds >= FULL_SUITE && !arguments.kills_only {
        writeln!(out, "seen less than {SEEN} times: {thin}")?;
        return Ok(ExitCode::from(1));
    }
    writeln!(
        out,
        "too few to prove anything about: {thin}; {FULL_SUITE} seeds must see each {SEEN} times"
    )?;
    Ok(ExitCode::SUCCESS)
}

fn report(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    writeln!(out, "{} seeds, {} went wrong", summary.seeds, summary.failures.len())?;
    for (what, seen) in coverage(&summary.stats) {
        writeln!(out, "{seen:>10} {what}")?;
    }
    let stats = &summary.stats;
    let others = [
        ("kills", stats.kills),
        ("restarts with a new epoch", stats.restarts),
        ("hand-overs asked for", stats.hand_overs_asked),
        ("epochs given up", stats.given_up),
        ("answers that nothing is handed over", stats.not_handed_over),
        ("connections cut", stats.cuts),
        ("partitions", stats.partitions),
        ("directions stalled", stats.stalls),
        ("pauses", stats.pauses),
        ("writes in doubt", stats.in_doubt),
        ("writes refused", stats.refused),
        ("writes settled", stats.settled),
        ("copies stopped by a disk error", stats.failures),
        ("flipped bits of promised blocks", stats.flips),
        ("disks rolled back", stats.rollbacks),
        ("control file slots that rotted", stats.rotten_slots),
        ("frames refused", stats.refusals),
        ("events", stats.events),
    ];
    for (what, seen) in others {
        writeln!(out, "{seen:>10} {what}")?;
    }
    Ok(())
}

#[cfg(feature = "seeded-bugs")]
fn without(name: &str) -> io::Result<Rules> {
    let rule = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
    rule.map(Rules::without).ok_or_else(|| {
        io::Error::other(format!("no rule is called {name}; there are {:?}", Rule::ALL))
    })
}

#[cfg(not(feature = "seeded-bugs"))]
fn without(name: &str) -> io::Result<Rules> {
    Err(io::Error::other(format!(
        "{name} cannot be left out of {:?}: build with the feature seeded-bugs",
        Rule::ALL
    )))
}
