//! Contents with the shipped store, clients and coordinators that move rows between them, all stepped by the test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use outrigger_cluster::buckets::{Bucket, Buckets, MapVersion, Move, MoveState, bucket_of};
use outrigger_cluster::catalog::MoveStep;
use outrigger_cluster::mover::{Act, Ask, Mover, Reply};
use outrigger_replica::store::kv::{ClientId, Held, Hold, Op, Outcome, Token, Write};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{KeyRange, Rows, StateStore};
use outrigger_wal::format::{Record, RecordFlag};
use outrigger_wal::{ContentId, Lsn, Micros};

/// Rows of one page: small, so that there are many.
const PAGE: usize = 3;

/// What happens to a move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    CoordinatorChanges,
    SourceFailsOver,
    TargetFailsOver,
    AnswerIsLost,
    QuestionComesLate,
    All,
}

/// Who waits for what is in a log.
#[derive(Clone, Debug)]
enum Waits {
    Client { key: Bytes, sequence: u64, end: Lsn },
    Mover { asked: Asked, check: Check, reply: Reply },
    Nobody,
}

#[derive(Clone, Debug)]
enum Check {
    Told(Vec<Bucket>, Hold),
    Filled(Vec<Bytes>, Token),
    None,
}

/// A question on its way: of which mover, and which of its questions.
#[derive(Clone, Debug)]
struct Asked {
    mover: u64,
    number: u64,
    content: usize,
    ask: Ask,
}

struct Content {
    store: MemoryStore,
    end: Lsn,
    /// Appended, not applied.
    log: VecDeque<(Vec<Record>, Waits)>,
}

#[derive(Clone, Debug)]
enum Busy {
    /// A write is out, or waits to be sent.
    Sent,
    Settling {
        left: Vec<usize>,
        applied: bool,
    },
}

/// One client: the only one that writes its row.
struct Client {
    id: ClientId,
    sequence: u64,
    map: u64,
    value: Option<Bytes>,
    busy: Option<Busy>,
    /// What the row is by all that was acknowledged.
    acked: Option<Bytes>,
}

/// A write on the wire: it may come late, or never.
struct Wire {
    key: Bytes,
    sequence: u64,
    map: u64,
    value: Option<Bytes>,
    content: usize,
}

struct Zombie {
    mover: Mover,
    id: u64,
    map: Buckets,
    number: u64,
    waits: bool,
}

pub(crate) struct World {
    seed: u64,
    contents: Vec<Content>,
    map: Buckets,
    maps: Vec<Buckets>,
    mover: Mover,
    mover_id: u64,
    asks: u64,
    /// The question that is out.
    out: u64,
    waits: bool,
    zombies: Vec<Zombie>,
    questions: Vec<Asked>,
    clients: BTreeMap<Bytes, Client>,
    wires: Vec<Wire>,
    now: Micros,
    written: u64,
    pub(crate) ready: bool,
    pub(crate) moved: u64,
    pub(crate) committed: u64,
    pub(crate) settled: u64,
    pub(crate) moved_on: u64,
    pub(crate) troubles: u64,
}

fn behind(key: &[u8]) -> Bytes {
    [key, &b"\0"[..]].concat().into()
}

impl Content {
    fn append(&mut self, writes: &[Write], waits: impl FnOnce(Lsn) -> Waits) {
        let last = writes.len() - 1;
        let records = writes.iter().enumerate().map(|(at, write)| {
            let lsn = self.end;
            self.end = Lsn(lsn.0 + 10);
            let flag = if at == last { RecordFlag::Record } else { RecordFlag::BatchContinues };
            Record { lsn, end: self.end, flag, body: write.encode().unwrap() }
        });
        let records = records.collect();
        let waits = waits(self.end);
        self.log.push_back((records, waits));
    }

    fn held(&self, bucket: Bucket) -> Option<Held> {
        self.store.holdings().held(bucket.number())
    }
}

impl World {
    pub(crate) fn new(seed: u64, rows: usize) -> Self {
        let contents = (0..3).map(|_| Content {
            store: MemoryStore::default(),
            end: Lsn(100),
            log: VecDeque::new(),
        });
        let map = Buckets::even(&[ContentId(0), ContentId(1)]).unwrap();
        let mut world = Self {
            seed: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            contents: contents.collect(),
            maps: vec![map.clone()],
            map,
            mover: Mover::new(1, 0),
            mover_id: 1,
            asks: 0,
            out: 0,
            waits: false,
            zombies: Vec::new(),
            questions: Vec::new(),
            clients: BTreeMap::new(),
            wires: Vec::new(),
            now: Micros(1),
            written: 0,
            ready: true,
            moved: 0,
            committed: 0,
            settled: 0,
            moved_on: 0,
            troubles: 0,
        };
        for number in 0..rows {
            let key = Bytes::from(format!("row {number}"));
            let id = ClientId(number as u128 + 1);
            let client = Client { id, sequence: 0, map: 1, value: None, busy: None, acked: None };
            world.clients.insert(key.clone(), client);
            world.begin_write(&key, false);
            world.send(&key, false);
        }
        while let Some(wire) = world.wires.pop() {
            world.arrive(wire);
        }
        world.settle_contents();
        world
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        usize::try_from(self.seed >> 33).unwrap() % below.max(1)
    }

    /// Begins to move buckets of rows to other contents.
    pub(crate) fn begin_moves(&mut self, most: usize) {
        if !self.is_over() {
            return;
        }
        let keys: Vec<_> = self.clients.keys().cloned().collect();
        let mut seen = BTreeSet::new();
        let mut moves = Vec::new();
        for key in keys.into_iter().take(most) {
            let (bucket, from) = (bucket_of(&key), self.map.content_of(&key));
            if seen.insert(bucket) {
                let to = ContentId((from.0 + 1 + i32::try_from(self.random(2)).unwrap()) % 3);
                moves.push(Move { bucket, from, to });
            }
        }
        self.record(MoveStep::Begin, &moves, 1).unwrap();
    }

    fn record(&mut self, step: MoveStep, moves: &[Move], epoch: u64) -> Result<(), String> {
        let mut map = self.map.clone();
        map.raise(MapVersion(epoch << 32));
        match step {
            MoveStep::Begin => map.begin(moves),
            MoveStep::HandOver => map.hand_over(moves),
            MoveStep::Moved => map.moved(moves),
            MoveStep::End => map.end(moves),
        }
        .map_err(|error| error.to_string())?;
        assert!(map.version() > self.map.version());
        if step == MoveStep::Moved {
            self.moved += moves.len() as u64;
        }
        self.map = map.clone();
        self.maps.push(map);
        Ok(())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.map.moves().next().is_none()
    }

    pub(crate) fn pass(&mut self, micros: u64) {
        self.now = self.now.plus(micros);
    }

    pub(crate) fn mover_due(&self) -> Option<Micros> {
        self.mover.due()
    }

    pub(crate) fn next_act(&mut self) -> Option<Act> {
        let ready = self.ready;
        self.mover.next(self.now, &self.map, |_| ready)
    }

    /// The coordinator that reigns does its next step, and what it asked arrives.
    pub(crate) fn step_mover(&mut self) {
        self.begin_act();
        if let Some(at) = self.questions.iter().position(|asked| asked.mover == self.mover_id) {
            let asked = self.questions.swap_remove(at);
            self.carry_out(asked);
        }
    }

    fn begin_act(&mut self) {
        if self.waits {
            return;
        }
        self.pass(1_000_000);
        match self.next_act() {
            None => {}
            Some(Act::Ask(content, ask)) => {
                self.waits = true;
                self.asks += 1;
                self.out = self.asks;
                let content = usize::try_from(content.0).unwrap();
                let asked = Asked { mover: self.mover_id, number: self.asks, content, ask };
                self.questions.push(asked);
            }
            Some(Act::Record(step, moves)) => {
                let done = self.record(step, &moves, self.mover_id);
                self.mover.recorded(self.now, done);
            }
        }
    }

    /// A coordinator that was deposed and does not know it goes on: it records nothing.
    fn step_zombie(&mut self, at: usize) {
        let Some(zombie) = self.zombies.get_mut(at) else { return };
        if zombie.waits {
            return;
        }
        self.now = self.now.plus(1_000_000);
        match zombie.mover.next(self.now, &zombie.map, |_| true) {
            None => {}
            Some(Act::Ask(content, ask)) => {
                zombie.waits = true;
                self.asks += 1;
                zombie.number = self.asks;
                let content = usize::try_from(content.0).unwrap();
                self.questions.push(Asked { mover: zombie.id, number: self.asks, content, ask });
            }
            Some(Act::Record(..)) => zombie.mover.recorded(self.now, Err("deposed".to_owned())),
        }
    }

    fn reply(&mut self, asked: &Asked, reply: Reply) {
        if asked.mover == self.mover_id {
            if self.waits && asked.number == self.out {
                self.waits = false;
                self.mover.replied(self.now, reply);
            }
            return;
        }
        let now = self.now;
        let zombie = self.zombies.iter_mut().find(|zombie| zombie.id == asked.mover);
        if let Some(zombie) = zombie.filter(|zombie| zombie.waits && zombie.number == asked.number)
        {
            zombie.waits = false;
            zombie.mover.replied(now, reply);
        }
    }

    /// As an instance does: what is asked is appended, and answered once it is applied.
    fn carry_out(&mut self, asked: Asked) {
        let at = asked.content;
        let of = |buckets: &[Bucket], key: &[u8]| buckets.contains(&bucket_of(key));
        match asked.ask.clone() {
            Ask::Tell { buckets, hold } => {
                let tell = |bucket: &Bucket| Op::Hold { bucket: bucket.number(), hold };
                let writes: Vec<_> = buckets.iter().map(tell).map(Write::of_move).collect();
                let check = Check::Told(buckets, hold);
                self.contents[at].append(&writes, |_| Waits::Mover {
                    asked,
                    check,
                    reply: Reply::Done,
                });
            }
            Ask::Track { buckets, token } => {
                let content = &mut self.contents[at];
                content
                    .store
                    .holdings()
                    .track(token, buckets.iter().map(|at| at.number()).collect());
                let mark = Write::of_move(Op::Fill { token, key: Bytes::new(), value: None });
                content.append(&[mark], |_| Waits::Mover {
                    asked,
                    check: Check::None,
                    reply: Reply::Done,
                });
            }
            Ask::Look { buckets, from } => {
                self.apply_some(at);
                let rows = self.contents[at].store.scan(&from, PAGE).unwrap();
                let next = rows.last().map(|(key, _)| behind(key));
                let rows = rows.into_iter().filter(|(key, _)| of(&buckets, key)).collect();
                self.reply(&asked, Reply::Page { rows, next });
            }
            Ask::Changed { token } => {
                self.apply_some(at);
                let store = &self.contents[at].store;
                let reply = match store.holdings().take_changed(token, store.applied(), PAGE) {
                    Ok((keys, left)) => {
                        let row = |key: Bytes| {
                            let value = store.get(&key).unwrap();
                            (key, value)
                        };
                        let rows = keys.into_iter().map(row).collect();
                        Reply::Changed { rows, left: u32::try_from(left).unwrap() }
                    }
                    Err(error) => Reply::Failed { text: error.to_string() },
                };
                self.reply(&asked, reply);
            }
            Ask::Sweep { buckets, token, from } => {
                let rows = self.contents[at].store.scan(&from, PAGE).unwrap();
                let next = rows.last().map(|(key, _)| behind(key));
                let rows = rows.into_iter().filter(|(key, _)| of(&buckets, key));
                let rows = rows.map(|(key, _)| (key, None)).collect();
                self.fill(asked, token, rows, Reply::Swept { next });
            }
            Ask::Fill { token, rows } => self.fill(asked, token, rows, Reply::Done),
        }
    }

    fn fill(
        &mut self,
        asked: Asked,
        token: Token,
        rows: Vec<(Bytes, Option<Bytes>)>,
        reply: Reply,
    ) {
        let at = asked.content;
        let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
        let Some(last) = rows.len().checked_sub(1) else { return self.reply(&asked, reply) };
        for (number, (key, value)) in rows.into_iter().enumerate() {
            let write = Write::of_move(Op::Fill { token, key, value });
            let waits = if number == last {
                let check = Check::Filled(keys.clone(), token);
                Waits::Mover { asked: asked.clone(), check, reply: reply.clone() }
            } else {
                Waits::Nobody
            };
            self.contents[at].append(&[write], |_| waits);
        }
    }

    /// What is committed by then: others may be on their way.
    fn apply_some(&mut self, at: usize) {
        for _ in 0..self.random(3) {
            self.apply_one(at);
        }
    }

    fn apply_all(&mut self, at: usize) {
        while self.apply_one(at) {}
    }

    pub(crate) fn settle_contents(&mut self) {
        (0..self.contents.len()).for_each(|at| self.apply_all(at));
    }

    fn apply_one(&mut self, at: usize) -> bool {
        let Some((records, waits)) = self.contents[at].log.pop_front() else { return false };
        self.contents[at].store.apply(&records).unwrap();
        let content = &self.contents[at];
        match waits {
            Waits::Nobody => {}
            Waits::Mover { asked, check, reply } => {
                let is_so = match &check {
                    Check::None => true,
                    Check::Told(buckets, hold) => {
                        buckets.iter().all(|bucket| match (content.held(*bucket), hold) {
                            (
                                Some(Held::No { token: had, .. }),
                                Hold::GiveUp { token, .. } | Hold::Receive { token },
                            ) => had == *token,
                            (Some(Held::Since(_)), Hold::TakeUp { .. }) => true,
                            _ => false,
                        })
                    }
                    Check::Filled(keys, token) => {
                        keys.iter().all(|key| content.store.holdings().takes(key, *token))
                    }
                };
                let text = "it stands otherwise".to_owned();
                self.reply(&asked, if is_so { reply } else { Reply::Failed { text } });
            }
            Waits::Client { key, sequence, end } => {
                let client = &self.clients[&key];
                match content.store.outcome(client.id, sequence) {
                    Outcome::Applied { end: of } if of == end => self.told(&key, sequence, true),
                    Outcome::Unknown => self.send_on(&key, sequence),
                    _ => {}
                }
            }
        }
        true
    }

    /// Another copy is the primary: of what was not applied a part is lost, and nobody is answered.
    fn fail_over(&mut self, at: usize) {
        let kept = {
            let open = self.contents[at].log.len();
            self.random(open + 1)
        };
        let content = &mut self.contents[at];
        let lost = content.log.split_off(kept);
        for (records, _) in std::mem::take(&mut content.log) {
            content.store.apply(&records).unwrap();
        }
        drop(lost);
        // The other copy was rebuilt from an export at some time.
        let copy = MemoryStore::default();
        let mut pairs = content.store.snapshot(&KeyRange::all()).unwrap();
        copy.restore(content.store.applied(), &mut pairs).unwrap();
        content.store = copy;
        content.end = Lsn(content.end.0 + 1_000);
    }

    pub(crate) fn trouble(&mut self, trouble: Trouble) {
        self.troubles += 1;
        let sides = self.map.moves().next().map(|(one, _)| one);
        let number = |content: ContentId| usize::try_from(content.0).unwrap();
        match trouble {
            Trouble::CoordinatorChanges => {
                let id = self.mover_id + 1;
                let mover = std::mem::replace(&mut self.mover, Mover::new(id, 0));
                let (map, number, waits) = (self.map.clone(), self.out, self.waits);
                let old = Zombie { mover, id: self.mover_id, map, number, waits };
                self.zombies.push(old);
                self.mover_id = id;
                self.waits = false;
            }
            Trouble::SourceFailsOver => {
                if let Some(one) = sides {
                    self.fail_over(number(one.from));
                }
                self.lose_answer();
            }
            Trouble::TargetFailsOver => {
                if let Some(one) = sides {
                    self.fail_over(number(one.to));
                }
                self.lose_answer();
            }
            Trouble::AnswerIsLost => {
                if let Some(at) = self.questions.iter().position(|one| one.mover == self.mover_id) {
                    let asked = self.questions.swap_remove(at);
                    self.lose_answer();
                    self.carry_out(asked);
                } else {
                    self.lose_answer();
                }
            }
            Trouble::QuestionComesLate => {
                self.begin_act();
                self.lose_answer();
            }
            Trouble::All => {
                for each in [
                    Trouble::QuestionComesLate,
                    Trouble::CoordinatorChanges,
                    Trouble::SourceFailsOver,
                    Trouble::TargetFailsOver,
                    Trouble::AnswerIsLost,
                ] {
                    self.trouble(each);
                }
            }
        }
    }

    fn lose_answer(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.out = 0;
            self.mover.replied(self.now, Reply::Failed { text: "no answer".to_owned() });
        }
    }

    // Clients.

    fn begin_write(&mut self, key: &Bytes, delete: bool) {
        self.written += 1;
        let value = (!delete).then(|| Bytes::from(format!("value {}", self.written)));
        let map = self.map.version().0;
        let client = self.clients.get_mut(key).unwrap();
        assert!(client.busy.is_none());
        client.sequence += 1;
        (client.value, client.map, client.busy) = (value, map, Some(Busy::Sent));
    }

    /// By a router, which may have an old map: what it sends is on the wire.
    fn send(&mut self, key: &Bytes, stale: bool) {
        let at = if stale { self.random(self.maps.len()) } else { self.maps.len() - 1 };
        let Client { sequence, map, ref value, .. } = self.clients[key];
        let (known, value) = (&self.maps[at], value.clone());
        let holder = known.holder(bucket_of(key));
        let moving = holder.moving.map(|(_, state)| state);
        if known.version().0 < map {
            return;
        }
        if holder.since.0 > map {
            return self.send_on(key, sequence);
        }
        if moving == Some(MoveState::HandingOver) {
            return;
        }
        let content = usize::try_from(holder.owner.0).unwrap();
        self.wires.push(Wire { key: key.clone(), sequence, map, value, content });
    }

    /// Nothing was done: it goes again under the same name, by the newest map.
    fn send_on(&mut self, key: &Bytes, sequence: u64) {
        let map = self.map.version().0;
        let client = self.clients.get_mut(key).unwrap();
        if client.sequence != sequence || !matches!(client.busy, Some(Busy::Sent)) {
            return;
        }
        self.moved_on += 1;
        client.map = map;
        self.send(key, false);
    }

    fn arrive(&mut self, wire: Wire) {
        let Wire { key, sequence, map, value, content } = wire;
        let id = self.clients[&key].id;
        let may =
            self.contents[content].store.holdings().may_write([&key].into_iter(), map).is_some();
        if !may {
            return self.send_on(&key, sequence);
        }
        let op = match value {
            Some(value) => Op::Put { key: key.clone(), value },
            None => Op::Delete { key: key.clone() },
        };
        let write = Write { client: id, sequence, op };
        self.contents[content].append(&[write], |end| Waits::Client { key, sequence, end });
    }

    fn told(&mut self, key: &Bytes, sequence: u64, committed: bool) {
        let client = self.clients.get_mut(key).unwrap();
        if client.sequence != sequence || client.busy.is_none() {
            return;
        }
        if committed {
            client.acked.clone_from(&client.value);
            self.committed += 1;
        }
        client.busy = None;
    }

    /// A client heard nothing for too long: whoever may have got its write is asked to settle it.
    fn settle(&mut self, key: &Bytes) {
        let holder = self.map.holder(bucket_of(key));
        let all = std::iter::once(holder.owner).chain(holder.past.iter().copied());
        let left = all.map(|at| usize::try_from(at.0).unwrap()).collect();
        let client = self.clients.get_mut(key).unwrap();
        if let Some(busy) = client.busy.as_mut().filter(|busy| matches!(busy, Busy::Sent)) {
            *busy = Busy::Settling { left, applied: false };
        }
    }

    fn settle_on(&mut self, key: &Bytes) {
        let client = self.clients.get_mut(key).unwrap();
        let (id, sequence) = (client.id, client.sequence);
        let Some(Busy::Settling { left, applied }) = &mut client.busy else { return };
        let Some(at) = left.pop() else {
            let committed = *applied;
            self.settled += 1;
            return self.told(key, sequence, committed);
        };
        let settle = Write { client: id, sequence, op: Op::Settle };
        self.contents[at].append(&[settle], |_| Waits::Nobody);
        self.apply_all(at);
        match self.contents[at].store.outcome(id, sequence) {
            Outcome::Applied { .. } => {
                if let Some(Busy::Settling { applied, .. }) =
                    &mut self.clients.get_mut(key).unwrap().busy
                {
                    *applied = true;
                }
            }
            Outcome::Refused { .. } => {}
            other => panic!("settled, and {other:?}"),
        }
    }

    /// Everything at once, in any order.
    pub(crate) fn race(&mut self, steps: usize) {
        let keys: Vec<_> = self.clients.keys().cloned().collect();
        for _ in 0..steps {
            let key = keys[self.random(keys.len())].clone();
            match self.random(100) {
                0..25 => self.begin_act(),
                25..40 => {
                    let at = self.random(self.questions.len());
                    if at < self.questions.len() {
                        let asked = self.questions.swap_remove(at);
                        self.carry_out(asked);
                    }
                }
                40..60 => {
                    let at = self.random(self.contents.len());
                    self.apply_one(at);
                }
                60..75 => match self.clients[&key].busy.clone() {
                    None => {
                        let delete = self.random(4) == 0;
                        self.begin_write(&key, delete);
                        let stale = self.random(4) == 0;
                        self.send(&key, stale);
                    }
                    Some(Busy::Sent) if self.random(6) == 0 => self.settle(&key),
                    Some(Busy::Sent) => {}
                    Some(Busy::Settling { .. }) => self.settle_on(&key),
                },
                75..93 => {
                    let at = self.random(self.wires.len());
                    if at < self.wires.len() {
                        let wire = self.wires.swap_remove(at);
                        self.arrive(wire);
                    }
                }
                93..97 => {
                    let at = self.random(self.zombies.len());
                    self.step_zombie(at);
                }
                _ if self.random(4) == 0 => {
                    let trouble = [
                        Trouble::CoordinatorChanges,
                        Trouble::SourceFailsOver,
                        Trouble::TargetFailsOver,
                        Trouble::AnswerIsLost,
                        Trouble::QuestionComesLate,
                    ][self.random(5)];
                    self.trouble(trouble);
                }
                _ => {}
            }
        }
    }

    /// Whatever is under way comes to its end, late messages included.
    pub(crate) fn run_to_the_end(&mut self, steps: usize) {
        for step in 0..steps {
            if step % 3 == 0 && !self.questions.is_empty() {
                // A late one of an earlier try.
                let at = self.random(self.questions.len());
                let asked = self.questions.swap_remove(at);
                self.carry_out(asked);
            }
            self.step_mover();
            self.settle_contents();
            if self.is_over() {
                break;
            }
        }
        assert!(self.is_over(), "it does not come to its end: {}", self.mover.why());
        let keys: Vec<_> = self.clients.keys().cloned().collect();
        for key in &keys {
            self.settle(key);
            while self.clients[key].busy.is_some() {
                self.settle_on(key);
            }
        }
        while let Some(asked) = self.questions.pop() {
            self.carry_out(asked);
        }
        while let Some(wire) = self.wires.pop() {
            self.arrive(wire);
        }
        self.settle_contents();
    }

    /// Each row is what was acknowledged last, at its owner and nowhere else.
    pub(crate) fn check(&self) {
        let mut count = 0;
        for (key, client) in &self.clients {
            let owner = usize::try_from(self.map.content_of(key).0).unwrap();
            for (at, content) in self.contents.iter().enumerate() {
                let found = content.store.get(key).unwrap();
                count += usize::from(found.is_some());
                let wanted = if at == owner { client.acked.clone() } else { None };
                assert_eq!(found, wanted, "{key:?} on content {at}, owner {owner}");
                if at != owner {
                    continue;
                }
                let held = content.held(bucket_of(key));
                assert!(!matches!(held, Some(Held::No { .. })), "its owner holds it: {held:?}");
            }
        }
        let there = self.clients.values().filter(|client| client.acked.is_some()).count();
        assert_eq!(count, there);
    }
}
