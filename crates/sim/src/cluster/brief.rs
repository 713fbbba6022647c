//! Events, actions and configurations in one line each, for the trace.

use outrigger_net::config::Config;
use outrigger_replica::member::{Event as Said, In, Out};

pub(crate) fn brief_in(event: &In) -> String {
    match event {
        In::Frame { link, envelope, message, .. } => format!(
            "{link:?} e{:?} v{} s{:04x} {message:?}",
            envelope.epoch,
            envelope.version.0,
            envelope.session.0 & 0xFFFF
        ),
        In::Io(op, Ok(_)) => format!("done {op:?}"),
        In::Config { config, .. } => format!("config {}", brief_config(config)),
        In::Reopened(result) => match result.as_ref() {
            Ok(recovered) => format!("reopened at {}", recovered.end),
            Err(error) => format!("not reopened: {error}"),
        },
        other => format!("{other:?}"),
    }
}

pub(crate) fn brief_out(out: &Out) -> String {
    match out {
        Out::Io(op, io) => {
            let name = format!("{io:?}");
            format!("io {op:?} {}", name.chars().take(90).collect::<String>())
        }
        Out::Send { link, envelope, message, .. } => {
            format!("send {link:?} e{:?} v{} {message:?}", envelope.epoch, envelope.version.0)
        }
        Out::Swap { seen, new } => format!("swap {} -> {}", seen.0, brief_config(new)),
        Out::Apply(blocks) => format!("apply {} blocks", blocks.len()),
        Out::Event(Said::Cut(saved)) => format!("cut {} to {}", saved.from, saved.to),
        other => format!("{other:?}"),
    }
}

pub(crate) fn brief_config(config: &Config) -> String {
    let copies: Vec<String> = config
        .copies
        .iter()
        .map(|copy| {
            let mark = if copy.in_sync { "+" } else { "-" };
            let held = copy.durable;
            format!("n{}{mark}@{}:{}", copy.instance.0.wrapping_sub(1), held.epoch, held.lsn)
        })
        .collect();
    format!(
        "v{} e{} primary n{} [{}]",
        config.version.0,
        config.epoch,
        config.primary.0.wrapping_sub(1),
        copies.join(" ")
    )
}
