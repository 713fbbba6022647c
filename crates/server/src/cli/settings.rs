//! `outrigger config`: the settings that a cluster keeps in its catalog.
//!
//! Guarantees: a name that does not exist is refused with the closest one, before the coordinator is asked.
//! Not here: what they do (cluster), the keys of files.

use clap::Args;
use outrigger_cluster::operator::{ClusterState, Request};
use outrigger_cluster::settings::{MANUAL, SETTINGS, Setting, check, find};

use super::asking::Asking;
use super::page::{Cell, Name, Page, Row};
use super::state::tables::setting;
use crate::config::closest;
use crate::error::{Error, Verdict};
use crate::process;

const COLUMNS: &[Name] =
    &[("Name", "name"), ("Value", "value"), ("Default", "default"), ("Meaning", "meaning")];

#[derive(Debug, Args)]
pub(super) struct Settings {
    /// Give a setting a value, then print all of them; `manual` is the word for the greatest
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, u64)>,
    #[command(flatten)]
    asking: Asking,
}

fn assignment(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    if find(name).is_none() {
        let names = SETTINGS.iter().map(|setting| setting.name);
        let hint =
            closest(name, names).map_or(String::new(), |one| format!("; did you mean {one}?"));
        return Err(format!("there is no setting {name:?}{hint}"));
    }
    let value = match value {
        "manual" => MANUAL,
        number => number.parse().map_err(|_| format!("{number:?} is no whole number"))?,
    };
    check(name, value)?;
    Ok((name.to_owned(), value))
}

impl Settings {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let state = process::runtime()?.block_on(async {
            for (key, value) in &self.set {
                let request = Request::Set { key: key.clone(), value: *value };
                self.asking.command(&request).await?;
            }
            self.asking.state().await
        })?;
        page(&state).print(self.asking.json)?;
        Ok(Verdict::Good)
    }
}

fn page(state: &ClusterState) -> Page {
    let value = |value: u64| match value {
        MANUAL => Cell::from("manual"),
        value => value.into(),
    };
    let row = |one: &Setting| {
        Row::new([
            one.name.into(),
            value(setting(state, one.name)),
            value(one.default),
            one.meaning.split_whitespace().collect::<Vec<_>>().join(" ").into(),
        ])
    };
    let mut page = Page::default();
    page.rows("settings", "", COLUMNS, SETTINGS.iter().map(row).collect());
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_does_not_exist_names_the_closest() {
        let error = assignment("fts_probe_intervall_ms=5").unwrap_err();
        assert!(error.contains("did you mean fts_probe_interval_ms?"), "{error}");
        assert!(assignment("fts_probe_interval_ms").is_err());
        assert!(assignment("fts_probe_interval_ms=soon").is_err());
        assert!(assignment("fts_probe_interval_ms=1").is_err(), "out of its range");
    }

    #[test]
    fn recovery_by_hand_has_a_word() {
        assert_eq!(assignment("auto_rejoin_ms=manual"), Ok(("auto_rejoin_ms".to_owned(), MANUAL)));
    }
}
