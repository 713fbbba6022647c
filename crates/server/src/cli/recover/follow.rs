//! Following copies on their way back, until each is in sync.
//!
//! Guarantees: it changes nothing, so whoever is killed and begun again just follows; a copy of which nothing changes
//! for the patience that was given is given up, with the last that was seen. Not here: letting them back.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::tables::{Rebuild, Wanted};
use outrigger_cluster::operator::ClusterState;
use outrigger_wal::InstanceId;
use tokio::time::{Instant, sleep};

use crate::cli::asking::Asking;
use crate::cli::state::problems::{percent, recovery_type};
use crate::cli::state::seats::{Seat, pairs};
use crate::error::Error;
use crate::output::{complain, is_watched};

/// Between two looks.
const LOOK_TIME: Duration = Duration::from_millis(200);

/// The coordinator tries the next way back much sooner than that.
const ENDED_TIME: Duration = Duration::from_secs(5);

/// The ways back, as they are called.
pub(in crate::cli) const INCREMENTAL: &str = "incremental";
pub(in crate::cli) const DIFFERENTIAL: &str = "differential";
pub(in crate::cli) const FULL: &str = "full";

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Show {
    /// One line an instance, refreshed in place, where somebody watches.
    Bars,
    /// A line whenever a percent is done.
    Lines,
    Nothing,
}

/// How a copy stands: one that is recorded as in sync and does not run is on its way too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Stand {
    InSync,
    /// On its way: so many bytes of so many.
    Going {
        done: u64,
        total: u64,
        how: String,
    },
    Failed {
        why: String,
    },
}

/// A copy that came to an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) struct End {
    pub(in crate::cli) instance: InstanceId,
    pub(in crate::cli) host: String,
    pub(in crate::cli) port: u16,
    pub(in crate::cli) dbid: Option<u16>,
    pub(in crate::cli) content: i32,
    /// How it came back, as last seen.
    pub(in crate::cli) how: &'static str,
    /// Why it did not come back.
    pub(in crate::cli) failed: Option<String>,
}

/// The most that each copy was seen to lack, so that what is done can be told.
#[derive(Debug, Default)]
pub(in crate::cli) struct Missed(BTreeMap<InstanceId, u64>);

impl Missed {
    /// How a copy stands now.
    pub(in crate::cli) fn stand(&mut self, seat: &Seat<'_>) -> Stand {
        if seat.in_sync() && seat.is_alive() {
            return Stand::InSync;
        }
        if seat.is_going() {
            return Stand::Failed { why: "it is being removed".to_owned() };
        }
        if let Some(Process::Rebuilding { done_bytes, total_bytes }) = seat.process() {
            let how = recovery_type(seat).to_owned();
            return Stand::Going { done: *done_bytes, total: *total_bytes, how };
        }
        let lag = seat.lag_bytes();
        let most = self.0.entry(seat.id()).or_default();
        *most = lag.max(*most);
        Stand::Going { done: *most - lag, total: *most, how: seat.seen().to_owned() }
    }
}

/// How long it may stand still: where its process has ended and nobody starts it again, not for long.
fn still_time(seat: &Seat<'_>, patience: Duration) -> Duration {
    match seat.process() {
        Some(Process::Ended { .. }) => patience.min(ENDED_TIME),
        _ => patience,
    }
}

/// `sdw1 (dbid 5): 164848/1371715 kB (84%)`.
pub(in crate::cli) fn line(seat: &Seat<'_>, stand: &Stand) -> String {
    let what = match stand {
        Stand::InSync => "in sync".to_owned(),
        Stand::Failed { why } => format!("failed: {why}"),
        Stand::Going { done, total, how } => match percent(*done, *total) {
            Some(percent) => format!("{}/{} kB ({percent}%)", done / 1024, total / 1024),
            None => how.clone(),
        },
    };
    format!("{} ({}): {what}", seat.host(), seat.name())
}

/// One line an instance.
struct Board {
    show: Show,
    all: MultiProgress,
    bars: BTreeMap<InstanceId, ProgressBar>,
    said: BTreeMap<InstanceId, String>,
}

impl Board {
    fn new(show: Show) -> Self {
        let watched = show == Show::Bars && is_watched();
        let target =
            if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let all = MultiProgress::with_draw_target(target);
        Self { show, all, bars: BTreeMap::new(), said: BTreeMap::new() }
    }

    fn show(&mut self, seat: &Seat<'_>, stand: &Stand) {
        let text = line(seat, stand);
        match self.show {
            Show::Nothing => {}
            Show::Lines => {
                if self.said.get(&seat.id()) != Some(&text) {
                    complain(format_args!("{text}"));
                    self.said.insert(seat.id(), text);
                }
            }
            Show::Bars => {
                let all = &self.all;
                let bar = self.bars.entry(seat.id()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::new(1));
                    if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
                        bar.set_style(style);
                    }
                    bar
                });
                let (done, total) = match stand {
                    Stand::Going { done, total, .. } => (*done, (*total).max(1)),
                    Stand::InSync => (1, 1),
                    Stand::Failed { .. } => (0, 1),
                };
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(text);
            }
        }
    }

    fn end(self) {
        self.bars.values().for_each(ProgressBar::finish_and_clear);
    }
}

/// How a copy comes back whose row wants this; `None`: by what it missed, or nobody can tell any more.
const fn rebuilt(wanted: Wanted) -> Option<&'static str> {
    match wanted {
        Wanted::Rebuild(Rebuild::Full) => Some(FULL),
        Wanted::Rebuild(Rebuild::Differential) => Some(DIFFERENTIAL),
        _ => None,
    }
}

/// Follows copies until each is in sync or has failed; each with the way back that was asked for, since a short one
/// is over before anybody looks.
///
/// # Errors
/// When the coordinator cannot be asked for as long as the patience that was given.
pub(in crate::cli) async fn follow(
    asking: &Asking,
    copies: &[(InstanceId, &'static str)],
    show: Show,
) -> Result<Vec<End>, Error> {
    let mut board = Board::new(show);
    let mut missed = Missed::default();
    let mut stands: BTreeMap<InstanceId, (Stand, Instant)> = BTreeMap::new();
    let mut ends: BTreeMap<InstanceId, End> = BTreeMap::new();
    let mut hows: BTreeMap<InstanceId, &'static str> = copies.iter().copied().collect();
    let still = asking.patience.still_time();
    let mut heard = Instant::now();
    while ends.len() < hows.len() {
        let state = match asking.state().await {
            Ok(state) => state,
            // It may be failing over itself.
            Err(error) if heard.elapsed() >= still => return Err(error),
            Err(_) => {
                sleep(LOOK_TIME).await;
                continue;
            }
        };
        heard = Instant::now();
        let seats = seats_of(&state);
        let left = hows.keys().copied().filter(|copy| !ends.contains_key(copy));
        for copy in left.collect::<Vec<_>>() {
            let Some(seat) = seats.get(&copy) else {
                let why = "it is not in the catalog any more".to_owned();
                ends.insert(copy, unknown(copy, why));
                continue;
            };
            let mut stand = missed.stand(seat);
            if let Some(how) = seat.instance.and_then(|instance| rebuilt(instance.row.wanted)) {
                hows.insert(copy, how);
            }
            let since = match stands.get(&copy) {
                Some((before, since)) if *before == stand => *since,
                _ => Instant::now(),
            };
            stands.insert(copy, (stand.clone(), since));
            if let Stand::Going { how, .. } = &stand
                && since.elapsed() >= still_time(seat, still)
            {
                let seconds = still_time(seat, still).as_secs_f64();
                let why = format!("nothing changed for {seconds} s: {how}");
                stand = Stand::Failed { why };
            }
            board.show(seat, &stand);
            let failed = match stand {
                Stand::Going { .. } => continue,
                Stand::InSync => None,
                Stand::Failed { why } => Some(why),
            };
            let how = hows.get(&copy).copied().unwrap_or(INCREMENTAL);
            ends.insert(copy, end(seat, how, failed));
        }
        if ends.len() < hows.len() {
            sleep(LOOK_TIME).await;
        }
    }
    board.end();
    Ok(ends.into_values().collect())
}

fn seats_of(state: &ClusterState) -> BTreeMap<InstanceId, Seat<'_>> {
    pairs(state).into_iter().flat_map(|pair| pair.seats).map(|seat| (seat.id(), seat)).collect()
}

fn end(seat: &Seat<'_>, how: &'static str, failed: Option<String>) -> End {
    End {
        instance: seat.id(),
        host: seat.host().to_owned(),
        port: seat.port(),
        dbid: seat.dbid().map(|dbid| dbid.0),
        content: seat.content.0,
        how,
        failed,
    }
}

fn unknown(instance: InstanceId, why: String) -> End {
    End {
        instance,
        host: String::new(),
        port: 0,
        dbid: None,
        content: -1,
        how: "incremental",
        failed: Some(why),
    }
}
