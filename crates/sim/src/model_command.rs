//! The model as a command: `outrigger-sim model`, with all rules and all links, and `--rules`, without each rule.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use outrigger_replica::rules::{Rule, Rules};
use outrigger_sim::model::plans::{PLANS, Plan, links, without};
use outrigger_sim::model::{Found, explore};

/// How many states that differ all explorations together must reach.
const ENOUGH: usize = 1_000_000;

/// Explores the failover protocol of one content, on the shipped step functions.
#[derive(Parser, Debug)]
#[command(bin_name = "outrigger-sim model")]
struct Arguments {
    /// Leave each rule out, one after the other; something must break then.
    #[arg(long)]
    rules: bool,
    /// With --rules: only this one.
    #[arg(long)]
    rule: Option<String>,
    /// Only explorations whose name has this in it.
    #[arg(long)]
    only: Option<String>,
    /// Print every state on the way to what broke.
    #[arg(long)]
    trace: bool,
    /// Multiply how many steps each exploration may take.
    #[arg(long, default_value_t = 1)]
    times: usize,
}

/// Runs `outrigger-sim model`, with what stands behind that.
pub(crate) fn run(rest: impl Iterator<Item = String>) -> io::Result<ExitCode> {
    let arguments = Arguments::parse_from(std::iter::once("model".to_owned()).chain(rest));
    let mut out = io::stdout();
    if arguments.rules { leave_out(&mut out, &arguments) } else { hold(&mut out, &arguments) }
}

fn hold(out: &mut impl Write, arguments: &Arguments) -> io::Result<ExitCode> {
    let (mut unique, mut broken, mut seconds) = (0, false, 0.0);
    let mut seen = std::collections::BTreeMap::<&str, u64>::new();
    let named = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only));
    let all = PLANS.into_iter().map(|plan| (0, plan)).chain((1..64).map(links));
    for (down, plan) in all.filter(|(_, plan)| named(plan.name)) {
        let found = go(down, &plan, Rules::all(), arguments);
        let name =
            if down == 0 { plan.name.to_owned() } else { format!("{} {down:06b}", plan.name) };
        tell(out, &name, &found, arguments)?;
        unique += found.unique;
        seconds += found.seconds;
        broken |= found.broken.is_some();
        for (what, times) in found.seen.all() {
            *seen.entry(what).or_default() += times;
        }
    }
    writeln!(out, "{unique} states in {seconds:.0} s")?;
    for (what, times) in &seen {
        writeln!(out, "{times:>10} {what}")?;
    }
    let missing: Vec<_> = MUST_BE_SEEN.iter().filter(|what| seen.get(*what) == Some(&0)).collect();
    if arguments.only.is_none() && (!missing.is_empty() || unique < ENOUGH) {
        writeln!(out, "too little: {unique} states of {ENOUGH}, never seen {missing:?}")?;
        return Ok(ExitCode::from(1));
    }
    Ok(if broken { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What an exploration that proves something has come by.
const MUST_BE_SEEN: [&str; 7] = [
    "commits",
    "failovers served",
    "restart epochs served",
    "rejoins by truncation",
    "regrows",
    "hand-overs",
    "late words",
];

#[cfg(feature = "seeded-bugs")]
fn leave_out(out: &mut impl Write, arguments: &Arguments) -> io::Result<ExitCode> {
    let mut unseen = false;
    for rule in Rule::ALL {
        let name = format!("{rule:?}");
        if arguments.rule.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let Some(plan) = without(rule) else {
            writeln!(out, "without {name}: no exploration of this model is known to show it")?;
            continue;
        };
        let found = go(0, &plan, Rules::without(rule), arguments);
        tell(out, &format!("without {name}"), &found, arguments)?;
        unseen |= found.broken.is_none();
    }
    Ok(if unseen { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

#[cfg(not(feature = "seeded-bugs"))]
fn leave_out(_: &mut impl Write, _: &Arguments) -> io::Result<ExitCode> {
    Err(io::Error::other(format!("none of {:?} can be left out in this build", Rule::ALL)))
}

fn go(down: u8, plan: &Plan, rules: Rules, arguments: &Arguments) -> Found {
    let steps = plan.steps.saturating_mul(arguments.times);
    explore(plan.begin, down, plan.bounds, rules, steps)
}

fn tell(out: &mut impl Write, name: &str, found: &Found, arguments: &Arguments) -> io::Result<()> {
    let Found { unique, steps, depth, seconds, exhaustive, .. } = found;
    let whole = if *exhaustive { "exhausted" } else { "cut" };
    writeln!(
        out,
        "{name}: {unique} states, {steps} steps, depth {depth}, {whole}, {seconds:.1} s"
    )?;
    if let Some((text, path)) = &found.broken {
        writeln!(out, "  BROKEN after {} steps: {text}", path.len().saturating_sub(1))?;
        for line in path.iter().filter(|_| arguments.trace) {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}
