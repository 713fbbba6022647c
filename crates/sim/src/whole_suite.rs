//! The suite of the whole cluster as a command: `outrigger-sim --whole --seeds N`.

use std::io::{self, Write};
use std::process::ExitCode;

use outrigger_sim::whole::{Bug, Counts, ROWS, WholePlan, run_whole};

use super::{Arguments, FULL_SUITE};

/// How often each row of the fault table must have happened in a full suite.
const SEEN: u64 = 10;

/// Runs one seed, or many.
pub(super) fn run(out: &mut impl Write, arguments: &Arguments) -> io::Result<ExitCode> {
    let bug = arguments.bug.as_deref().map(named).transpose()?;
    let plan = |seed| {
        let mut plan = WholePlan::swarm(seed);
        plan.bug = bug;
        plan
    };
    if let Some(seed) = arguments.seed {
        let outcome = run_whole(plan(seed), arguments.trace);
        writeln!(out, "seed {seed}: trace hash {:016x}", outcome.trace_hash)?;
        report(out, &outcome.counts)?;
        return Ok(match outcome.violation {
            Some(text) => {
                writeln!(out, "VIOLATION: {text}")?;
                ExitCode::from(1)
            }
            None => ExitCode::SUCCESS,
        });
    }
    let mut counts = Counts::default();
    let (mut seeds, mut wrong) = (0_u64, 0);
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let outcome = run_whole(plan(seed), false);
        seeds += 1;
        counts.add(&outcome.counts);
        if let Some(text) = outcome.violation {
            let hash = outcome.trace_hash;
            let bug = arguments.bug.as_ref().map_or(String::new(), |bug| format!(" --bug {bug}"));
            writeln!(out, "seed {seed} went wrong (trace hash {hash:016x}): {text}")?;
            writeln!(
                out,
                "  replay: cargo run --release -p outrigger-sim -- --whole --seed {seed} --trace{bug}"
            )?;
            wrong += 1;
            if wrong >= arguments.stop_after {
                break;
            }
        }
    }
    writeln!(out, "{seeds} seeds of the whole cluster, {wrong} went wrong")?;
    report(out, &counts)?;
    if wrong > 0 {
        return Ok(ExitCode::from(1));
    }
    let thin: Vec<u8> =
        ROWS.into_iter().map(|(row, _)| row).filter(|row| counts.of_row(*row) < SEEN).collect();
    if thin.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "seen too little (less than {SEEN} times) of rows {thin:?}")?;
    Ok(if seeds >= FULL_SUITE { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn report(out: &mut impl Write, counts: &Counts) -> io::Result<()> {
    for (row, what) in ROWS {
        writeln!(out, "{:>10} row {row}: {what}", counts.of_row(row))?;
    }
    for (what, seen) in &counts.others {
        writeln!(out, "{seen:>10} {what}")?;
    }
    writeln!(out, "{:>10} events", counts.events)
}

fn named(name: &str) -> io::Result<Bug> {
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    bug.ok_or_else(|| {
        io::Error::other(format!("no defect is called {name}; there are {:?}", Bug::ALL))
    })
}
