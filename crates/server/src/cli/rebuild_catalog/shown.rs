//! What is printed of a catalog that is made anew: the plan, then what was done; and what is not proved, both times.
//!
//! Not here: what it says ([`outrigger_cluster::rebuilding`]).

use outrigger_cluster::rebuilding::{Content, Doubt, Plan};
use outrigger_wal::InstanceId;

use super::super::page::{Cell, Fact, Name, Page, Row};

const COLUMNS: &[Name] = &[
    ("Content", "content"),
    ("Primary", "primary"),
    ("In sync", "in_sync"),
    ("Epoch", "epoch"),
    ("Version", "version"),
    ("Reported", "reported"),
    ("Copies", "copies"),
];

/// The plan.
pub(super) fn plan(plan: &Plan) -> Page {
    let mut page = Page::default();
    let row = &plan.coordinator;
    let facts: Vec<Fact> = vec![
        (("Coordinator host", "host"), row.host.as_str().into()),
        (("Coordinator address", "address"), row.address().into()),
        (("Coordinator port", "port"), u64::from(row.port()).into()),
        (("Coordinator data directory", "datadir"), row.data_dir.as_str().into()),
    ];
    page.facts("coordinator", "A new catalog", facts).rule();
    let rows = plan.contents.iter().map(|content| line(plan, content));
    page.rows("contents", "Configurations that instances hold", COLUMNS, rows.collect());
    page.rule();
    for doubt in &plan.doubts {
        page.remark("not_proved", format!("not proved: {doubt}"));
    }
    page
}

/// What was done, and whether somebody has to look. People have seen the plan: they are told what was found since.
pub(super) fn done(rebuilt: &Plan, before: &[Doubt], address: &str, json: bool) -> (Page, bool) {
    let wrong = rebuilt.doubts.iter().any(is_wrong);
    let mut page = if json { plan(rebuilt) } else { Page::default() };
    for doubt in rebuilt.doubts.iter().filter(|doubt| !json && !before.contains(doubt)) {
        page.remark("not_proved", format!("not proved: {doubt}"));
    }
    page.remark("done", format!("the catalog is rebuilt; the coordinator serves at {address}"));
    if wrong {
        page.remark("warnings", "warning: see what is not proved, and `outrigger state -e`");
    }
    (page, wrong)
}

/// Whether something is missing, beyond what every rebuild leaves open.
const fn is_wrong(doubt: &Doubt) -> bool {
    !matches!(doubt, Doubt::Rows { .. } | Doubt::NoStandby | Doubt::History)
}

fn line(plan: &Plan, content: &Content) -> Row {
    let config = &content.config;
    let name = |instance: InstanceId| {
        let row = plan.state.row_of(instance);
        row.map_or_else(|| instance.to_string(), |(dbid, _)| dbid.to_string())
    };
    let in_sync: Vec<_> = config.in_sync_set().map(name).collect();
    let copies = config.copies.len();
    let count = |number: usize| Cell::Number(u64::try_from(number).unwrap_or(u64::MAX));
    Row::new([
        Cell::Signed(content.content.0.into()),
        name(config.primary).into(),
        in_sync.join(", ").into(),
        config.epoch.number.into(),
        config.version.0.into(),
        count(content.reported),
        count(copies),
    ])
    .bad_if(content.reported < copies)
}
