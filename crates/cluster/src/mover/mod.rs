//! Rows move to other contents while the cluster serves: what is asked next.
//!
//! What is to move, and how far each bucket is, stands in the catalog's map; all else is forgotten at will. One
//! question is out at a time, and one that fails, or whose answer is lost, ends the try: the next one goes on from the
//! map under a greater token, and whatever of the last is still on its way has no effect on any content.
//!
//! Guarantees: pure; rows are copied while clients write; only [`BATCH`] buckets at a time have no owner, from
//! when their hand-over is recorded until their new owner takes them up. A bucket has moved only after the old owner's log
//! says that it has given it up, and the new one's log holds all its rows; its old rows are deleted only after that.
//! Not here: recording steps (coordinator), carrying questions to primaries (server).
//!
//! | the map says | what is asked, in order |
//! |---|---|
//! | copying | target receives, is cleared; source tracks changes; all rows, then what changed; recorded: handing over |
//! | handing over | source gives up (its log); what changed since, or, when that is not known any more, all rows once more into a cleared target; recorded: moved |
//! | moved | target takes up (its log); when a whole group has: source is swept; recorded: over |
//!
//! # Layout
//! - `codec`: questions and answers as bytes

mod codec;

use bytes::Bytes;
use outrigger_replica::store::kv::{Hold, Token};
use outrigger_wal::{ContentId, Micros};

use crate::buckets::{Bucket, Buckets, MapVersion, Move, MoveState};
use crate::catalog::MoveStep;
pub use codec::is_ask;

/// So many buckets are handed over together, at most.
pub const BATCH: usize = 8;
/// So many buckets are copied in one pass over the source's rows, at most.
const GROUP: usize = 128;
/// With fewer changed rows left a hand-over is begun.
const FEW: u32 = 64;
/// After so many rounds it is begun in any case.
const ROUNDS: u32 = 50;
/// Before a failed try is followed by another.
const PAUSE_MICROS: u64 = 200_000;
/// Before it is looked again whether a target is ready.
const LOOK_MICROS: u64 = 100_000;

/// Rows with their values; `None`: there is no such row.
pub type Changes = Vec<(Bytes, Option<Bytes>)>;

/// What is asked of the acting primary of a content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Its log is to say this of these buckets.
    Tell {
        /// Which.
        buckets: Vec<Bucket>,
        /// What.
        hold: Hold,
    },
    /// Some rows of buckets that it does not hold are to go.
    Sweep {
        /// Of these buckets.
        buckets: Vec<Bucket>,
        /// Under this token.
        token: Token,
        /// From this key.
        from: Bytes,
    },
    /// It is to remember which rows change.
    Track {
        /// Of these buckets.
        buckets: Vec<Bucket>,
        /// Under this token.
        token: Token,
    },
    /// Some rows, in key order.
    Look {
        /// Of these buckets.
        buckets: Vec<Bucket>,
        /// From this key.
        from: Bytes,
    },
    /// Some of those that changed, as they are now.
    Changed {
        /// Under this token.
        token: Token,
    },
    /// Rows of buckets that it does not hold are to be so.
    Fill {
        /// Under this token.
        token: Token,
        /// The rows.
        rows: Changes,
    },
}

/// What it answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It is so: committed, and applied there.
    Done,
    /// Rows are gone, and where to go on.
    Swept {
        /// From which key; `None`: none are left.
        next: Option<Bytes>,
    },
    /// Rows, and where to go on.
    Page {
        /// The rows.
        rows: Vec<(Bytes, Bytes)>,
        /// From which key; `None`: these were the last.
        next: Option<Bytes>,
    },
    /// Changed rows, and how many are left.
    Changed {
        /// The rows.
        rows: Changes,
        /// How many.
        left: u32,
    },
    /// There is no answer, or it cannot be so.
    Failed {
        /// Why, in words.
        text: String,
    },
}

/// What is to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Ask a content's acting primary; [`Mover::replied`] takes the answer.
    Ask(ContentId, Ask),
    /// Record a step; [`Mover::recorded`] takes what became of it.
    Record(MoveStep, Vec<Move>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    Receive,
    Clear(Bytes),
    Track,
    Copy(Bytes),
    CatchUp,
    HandOver,
    GiveUp,
    Drain,
    CopyAll(Bytes),
    Moved,
    TakeUp,
    Mark,
    Sweep(Bytes),
    End,
}

/// Buckets on their way from one content to another.
#[derive(Clone, Debug)]
struct Task {
    from: ContentId,
    to: ContentId,
    /// Of the copy.
    token: Token,
    /// Of what is swept at the old owner.
    sweeping: Token,
    /// Those that are copied, and swept, together.
    group: Vec<Bucket>,
    /// Those of them that are not handed over yet.
    left: Vec<Bucket>,
    /// Those that are being handed over.
    batch: Vec<Bucket>,
    /// Nothing is known of changes: the old owner has given them up, and all is copied.
    frozen: bool,
    stage: Stage,
    /// Rows that are to be filled in before anything else.
    fill: Changes,
    /// Between two pages.
    drain: bool,
    rounds: u32,
}

/// Moves rows. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Mover {
    epoch: u64,
    number: u64,
    max_rate_bytes: u64,
    task: Option<Task>,
    out: bool,
    not_before: Micros,
    now: Micros,
    why: String,
}

impl Mover {
    /// A mover in a coordinator's reign with this number, unlike any before; it copies so many bytes a second at
    /// most (0: no limit).
    #[must_use]
    pub const fn new(epoch: u64, max_rate_bytes: u64) -> Self {
        Self {
            epoch,
            number: 0,
            max_rate_bytes,
            task: None,
            out: false,
            not_before: Micros(0),
            now: Micros(0),
            why: String::new(),
        }
    }

    /// What is to be done by this map, if nothing is out; `ready`: a content whose copies are all in sync, so
    /// that rows may go there.
    pub fn next(
        &mut self,
        now: Micros,
        map: &Buckets,
        ready: impl Fn(ContentId) -> bool,
    ) -> Option<Act> {
        self.now = self.now.max(now);
        if self.out || self.now < self.not_before {
            return None;
        }
        if self.task.is_none() {
            self.task = self.plan(map, ready);
            if self.task.is_none() && map.moves().next().is_some() {
                "the contents that rows move to are not in sync yet".clone_into(&mut self.why);
                self.not_before = self.now.plus(LOOK_MICROS);
            }
        }
        let act = self.act(map);
        self.out = act.is_some();
        act
    }

    /// When [`Mover::next`] has to be asked again by itself.
    #[must_use]
    pub fn due(&self) -> Option<Micros> {
        (!self.out && self.not_before > self.now).then_some(self.not_before)
    }

    /// Why the last try ended, in words; empty when none failed since.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    fn draw(&mut self) -> Token {
        self.number = self.number.saturating_add(1);
        Token { epoch: self.epoch, number: self.number }
    }

    /// Where to go on, by the map alone.
    fn plan(&mut self, map: &Buckets, ready: impl Fn(ContentId) -> bool) -> Option<Task> {
        // What has no owner, or was not taken up, first.
        for (state, most) in [
            (MoveState::HandingOver, BATCH),
            (MoveState::Moved, GROUP),
            (MoveState::Copying, GROUP),
        ] {
            let mut of_state = map.moves().filter(|(_, at)| *at == state).map(|(one, _)| one);
            let first = of_state.find(|one| state != MoveState::Copying || ready(one.to));
            let Some(Move { from, to, .. }) = first else { continue };
            let same =
                map.moves().filter(|(one, at)| *at == state && (one.from, one.to) == (from, to));
            let buckets: Vec<_> = same.map(|(one, _)| one.bucket).take(most).collect();
            let copying = state == MoveState::Copying;
            return Some(Task {
                from,
                to,
                token: self.draw(),
                sweeping: Token::default(),
                batch: if copying { Vec::new() } else { buckets.clone() },
                left: if copying { buckets.clone() } else { Vec::new() },
                group: buckets,
                frozen: state == MoveState::HandingOver,
                stage: if state == MoveState::Moved { Stage::TakeUp } else { Stage::Receive },
                fill: Vec::new(),
                drain: false,
                rounds: 0,
            });
        }
        None
    }

    fn act(&mut self, map: &Buckets) -> Option<Act> {
        let mark = self.draw();
        let task = self.task.as_mut()?;
        let Task { from, to, token, .. } = *task;
        if !task.fill.is_empty() {
            return Some(Act::Ask(to, Ask::Fill { token, rows: task.fill.clone() }));
        }
        let batch = || task.batch.clone();
        let tell = |hold| Ask::Tell { buckets: task.batch.clone(), hold };
        // ORDER: by the newest map, so that what a content was told by an older one is behind it.
        let at = map.version().0;
        Some(match &task.stage {
            Stage::Receive => {
                let buckets = task.group.clone();
                Act::Ask(to, Ask::Tell { buckets, hold: Hold::Receive { token } })
            }
            Stage::Clear(start) => {
                let (buckets, from) = (task.group.clone(), start.clone());
                Act::Ask(to, Ask::Sweep { buckets, token, from })
            }
            Stage::Track => Act::Ask(from, Ask::Track { buckets: task.group.clone(), token }),
            Stage::Copy(_) if task.drain => Act::Ask(from, Ask::Changed { token }),
            Stage::Copy(start) => {
                let (buckets, start) = (task.group.clone(), start.clone());
                Act::Ask(from, Ask::Look { buckets, from: start })
            }
            Stage::CatchUp | Stage::Drain => Act::Ask(from, Ask::Changed { token }),
            Stage::HandOver => Act::Record(MoveStep::HandOver, task.moves()),
            Stage::GiveUp => Act::Ask(from, tell(Hold::GiveUp { at, token })),
            Stage::CopyAll(start) => {
                Act::Ask(from, Ask::Look { buckets: batch(), from: start.clone() })
            }
            Stage::Moved => Act::Record(MoveStep::Moved, task.moves()),
            Stage::TakeUp => Act::Ask(to, tell(Hold::TakeUp { since: task.since(map).0 })),
            Stage::Mark => {
                // Only this try sweeps: a late word of another finds another token.
                task.sweeping = mark;
                let hold = Hold::GiveUp { at: task.since(map).0, token: mark };
                Act::Ask(from, Ask::Tell { buckets: task.batch.clone(), hold })
            }
            Stage::Sweep(start) => {
                let (token, start) = (task.sweeping, start.clone());
                Act::Ask(from, Ask::Sweep { buckets: batch(), token, from: start })
            }
            Stage::End => Act::Record(MoveStep::End, task.moves()),
        })
    }

    /// An answer came, or will not come.
    pub fn replied(&mut self, now: Micros, reply: Reply) {
        self.now = self.now.max(now);
        self.out = false;
        if let Reply::Failed { text } = reply {
            return self.fail(text);
        }
        let Some(task) = &mut self.task else { return };
        let filled = rows_bytes(&task.fill);
        match task.take(reply) {
            Ok(()) => self.why.clear(),
            Err(text) => return self.fail(text.to_owned()),
        }
        if filled > 0 && self.max_rate_bytes > 0 && self.may_pause() {
            let micros = filled.saturating_mul(1_000_000) / self.max_rate_bytes;
            self.not_before = self.now.plus(micros);
        }
    }

    /// Not while buckets have no owner.
    fn may_pause(&self) -> bool {
        self.task.as_ref().is_some_and(|task| matches!(task.stage, Stage::Copy(_) | Stage::CatchUp))
    }

    /// A step was recorded and applied, or was not.
    pub fn recorded(&mut self, now: Micros, done: Result<(), String>) {
        self.now = self.now.max(now);
        self.out = false;
        if let Err(text) = done {
            return self.fail(text);
        }
        let Some(task) = &mut self.task else { return };
        task.stage = match task.stage {
            Stage::HandOver => Stage::GiveUp,
            Stage::Moved => Stage::TakeUp,
            _ => {
                self.task = None;
                return;
            }
        };
    }

    fn fail(&mut self, text: String) {
        self.task = None;
        self.why = text;
        self.not_before = self.now.plus(PAUSE_MICROS);
    }
}

impl Task {
    fn moves(&self) -> Vec<Move> {
        let (from, to) = (self.from, self.to);
        self.batch.iter().map(|bucket| Move { bucket: *bucket, from, to }).collect()
    }

    /// Since when the new owner holds the batch: all were recorded as one.
    fn since(&self, map: &Buckets) -> MapVersion {
        let held = self.batch.iter().map(|bucket| map.holder(*bucket).since);
        held.max().unwrap_or_default()
    }

    fn take(&mut self, reply: Reply) -> Result<(), &'static str> {
        const WRONG: &str = "a content answered something else than it was asked";
        if !self.fill.is_empty() {
            self.fill.clear();
            return if reply == Reply::Done { Ok(()) } else { Err(WRONG) };
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Receive);
        self.stage = match (stage, reply) {
            (Stage::Receive, Reply::Done) => Stage::Clear(Bytes::new()),
            (Stage::Clear(_), Reply::Swept { next: Some(next) }) => Stage::Clear(next),
            (Stage::Clear(_), Reply::Swept { next: None }) if self.frozen => Stage::GiveUp,
            (Stage::Clear(_), Reply::Swept { next: None }) => Stage::Track,
            (Stage::Track, Reply::Done) => Stage::Copy(Bytes::new()),
            (Stage::Copy(start), Reply::Changed { rows, left }) => {
                self.fill = rows;
                self.drain = left > FEW;
                Stage::Copy(start)
            }
            (Stage::Copy(_), Reply::Page { rows, next }) => {
                self.fill = present(rows);
                self.drain = true;
                next.map_or(Stage::CatchUp, Stage::Copy)
            }
            (Stage::CatchUp, Reply::Changed { rows, left }) => {
                self.rounds = self.rounds.saturating_add(1);
                let few = u64::from(left).saturating_add(rows.len() as u64) <= u64::from(FEW);
                self.fill = rows;
                if few || self.rounds >= ROUNDS {
                    self.batch = self.left.drain(..BATCH.min(self.left.len())).collect();
                    Stage::HandOver
                } else {
                    Stage::CatchUp
                }
            }
            (Stage::GiveUp, Reply::Done) if self.frozen => Stage::CopyAll(Bytes::new()),
            (Stage::GiveUp, Reply::Done) => Stage::Drain,
            (Stage::Drain, Reply::Changed { rows, left }) => {
                self.fill = rows;
                if left > 0 { Stage::Drain } else { Stage::Moved }
            }
            (Stage::CopyAll(_), Reply::Page { rows, next }) => {
                self.fill = present(rows);
                next.map_or(Stage::Moved, Stage::CopyAll)
            }
            (Stage::TakeUp, Reply::Done) if self.left.is_empty() => {
                self.batch.clone_from(&self.group);
                Stage::Mark
            }
            (Stage::TakeUp, Reply::Done) => {
                self.rounds = 0;
                Stage::CatchUp
            }
            (Stage::Mark, Reply::Done) => Stage::Sweep(Bytes::new()),
            (Stage::Sweep(_), Reply::Swept { next: Some(next) }) => Stage::Sweep(next),
            (Stage::Sweep(_), Reply::Swept { next: None }) => Stage::End,
            _ => return Err(WRONG),
        };
        Ok(())
    }
}

fn present(rows: Vec<(Bytes, Bytes)>) -> Changes {
    rows.into_iter().map(|(key, value)| (key, Some(value))).collect()
}

fn rows_bytes(rows: &Changes) -> u64 {
    let bytes = |(key, value): &(Bytes, Option<Bytes>)| {
        key.len().saturating_add(value.as_ref().map_or(0, Bytes::len)) as u64
    };
    rows.iter().map(bytes).fold(0, u64::saturating_add)
}
