//! What a command shows: lines, facts and tables, as text for people or as one JSON object.
//!
//! Guarantees: both forms hold the same values; nothing is cut. Not here: what is shown.

use comfy_table::{Table as Grid, presets};
use outrigger_wal::Lsn;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::output::{Lines, say_json};

/// What marks a line that somebody should look at.
const BAD: &str = "<<<<<<<<";
const RULE: &str = "-----------------------------------------------------";

/// One value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Cell {
    Text(String),
    Number(u64),
    Signed(i64),
    Flag(bool),
    /// `0/C000000` as text, a number as JSON.
    At(Lsn),
    /// Nobody knows, or it does not apply: this word as text, null as JSON.
    Nothing(&'static str),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::At(lsn) => lsn.to_string(),
            Self::Nothing(word) => (*word).to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Signed(number) => json!(number),
            Self::Flag(flag) => json!(flag),
            Self::At(lsn) => json!(lsn.0),
            Self::Nothing(_) => Value::Null,
        }
    }
}

/// A name for people, a name for scripts.
pub(super) type Name = (&'static str, &'static str);

/// A value with its name.
pub(super) type Fact = (Name, Cell);

/// A line of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    /// Whether somebody should look at it.
    pub(super) bad: bool,
}

impl Row {
    pub(super) fn new(cells: impl IntoIterator<Item = Cell>) -> Self {
        Self { cells: cells.into_iter().collect(), bad: false }
    }

    pub(super) fn bad_if(self, bad: bool) -> Self {
        Self { bad, ..self }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Line(String),
    Rule,
    Remark { key: &'static str, text: String },
    Facts { key: &'static str, title: String, facts: Vec<Fact> },
    Blocks { key: &'static str, blocks: Vec<Vec<Fact>> },
    Rows { key: &'static str, title: String, columns: &'static [Name], rows: Vec<Row> },
}

/// Everything that a command shows.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Page {
    parts: Vec<Part>,
}

impl Page {
    /// For people alone.
    pub(super) fn line(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.push(Part::Line(text.into()));
        self
    }

    /// A line between what does not belong together, for people alone.
    pub(super) fn rule(&mut self) -> &mut Self {
        self.parts.push(Part::Rule);
        self
    }

    /// A line that scripts get too: in a list of this name.
    pub(super) fn remark(&mut self, key: &'static str, text: impl Into<String>) -> &mut Self {
        self.parts.push(Part::Remark { key, text: text.into() });
        self
    }

    /// Values by name; an empty title is none.
    pub(super) fn facts(
        &mut self,
        key: &'static str,
        title: impl Into<String>,
        facts: Vec<Fact>,
    ) -> &mut Self {
        self.parts.push(Part::Facts { key, title: title.into(), facts });
        self
    }

    /// A list of such.
    pub(super) fn blocks(&mut self, key: &'static str, blocks: Vec<Vec<Fact>>) -> &mut Self {
        self.parts.push(Part::Blocks { key, blocks });
        self
    }

    /// A table; an empty title is none.
    pub(super) fn rows(
        &mut self,
        key: &'static str,
        title: impl Into<String>,
        columns: &'static [Name],
        rows: Vec<Row>,
    ) -> &mut Self {
        self.parts.push(Part::Rows { key, title: title.into(), columns, rows });
        self
    }

    /// Prints it.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(super) fn print(&self, json: bool) -> Result<(), Error> {
        if json {
            return say_json(&self.json());
        }
        let mut lines = Lines::new();
        lines.text(format_args!("{}", self.text()))?;
        lines.finish()
    }

    /// As text, without the last line's end.
    pub(super) fn text(&self) -> String {
        self.parts.iter().map(text_of).collect::<Vec<_>>().join("\n")
    }

    /// As one JSON object.
    pub(super) fn json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for part in &self.parts {
            match part {
                Part::Line(_) | Part::Rule => {}
                Part::Remark { key, text } => {
                    let list = object.entry(*key).or_insert_with(|| json!([]));
                    if let Value::Array(list) = list {
                        list.push(json!(text));
                    }
                }
                Part::Facts { key, facts, .. } => {
                    object.insert((*key).to_owned(), Value::Object(object_of(facts)));
                }
                Part::Blocks { key, blocks } => {
                    let blocks = blocks.iter().map(|facts| Value::Object(object_of(facts)));
                    object.insert((*key).to_owned(), blocks.collect());
                }
                Part::Rows { key, columns, rows, .. } => {
                    let row = |row: &Row| {
                        let names = columns.iter().map(|(_, key)| (*key).to_owned());
                        let mut found: Map<_, _> =
                            names.zip(row.cells.iter().map(Cell::json)).collect();
                        if rows.iter().any(|row| row.bad) {
                            found.insert("bad".to_owned(), json!(row.bad));
                        }
                        Value::Object(found)
                    };
                    object.insert((*key).to_owned(), rows.iter().map(row).collect());
                }
            }
        }
        object
    }
}

fn object_of(facts: &[Fact]) -> Map<String, Value> {
    facts.iter().map(|((_, key), cell)| ((*key).to_owned(), cell.json())).collect()
}

fn text_of(part: &Part) -> String {
    match part {
        Part::Line(text) | Part::Remark { text, .. } => text.clone(),
        Part::Rule => RULE.to_owned(),
        Part::Facts { title, facts, .. } => titled(title, &text_of_facts(facts)),
        Part::Blocks { blocks, .. } => {
            let blocks: Vec<_> = blocks.iter().map(|facts| text_of_facts(facts)).collect();
            blocks.join(&format!("\n{RULE}\n"))
        }
        Part::Rows { title, columns, rows, .. } => titled(title, &grid(columns, rows)),
    }
}

fn titled(title: &str, text: &str) -> String {
    if title.is_empty() { text.to_owned() } else { format!("{title}\n{text}") }
}

fn text_of_facts(facts: &[Fact]) -> String {
    let width = facts.iter().map(|((title, _), _)| title.len()).max().unwrap_or(0);
    let line = |((title, _), cell): &Fact| format!("   {title:width$} = {}", cell.text());
    facts.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn grid(columns: &[Name], rows: &[Row]) -> String {
    let mut grid = Grid::new();
    grid.load_preset(presets::NOTHING);
    grid.set_header(columns.iter().map(|(title, _)| *title));
    for row in rows {
        let bad = row.bad.then(|| BAD.to_owned());
        grid.add_row(row.cells.iter().map(Cell::text).chain(bad));
    }
    let lines = grid.lines().map(|line| format!("  {}", line.trim_end()));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Name] = &[("Segment", "segment"), ("Port", "port")];

    fn page() -> Page {
        let mut page = Page::default();
        page.line("Report")
            .rows(
                "down",
                "Downed",
                COLUMNS,
                vec![
                    Row::new(["sdw1".into(), 6000_u64.into()]),
                    Row::new(["sdw2".into(), Cell::Nothing("Unknown")]).bad_if(true),
                ],
            )
            .remark("warnings", "one is down");
        page
    }

    #[test]
    fn a_line_that_somebody_should_look_at_ends_with_its_mark() {
        let text = page().text();
        let marked: Vec<_> = text.lines().filter(|line| line.ends_with(BAD)).collect();
        assert!(matches!(marked[..], [line] if line.contains("sdw2")), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn scripts_get_the_same_values() {
        let json = Value::Object(page().json());
        assert_eq!(json["down"][0]["port"], 6000);
        assert_eq!(json["down"][1]["port"], Value::Null);
        assert_eq!(json["down"][1]["bad"], true);
        assert_eq!(json["warnings"][0], "one is down");
    }
}
