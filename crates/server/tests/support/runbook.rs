//! The runbook of `docs/operations.md`, as its tests run it: situation after situation, command after command.
//!
//! A situation is a `###` heading of the section "Runbook"; a command is a line of a `sh` block below it. `# exit N` behind a
//! command is the exit code that the page promises (0 where nothing is said); a line `# on HOST` says where the commands
//! behind it are typed. Guarantees: a story that does not run every command of its situation fails.

use std::path::Path;

use super::hosts::Hosts;

/// One command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Command {
    pub(crate) line: String,
    pub(crate) exit: i32,
    /// The number of the host that it is typed on.
    pub(crate) host: u8,
}

/// A situation's commands, in order.
pub(crate) struct Situation {
    title: &'static str,
    commands: std::vec::IntoIter<Command>,
}

/// The page.
pub(crate) fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The runbook's situations, with their commands.
pub(crate) fn situations(page: &str) -> Vec<(String, Vec<Command>)> {
    let runbook = page.split("\n## Runbook\n").nth(1).expect("a runbook");
    let runbook = runbook.split("\n## ").next().unwrap_or_default();
    let parts = runbook.split("\n### ").skip(1).map(|part| {
        let (title, text) = part.split_once('\n').unwrap_or((part, ""));
        let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        (title.to_owned(), commands(&blocks.collect::<Vec<_>>().concat()))
    });
    parts.collect()
}

fn commands(text: &str) -> Vec<Command> {
    let mut host = 1;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(on) = line.strip_prefix("# on sdw") {
            host = on.split_whitespace().next().and_then(|on| on.parse().ok()).expect("a host");
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let (line, said) = line.split_once(" # ").unwrap_or((line, ""));
            let exit = said.trim().strip_prefix("exit ").map(|exit| {
                let digits: String = exit.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().expect("an exit code")
            });
            found.push(Command { line: line.trim().to_owned(), exit: exit.unwrap_or(0), host });
        }
    }
    found
}

/// The situation of this heading.
pub(crate) fn situation(title: &'static str) -> Situation {
    let found = situations(&page()).into_iter().find(|(at, _)| at == title);
    let (_, commands) = found.unwrap_or_else(|| panic!("the runbook has no {title:?}"));
    Situation { title, commands: commands.into_iter() }
}

impl Situation {
    /// Runs the next command, which ends as the page says and is this one; returns what it printed.
    pub(crate) fn run(&mut self, cluster: &mut Hosts, expected: &str) -> String {
        let command = self.commands.next();
        let Command { line, exit, host } = command
            .unwrap_or_else(|| panic!("{}: no command is left for {expected:?}", self.title));
        assert!(line.contains(expected), "{}: {line:?} comes next, not {expected:?}", self.title);
        if line.starts_with("outrigger agent ") {
            cluster.start_agent(host);
            return String::new();
        }
        let ran = cluster.shell(&line);
        assert_eq!(ran.code, Some(exit), "{}: {line}: {}{}", self.title, ran.out, ran.err);
        format!("{}{}", ran.out, ran.err)
    }
}

impl Drop for Situation {
    fn drop(&mut self) {
        let left: Vec<_> = self.commands.by_ref().map(|command| command.line).collect();
        assert!(left.is_empty() || std::thread::panicking(), "{}: not run: {left:?}", self.title);
    }
}
