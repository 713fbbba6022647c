//! What happens in the demo, in order.
//!
//! The tail that has to be cut is made sure of: while the mirror is stopped, a burst of large rows is written, more
//! than the primary sends without hearing of the mirror; what it did not send dies with it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use bytes::Bytes;
use outrigger_cluster::operator::{Answer as Told, Request as Asked};
use outrigger_net::message::Role;
use outrigger_wal::{ContentId, InstanceId};
use rustix::process::Signal;
use tokio::time::sleep;

use super::book::Book;
use super::stage::{Actor, Stage};
use crate::error::Error;
use crate::kv::client::{Client, ClientOptions};
use crate::kv::line::{Line, Whom};
use crate::kv::operator;
use crate::kv::protocol::{Answer, Cut, Joined, Request, Status};
use crate::load::ack_log::{self, Ack};
use crate::load::pace::Pace;
use crate::load::rows::{Input, Row};
use crate::load::run::{self, Loaded};

pub(super) const COORDINATOR: &str = "coordinator";
pub(super) const FIRST: &str = "primary";
pub(super) const SECOND: &str = "mirror";

const CONTENT: ContentId = ContentId(0);
/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_TIME: Duration = Duration::from_millis(10);
/// How long the rows that ship with this program are loaded before the failure, and at least behind it.
const LOAD_TIME: Duration = Duration::from_millis(4_000);
const AFTER_TIME: Duration = Duration::from_millis(2_200);
/// A file's rows are spread over so many seconds.
const INPUT_SECONDS: f64 = 6.0;
/// The primary is killed when this share of a file is stored.
const KILL_SHARE: f64 = 0.6;
/// Rows a second of the rows that ship with this program, and of the writer beside them.
const ROWS_PER_SECOND: f64 = 4_000.0;
const WRITER_PER_SECOND: f64 = 200.0;
const IN_FLIGHT: usize = 32;
/// The burst: more than the primary's window of 4 MiB to one copy.
const BURST_ROWS: u32 = 60;
const BURST_BYTES: usize = 128 * 1024;
/// So much of the burst must be in the primary's log, and not committed, when it is killed.
const TAIL_BYTES: u64 = 6 << 20;
const INSTANCE: &str = "segment_bytes = 16777216\n";

/// What happened.
pub(super) struct Ending {
    /// Every line of the ack log.
    pub(super) acks: Vec<Ack>,
    /// Acknowledged before the primary was killed.
    pub(super) acked_before_kill: u64,
    /// Rows of which it is not known.
    pub(super) in_doubt: u64,
    /// From the kill to the first commit behind it.
    pub(super) failover: Duration,
    /// What was cut off the old primary's log.
    pub(super) cut: Option<Cut>,
    /// How it came back.
    pub(super) joined: Option<Joined>,
    pub(super) commit_p50_micros: u64,
    pub(super) commit_p99_micros: u64,
    pub(super) peaks: std::collections::BTreeMap<&'static str, u64>,
}

/// Plays the demo.
///
/// # Errors
/// What could not be done.
pub(super) async fn tell(stage: &Stage, input: &Input, repeat: bool) -> Result<Ending, Error> {
    tokio::select! {
        () = stage.sample() => Err(Error::Partial("memory is no longer looked at".to_owned())),
        ended = play(stage, input, repeat) => ended,
    }
}

/// What the writers share with the story.
struct Shared {
    book: RefCell<Book>,
    /// Rows of the input that were acknowledged.
    loaded: Cell<u64>,
    /// No row is begun any more.
    stop: Cell<bool>,
    /// The burst is due.
    burst: Cell<bool>,
    /// The load of the input has ended.
    done: Cell<bool>,
}

async fn play(stage: &Stage, input: &Input, repeat: bool) -> Result<Ending, Error> {
    let cast = Cast::start(stage).await?;
    let shared = Shared {
        book: RefCell::new(Book::create(&stage.ack_log())?),
        loaded: Cell::new(0),
        stop: Cell::new(false),
        burst: Cell::new(false),
        done: Cell::new(false),
    };
    let client = || {
        let coordinator = cast.coordinator.address.clone();
        Client::new(ClientOptions { coordinator, content: CONTENT, patience: PATIENCE })
    };
    let (loader, writer, burster) = (client()?, client()?, client()?);
    let address = cast.coordinator.address.clone();
    let (loaded, written, burst, ended) = tokio::try_join!(
        load(&loader, input, repeat, &shared),
        write(&writer, &shared),
        burst(&burster, &shared),
        act(stage, cast, input, repeat, &shared, &address),
    )?;
    let in_doubt = loaded.in_doubt + written.in_doubt + burst.in_doubt;
    for failed in [loaded, written, burst].into_iter().filter_map(|load| load.failed) {
        stage.say(format_args!("a writer gave up: {failed}"))?;
    }
    let book = shared.book.into_inner();
    let Acted { acked_before_kill, failover, cut, joined } = ended;
    Ok(Ending {
        acks: ack_log::read(&stage.ack_log())?,
        acked_before_kill,
        in_doubt,
        failover,
        cut,
        joined,
        commit_p50_micros: book.micros_at(0.5),
        commit_p99_micros: book.micros_at(0.99),
        peaks: stage.peaks(),
    })
}

/// The processes.
struct Cast {
    coordinator: Actor,
    primary: Actor,
    mirror: Actor,
}

impl Cast {
    async fn start(stage: &Stage) -> Result<Self, Error> {
        let coordinator = stage.start(COORDINATOR, "coordinator", "", true).await?;
        let config = instance_config(&coordinator);
        let primary = stage.start(FIRST, "instance", &config, true).await?;
        wait_for(&primary, "serves", |status| status.serving).await?;
        let mirror = stage.start(SECOND, "instance", &config, true).await?;
        in_sync(&coordinator.address).await?;
        stage.say(format_args!(
            "coordinator {}, primary {}, mirror {}: in sync",
            coordinator.address, primary.address, mirror.address
        ))?;
        Ok(Self { coordinator, primary, mirror })
    }
}

fn instance_config(coordinator: &Actor) -> String {
    format!("{INSTANCE}coordinator = \"{}\"\n", coordinator.address)
}

struct Acted {
    acked_before_kill: u64,
    failover: Duration,
    cut: Option<Cut>,
    joined: Option<Joined>,
}

/// The failure and what follows.
async fn act(
    stage: &Stage,
    cast: Cast,
    input: &Input,
    repeat: bool,
    shared: &Shared,
    coordinator: &str,
) -> Result<Acted, Error> {
    let Cast { coordinator: keeper, primary, mirror } = cast;
    let began = Instant::now();
    #[expect(clippy::cast_precision_loss, reason = "a share of the rows, about")]
    let due = |loaded: u64| {
        if repeat {
            began.elapsed() >= LOAD_TIME
        } else {
            loaded as f64 >= input.rows as f64 * KILL_SHARE
        }
    };
    stage.say(format_args!("loading rows, with a second writer beside"))?;
    while !due(shared.loaded.get()) && !shared.done.get() {
        sleep(LOOK_TIME).await;
    }
    let acked_before_kill = stop_and_kill(stage, primary, &mirror, shared).await?;
    let killed = Instant::now();
    promote(stage, coordinator).await?;
    let before = shared.book.borrow().epoch;
    while shared.book.borrow().epoch == before {
        patient(killed, "no row was committed after the promotion")?;
        sleep(LOOK_TIME / 10).await;
    }
    let failover = killed.elapsed();
    stage.say(format_args!(
        "the mirror serves: first commit {} ms after the kill",
        failover.as_millis()
    ))?;
    let goes_on = Instant::now();
    while goes_on.elapsed() < AFTER_TIME {
        sleep(LOOK_TIME).await;
    }
    let old = stage.start(FIRST, "instance", &instance_config(&keeper), false).await?;
    stage.say(format_args!("the old primary is started again, with its old directory"))?;
    in_sync(coordinator).await?;
    let status = wait_for(&mirror, "has it in sync", |status| status.joined.is_some()).await?;
    let joined = status.joined;
    let cut = wait_for(&old, "follows", |status| !status.serving).await?.cut;
    stage.say(format_args!("it is back in sync, by what it had missed"))?;
    if !repeat {
        while !shared.done.get() {
            sleep(LOOK_TIME).await;
        }
    }
    shared.stop.set(true);
    settle(shared, &old, &mirror).await?;
    mirror.stop().await?;
    old.stop().await?;
    keeper.stop().await?;
    stage.say(format_args!("all processes have ended in order"))?;
    Ok(Acted { acked_before_kill, failover, cut, joined })
}

/// Stops the mirror, lets the primary write what the mirror cannot take, and kills the primary.
async fn stop_and_kill(
    stage: &Stage,
    primary: Actor,
    mirror: &Actor,
    shared: &Shared,
) -> Result<u64, Error> {
    mirror.signal(Signal::STOP)?;
    shared.burst.set(true);
    let stopped = Instant::now();
    let line = connect(&primary).await?;
    // Longer than this, and the primary would go on without the mirror.
    while stopped.elapsed() < Duration::from_millis(900) {
        let status = ask_status(&line, &primary).await?;
        if status.durable.saturating_sub(status.commit) >= TAIL_BYTES {
            break;
        }
        sleep(LOOK_TIME / 10).await;
    }
    primary.kill().await?;
    let acked = shared.book.borrow().acked;
    mirror.signal(Signal::CONT)?;
    stage.say(format_args!(
        "the mirror was stopped for {} ms, then the primary was killed; {acked} rows are acknowledged",
        stopped.elapsed().as_millis()
    ))?;
    Ok(acked)
}

async fn promote(stage: &Stage, coordinator: &str) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let text = match operator::ask(coordinator, &Asked::Promote { content: CONTENT }, PATIENCE)
            .await?
        {
            Told::Promoted { epoch, .. } => {
                return stage.say(format_args!("the mirror is promoted: epoch {}", epoch.number));
            }
            Told::Denied { text } => text,
            _ => "the coordinator answered something else".to_owned(),
        };
        patient(began, &format!("the mirror cannot be promoted: {text}"))?;
        sleep(LOOK_TIME).await;
    }
}

/// Waits until nothing is on its way, and both copies have applied everything.
async fn settle(shared: &Shared, one: &Actor, other: &Actor) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let acked = shared.book.borrow().acked;
        let (a, b) = (status(one).await?, status(other).await?);
        let still =
            (a.applied, a.commit, a.end) == (b.applied, b.commit, b.end) && a.applied == a.end;
        if still && shared.done.get() && acked == shared.book.borrow().acked {
            return Ok(());
        }
        patient(began, "the two copies do not come to the same end")?;
        sleep(LOOK_TIME * 5).await;
    }
}

/// Waits until all copies are in sync.
async fn in_sync(coordinator: &str) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let text = match operator::ask(coordinator, &Asked::Recover { content: CONTENT }, PATIENCE)
            .await?
        {
            Told::Recovery { done: true, content, .. } if content.copies.len() > 1 => return Ok(()),
            Told::Recovery { text, .. } | Told::Denied { text } => text,
            _ => "the coordinator answered something else".to_owned(),
        };
        patient(began, &format!("the copies are not in sync: {text}"))?;
        sleep(LOOK_TIME).await;
    }
}

fn patient(since: Instant, what: &str) -> Result<(), Error> {
    if since.elapsed() < PATIENCE {
        return Ok(());
    }
    Err(Error::Partial(format!("{what}, for {} s; see the logs with --keep", PATIENCE.as_secs())))
}

async fn connect(actor: &Actor) -> Result<Line, Error> {
    let whom = Whom {
        address: actor.address.clone(),
        cluster: actor.cluster,
        content: CONTENT,
        instance: InstanceId::default(),
        role: Role::Client,
    };
    Line::open(&whom).await.map_err(|error| unreachable(actor, error.0))
}

async fn status(actor: &Actor) -> Result<Status, Error> {
    ask_status(&connect(actor).await?, actor).await
}

async fn ask_status(line: &Line, actor: &Actor) -> Result<Status, Error> {
    let asked = Request::Status.encode().map_err(|error| unreachable(actor, error.to_string()))?;
    let asking = async { line.ask(asked)?.answer().await };
    let body = tokio::time::timeout(PATIENCE, asking).await;
    let body = body.map_err(|_| unreachable(actor, "no answer".to_owned()))?;
    let body = body.map_err(|error| unreachable(actor, error.0))?;
    match Answer::decode(body) {
        Ok(Answer::Status(status)) => Ok(status),
        _ => Err(unreachable(actor, "it answered something else".to_owned())),
    }
}

fn unreachable(actor: &Actor, cause: String) -> Error {
    Error::Peer {
        address: actor.address.clone(),
        what: "a process of the demo cannot be asked",
        cause,
        advice: "see its log, with --keep",
    }
}

async fn wait_for(
    actor: &Actor,
    what: &str,
    holds: impl Fn(&Status) -> bool,
) -> Result<Status, Error> {
    let began = Instant::now();
    loop {
        let status = status(actor).await?;
        if holds(&status) {
            return Ok(status);
        }
        patient(began, &format!("{}: not so that it {what}", actor.address))?;
        sleep(LOOK_TIME).await;
    }
}

/// The input, once or over and over.
async fn load(
    client: &Client,
    input: &Input,
    repeat: bool,
    shared: &Shared,
) -> Result<Loaded, Error> {
    #[expect(clippy::cast_precision_loss, reason = "a rate, about")]
    let rate = if repeat { ROWS_PER_SECOND } else { (input.rows as f64 / INPUT_SECONDS).max(1.0) };
    let stop = || shared.stop.get();
    let on_ack = |ack: Ack, latency| {
        shared.loaded.set(shared.loaded.get() + 1);
        shared.book.borrow_mut().note(&ack, latency)
    };
    let rounds = if repeat { u64::MAX } else { 1 };
    let rows = (0..rounds).flat_map(|round| round_of(input, round));
    let loaded = run::run(client, rows, IN_FLIGHT, Pace::new(Some(rate)), stop, on_ack).await;
    shared.done.set(true);
    loaded
}

/// The input's rows, from the second round on under new keys.
fn round_of(input: &Input, round: u64) -> Box<dyn Iterator<Item = Result<Row, Error>> + '_> {
    match input.rows() {
        Err(error) => Box::new(std::iter::once(Err(error))),
        Ok(rows) if round == 0 => Box::new(rows),
        Ok(rows) => Box::new(rows.map(move |row| {
            let Row { key, value } = row?;
            let key = [&key, format!("#{round}").as_bytes()].concat().into();
            Ok(Row { key, value })
        })),
    }
}

/// A writer of its own, one row at a time.
async fn write(client: &Client, shared: &Shared) -> Result<Loaded, Error> {
    let stop = || shared.stop.get();
    let on_ack = |ack: Ack, latency| shared.book.borrow_mut().note(&ack, latency);
    let rows = (0_u64..).map(|number| {
        let value = format!("{{\"writer\":{number},\"key\":\"{}\"}}", number % 100);
        Ok(Row { key: format!("writer/{}", number % 100).into(), value: value.into() })
    });
    run::run(client, rows, 1, Pace::new(Some(WRITER_PER_SECOND)), stop, on_ack).await
}

/// Large rows at once, when they are due.
async fn burst(client: &Client, shared: &Shared) -> Result<Loaded, Error> {
    while !shared.burst.get() {
        sleep(LOOK_TIME / 10).await;
    }
    let stop = || shared.stop.get();
    let on_ack = |ack: Ack, latency| shared.book.borrow_mut().note(&ack, latency);
    let rows = (0..BURST_ROWS).map(|number| {
        let filler = char::from(b'a' + u8::try_from(number % 26).unwrap_or(0));
        let value: Bytes = filler.to_string().repeat(BURST_BYTES).into();
        Ok(Row { key: format!("burst/{number}").into(), value })
    });
    run::run(client, rows, usize::try_from(BURST_ROWS).unwrap_or(1), Pace::new(None), stop, on_ack)
        .await
}
