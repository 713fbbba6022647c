//! What a council does: starts, activations, changes, refusals; the interleavings that the model check of
//! the rules found before they were built; candidates that duel; force.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use outrigger_cluster::register::Proposer;
use outrigger_cluster::voters::{
    Ask, Council, CouncilOptions, Event, In, Out, Question, Say, Seat, Voter, VoterList,
};
use outrigger_net::config::{Config, Version};
use outrigger_replica::rules::Rules;
use outrigger_wal::{Epoch, InstanceId, Micros};
use support::{A, B, C, CLUSTER, epoch, next, pair};

/// One candidate, and what it asked that was not delivered.
struct Candidate {
    me: InstanceId,
    council: Council,
    asks: Vec<Ask>,
    out: Vec<Out>,
}

/// Voters and two candidates, A and B; the test delivers.
struct Hall {
    voters: Vec<Voter>,
    now: Micros,
    seeds: u128,
}

impl Hall {
    fn new(voters: usize) -> Self {
        let list = list(voters);
        let voter = |seat| Voter::create(CLUSTER, list.clone(), seat, pair()).unwrap();
        Self { voters: list.seats().map(voter).collect(), now: Micros(0), seeds: 0 }
    }

    fn candidate(&mut self, me: InstanceId) -> Candidate {
        self.seeds += 1;
        let list = list(self.voters.len());
        let options = CouncilOptions::default();
        let seed = self.seeds << 70;
        let council = Council::new(CLUSTER, me, &list, options, Rules::all(), seed, self.now);
        Candidate { me, council, asks: Vec::new(), out: Vec::new() }
    }

    fn step(&self, who: &mut Candidate, event: In) {
        let mut out = Vec::new();
        who.council.step(self.now, event, &mut out);
        for out in out {
            match out {
                Out::Ask(ask) => who.asks.push(ask),
                out => who.out.push(out),
            }
        }
    }

    fn pass(&mut self, who: &mut Candidate, millis: u64) {
        self.now = self.now.plus(millis * 1000);
        self.step(who, In::Tick);
    }

    fn vote(&mut self, ask: &Ask) -> Say {
        let voter = &mut self.voters[usize::from(ask.seat.0)];
        let (next, say) = voter.step(ask, Rules::all());
        *voter = next.unwrap_or_else(|| voter.clone());
        say
    }

    /// Delivers what was asked of these voters, and what that leads to; the rest is lost.
    fn deliver(&mut self, who: &mut Candidate, seats: &[u8]) {
        while !who.asks.is_empty() {
            self.round(who, seats);
        }
    }

    /// Delivers what was asked of these voters once.
    fn round(&mut self, who: &mut Candidate, seats: &[u8]) {
        for ask in std::mem::take(&mut who.asks) {
            if seats.contains(&ask.seat.0) {
                let say = self.vote(&ask);
                self.step(who, In::Say(say));
            }
        }
    }

    /// The process starts: its member reads, elects if it is the primary, and is told.
    fn start(&mut self, who: &mut Candidate, nonce: u128, seats: &[u8]) -> Option<Config> {
        self.step(who, In::Read);
        self.deliver(who, seats);
        let told = who.recorded()?;
        if told.primary != who.me {
            return Some(told);
        }
        let epoch = Epoch { number: told.epoch.number + 1, nonce };
        let new = next(&told, |new| new.epoch = epoch);
        self.swap(who, &told, &new);
        self.deliver(who, seats);
        who.recorded()
    }

    fn swap(&self, who: &mut Candidate, seen: &Config, new: &Config) {
        let (seen, new, by) = (seen.version, new.clone(), Proposer::Instance(who.me));
        self.step(who, In::Swap { seen, new, by });
    }
}

impl Candidate {
    /// What its member was told last.
    fn recorded(&self) -> Option<Config> {
        self.out.iter().rev().find_map(|out| match out {
            Out::Recorded { config } => Some(config.clone()),
            _ => None,
        })
    }

    fn denied(&self) -> Option<&str> {
        self.out.iter().rev().find_map(|out| match out {
            Out::Denied { text, .. } => Some(text.as_str()),
            _ => None,
        })
    }

    fn activated(&self) -> Option<(Config, &str)> {
        self.out.iter().rev().find_map(|out| match out {
            Out::Activated { config, text, .. } => Some((config.clone(), text.as_str())),
            _ => None,
        })
    }

    fn deposed_by(&self) -> Option<InstanceId> {
        self.out.iter().rev().find_map(|out| match out {
            Out::Event(Event::Deposed { primary, .. }) => Some(*primary),
            _ => None,
        })
    }

    fn acts(&self) -> bool {
        self.council.recorded().is_some()
    }
}

fn list(voters: usize) -> VoterList {
    VoterList { version: 3, addresses: vec![Vec::new(); voters] }
}

fn without(config: &Config, gone: InstanceId) -> Config {
    next(config, |new| {
        new.copies.iter_mut().filter(|copy| copy.instance == gone).for_each(|copy| {
            copy.in_sync = false;
        });
    })
}

const ALL: [u8; 3] = [0, 1, 2];
const ACTIVATE: In = In::Activate { op: 1, force: false };
const FORCE: In = In::Activate { op: 1, force: true };

#[test]
fn a_start_takes_a_new_epoch_and_the_next_version_with_the_members_nonce() {
    let mut hall = Hall::new(3);
    let mut a = hall.candidate(A);
    let config = hall.start(&mut a, 42, &[0, 1]).unwrap();
    assert_eq!((config.epoch, config.version), (Epoch { number: 2, nonce: 42 }, Version(6)));
    assert!(a.acts());
    hall.pass(&mut a, 200);
    hall.deliver(&mut a, &ALL);
    assert_eq!(hall.voters[2].accepted(), &config, "a voter that comes back is told");
}

#[test]
fn a_minority_starts_nothing_and_says_who_is_missing() {
    let mut hall = Hall::new(3);
    let mut a = hall.candidate(A);
    assert_eq!(hall.start(&mut a, 42, &[1]), None);
    hall.pass(&mut a, 3000);
    let missing = vec![Seat(0), Seat(2)];
    let event = Event::NoMajority { answered: 1, voters: 3, missing };
    assert!(a.out.contains(&Out::Event(event)));
    assert!(hall.start(&mut a, 43, &ALL).is_some(), "it goes on asking");
}

#[test]
fn changes_come_one_after_the_other_and_a_retry_repeats_numbers_and_value() {
    let mut hall = Hall::new(3);
    let mut a = hall.candidate(A);
    let config = hall.start(&mut a, 42, &ALL).unwrap();
    let alone = without(&config, B);
    hall.swap(&mut a, &config, &alone);
    let first = a.asks.clone();
    hall.round(&mut a, &[0]);
    let other = next(&config, |_| {});
    hall.swap(&mut a, &config, &other);
    assert!(a.asks.is_empty(), "the next one waits until a majority has accepted the last");
    hall.pass(&mut a, 200);
    assert_eq!(a.asks, first[1..], "the same op, numbers and value, to who has not answered");
    hall.deliver(&mut a, &[1]);
    assert_eq!(a.recorded(), Some(alone.clone()));
    hall.swap(&mut a, &config, &other);
    assert_eq!(a.recorded(), Some(alone), "who saw the version before is told the current one");
}

#[test]
fn answers_that_are_doubled_late_or_of_strangers_count_for_nothing() {
    let mut hall = Hall::new(3);
    let mut a = hall.candidate(A);
    let config = hall.start(&mut a, 42, &ALL).unwrap();
    hall.swap(&mut a, &config, &without(&config, B));
    let ask = a.asks[0].clone();
    let say = hall.vote(&ask);
    let told = a.out.len();
    for _ in 0..5 {
        hall.step(&mut a, In::Say(say.clone()));
    }
    let stranger = Say { seat: Seat(9), ..say.clone() };
    let other_op = Say { seat: Seat(1), op: say.op - 1, ..say.clone() };
    let cluster = outrigger_wal::ClusterId(1);
    let other_cluster = Say { seat: Seat(1), cluster, ..say };
    for say in [stranger, other_op, other_cluster] {
        hall.step(&mut a, In::Say(say));
    }
    assert_eq!(a.out.len(), told, "one voter is no majority, however often it answers");
    hall.deliver(&mut a, &[1]);
    assert!(!a.recorded().unwrap().in_sync(B));
}

#[test]
fn a_standby_in_sync_is_activated_and_the_old_coordinator_is_told_by_the_voters() {
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    hall.start(&mut a, 42, &ALL);
    hall.step(&mut b, ACTIVATE);
    hall.deliver(&mut b, &[1, 2]);
    let (config, _) = b.activated().unwrap();
    assert_eq!((config.primary, config.epoch.number, config.version), (B, 3, Version(7)));
    assert!(config.in_sync(A), "the set does not change with the epoch");
    // The old one learns of it when it looks, and takes no new epoch.
    hall.pass(&mut a, 1000);
    hall.deliver(&mut a, &ALL);
    hall.pass(&mut a, 200);
    hall.deliver(&mut a, &ALL);
    assert_eq!((a.deposed_by(), a.acts()), (Some(B), false));
    assert_eq!(a.recorded(), Some(config.clone()));
    // And so does its next process.
    let mut again = hall.candidate(A);
    assert_eq!(hall.start(&mut again, 43, &ALL), Some(config));
    assert!(!again.acts());
}

#[test]
fn a_refused_activation_changes_nothing() {
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    let config = hall.start(&mut a, 42, &ALL).unwrap();
    hall.swap(&mut a, &config, &without(&config, B));
    hall.deliver(&mut a, &ALL);
    let before = hall.voters.clone();
    hall.step(&mut b, ACTIVATE);
    hall.deliver(&mut b, &ALL);
    assert!(b.denied().unwrap().contains("not in sync"));
    assert_eq!(hall.voters, before);
    assert!(a.acts());
}

#[test]
fn who_is_no_copy_is_told_so_with_what_to_do() {
    let mut hall = Hall::new(3);
    let mut c = hall.candidate(C);
    for event in [ACTIVATE, FORCE] {
        hall.step(&mut c, event);
        hall.deliver(&mut c, &ALL);
        assert!(c.denied().unwrap().contains("init-standby"));
        c.out.clear();
    }
    hall.step(&mut c, In::Read);
    hall.deliver(&mut c, &ALL);
    assert!(c.out.iter().any(|out| matches!(out, Out::Event(Event::NotACopy { .. }))));
}

#[test]
fn who_meets_a_higher_number_takes_a_new_epoch_while_it_is_the_primary() {
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    let config = hall.start(&mut a, 42, &ALL).unwrap();
    // An activation that dies after its promises.
    hall.step(&mut b, ACTIVATE);
    hall.round(&mut b, &ALL);
    hall.round(&mut b, &ALL);
    hall.swap(&mut a, &config, &without(&config, B));
    hall.deliver(&mut a, &ALL);
    assert!(!a.acts(), "refused by those who promised");
    hall.pass(&mut a, 200);
    hall.deliver(&mut a, &ALL);
    let config = a.recorded().unwrap();
    assert_eq!((config.primary, config.epoch.number), (A, 4), "above the promise");
    assert!(config.in_sync(B), "the change was not accepted by anybody");
}

#[test]
fn two_candidates_that_duel_end_with_one_coordinator() {
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    hall.start(&mut a, 42, &ALL);
    hall.step(&mut b, ACTIVATE);
    let config = a.recorded().unwrap();
    for turn in 0..40 {
        hall.swap(&mut a, &config, &without(&config, B));
        hall.round(&mut a, &ALL);
        hall.round(&mut b, &ALL);
        hall.pass(&mut a, 30 + turn);
        hall.pass(&mut b, 60);
        assert!(
            !(a.acts() && b.acts())
                || a.council.recorded().unwrap().epoch != b.council.recorded().unwrap().epoch
        );
    }
    for _ in 0..5 {
        hall.deliver(&mut a, &ALL);
        hall.deliver(&mut b, &ALL);
        hall.pass(&mut a, 1000);
        hall.pass(&mut b, 1000);
    }
    assert!(a.acts() != b.acts(), "one of them");
}

#[test]
fn a_value_that_only_one_voter_holds_is_accepted_again_before_its_coordinator_acts() {
    // Counterexample 1: A asks for {A}, one voter accepts, A crashes. A starts with two voters, finds {A} and commits
    // alone; B activates with the other two, finds {A,B}, and lacks the commit.
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    let config = hall.start(&mut a, 42, &ALL).unwrap();
    hall.swap(&mut a, &config, &without(&config, B));
    hall.round(&mut a, &[0]);
    let mut a = hall.candidate(A);
    hall.step(&mut a, In::Read);
    for _ in 0..2 {
        // It reads, and has promises; what it has accepted again is lost.
        hall.round(&mut a, &ALL);
    }
    hall.pass(&mut a, 0);
    assert!(!a.acts(), "not before a majority has accepted it again");
    let told = a.recorded();
    assert!(told.is_none_or(|told| told.in_sync(B)), "nobody commits alone");
    hall.step(&mut b, ACTIVATE);
    hall.deliver(&mut b, &[1, 2]);
    assert!(b.acts() && b.recorded().unwrap().in_sync(A));
    hall.deliver(&mut a, &ALL);
    assert!(!a.acts(), "its epoch is over");
}

#[test]
fn a_start_is_checked_like_an_activation() {
    // Counterexample 2: B activates and shrinks to {B}; A, which had looked before, starts with a majority.
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    hall.step(&mut a, In::Read);
    hall.deliver(&mut a, &ALL);
    let told = a.recorded().unwrap();
    hall.swap(&mut a, &told, &next(&told, |new| new.epoch = epoch(2)));
    let late = std::mem::take(&mut a.asks);
    hall.step(&mut b, ACTIVATE);
    hall.deliver(&mut b, &[1, 2]);
    let config = b.recorded().unwrap();
    hall.swap(&mut b, &config, &without(&config, A));
    hall.deliver(&mut b, &[1, 2]);
    a.asks = late;
    hall.deliver(&mut a, &[0, 1]);
    assert!(!a.acts());
    assert_eq!(a.deposed_by(), Some(B));
}

#[test]
fn a_version_is_never_used_for_two_values() {
    // Counterexample 3: version 6 = {A,B} is accepted by one voter, then version 6 = {A} by another; B activates on
    // the first, the third completes the second.
    let mut hall = Hall::new(3);
    let mut a = hall.candidate(A);
    let config = hall.start(&mut a, 42, &ALL).unwrap();
    hall.swap(&mut a, &config, &without(&config, B));
    hall.deliver(&mut a, &ALL);
    let alone = a.recorded().unwrap();
    let grown = next(&alone, |new| new.copies[1].in_sync = true);
    hall.swap(&mut a, &alone, &grown);
    hall.round(&mut a, &[0]);
    // It gives up, with the same version: not before the first is settled.
    let given_up = next(&alone, |_| {});
    hall.swap(&mut a, &alone, &given_up);
    assert!(a.asks.is_empty());
    // And a voter that is asked for both holds to the first.
    let accept = |config: &Config, seat| Ask {
        cluster: CLUSTER,
        list: 3,
        seat: Seat(seat),
        from: A,
        op: 0,
        question: Question::Accept { config: config.clone() },
    };
    let before = hall.voters[0].clone();
    hall.vote(&accept(&given_up, 0));
    assert_eq!(hall.voters[0], before);
    hall.pass(&mut a, 200);
    hall.deliver(&mut a, &[1]);
    let recorded = a.recorded().unwrap();
    assert!(recorded.version == grown.version && recorded.in_sync(B));
}

#[test]
fn activation_without_a_majority_needs_force_and_says_what_is_not_proved() {
    let mut hall = Hall::new(3);
    let mut b = hall.candidate(B);
    hall.step(&mut b, ACTIVATE);
    hall.deliver(&mut b, &[2]);
    hall.pass(&mut b, 3000);
    assert!(b.denied().unwrap().contains("1 of 3 voters answered, not 0, 1"));
    assert_eq!(hall.voters[2].promised(), epoch(1), "nothing was promised");
    b.asks.clear();
    hall.step(&mut b, FORCE);
    hall.round(&mut b, &[2]);
    for _ in 0..3 {
        for seat in [0, 1] {
            hall.step(&mut b, In::Unreachable(Seat(seat)));
        }
        hall.round(&mut b, &[2]);
    }
    let (config, text) = b.activated().unwrap();
    assert!(text.contains("1 of 3 voters promised") && text.contains("not proved"));
    assert_eq!(config.loss.map(|loss| (loss.instance, loss.epoch)), Some((B, config.epoch.number)));
    assert!(b.out.contains(&Out::Recorded { config: config.clone() }));
    assert!(config.epoch.number > 1000 && config.version.0 > 1000, "above what was not heard");
    // The others come back, and hold it too: from now on a majority counts again.
    hall.pass(&mut b, 200);
    hall.deliver(&mut b, &ALL);
    assert!(b.out.contains(&Out::Event(Event::Healed)));
    // That a majority holds it now proves nothing of what the catalog lacks: the value tells it to whoever comes next,
    // through changes, a start and an activation that take no force.
    let forced = config.loss;
    let mut again = hall.candidate(B);
    let started = hall.start(&mut again, 43, &ALL).unwrap();
    assert!(started.epoch.number > config.epoch.number && started.loss == forced, "{started:?}");
    let mut a = hall.candidate(A);
    hall.step(&mut a, ACTIVATE);
    hall.deliver(&mut a, &ALL);
    let (activated, _) = a.activated().unwrap();
    assert!(activated.primary == A && activated.loss == forced, "{activated:?}");
    hall.swap(&mut a, &activated, &without(&activated, B));
    hall.deliver(&mut a, &ALL);
    let changed = a.recorded().unwrap();
    assert!(!changed.in_sync(B) && changed.loss == forced, "{changed:?}");
}

#[test]
fn an_activation_that_proves_everything_says_nothing_of_a_loss_even_if_it_was_told_to_force() {
    let mut hall = Hall::new(3);
    let mut b = hall.candidate(B);
    hall.step(&mut b, FORCE);
    hall.deliver(&mut b, &ALL);
    let (config, _) = b.activated().unwrap();
    assert_eq!(config.loss, None, "it was in sync, and everybody promised");
}

#[test]
fn who_was_forced_and_is_deposed_does_not_force_its_way_back() {
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    hall.step(&mut b, FORCE);
    for _ in 0..4 {
        for seat in [0, 1] {
            hall.step(&mut b, In::Unreachable(Seat(seat)));
        }
        hall.round(&mut b, &[2]);
    }
    assert!(b.acts());
    // All voters are there again, and A is activated properly.
    hall.step(&mut a, ACTIVATE);
    hall.deliver(&mut a, &ALL);
    hall.pass(&mut a, 200);
    hall.deliver(&mut a, &ALL);
    assert!(a.acts());
    b.asks.clear();
    for _ in 0..4 {
        hall.pass(&mut b, 1000);
        hall.deliver(&mut b, &ALL);
    }
    assert!(!b.acts() && a.acts());
    assert_eq!(b.deposed_by(), Some(A));
}

#[test]
fn nothing_is_forced_without_any_voter() {
    let mut hall = Hall::new(3);
    let mut b = hall.candidate(B);
    hall.step(&mut b, FORCE);
    for seat in ALL {
        hall.step(&mut b, In::Unreachable(Seat(seat)));
    }
    hall.pass(&mut b, 3000);
    assert!(b.denied().unwrap().contains("without any voter"));
    assert!(!b.acts());
}

#[test]
fn with_fewer_than_three_voters_activation_needs_force_and_changes_go_on_after_it() {
    let mut hall = Hall::new(2);
    let mut b = hall.candidate(B);
    hall.step(&mut b, ACTIVATE);
    assert!(b.denied().unwrap().contains("--force"));
    assert!(b.asks.is_empty());
    hall.step(&mut b, FORCE);
    for _ in 0..4 {
        hall.step(&mut b, In::Unreachable(Seat(0)));
        hall.round(&mut b, &[1]);
    }
    let (config, _) = b.activated().unwrap();
    hall.swap(&mut b, &config, &without(&config, A));
    hall.deliver(&mut b, &[1]);
    assert!(!b.recorded().unwrap().in_sync(A), "it serves alone");
}

#[test]
fn force_activates_a_standby_that_was_not_in_sync_and_says_so() {
    let mut hall = Hall::new(3);
    let (mut a, mut b) = (hall.candidate(A), hall.candidate(B));
    let config = hall.start(&mut a, 42, &ALL).unwrap();
    hall.swap(&mut a, &config, &without(&config, B));
    hall.deliver(&mut a, &ALL);
    hall.step(&mut b, FORCE);
    hall.deliver(&mut b, &ALL);
    let (config, text) = b.activated().unwrap();
    assert!(text.contains("holds every committed change"));
    assert!(config.in_sync(B) && config.primary == B);
    assert_eq!(config.loss.map(|loss| (loss.instance, loss.epoch)), Some((B, config.epoch.number)));
}

#[test]
fn one_voter_is_its_own_majority_and_two_need_both() {
    for (voters, seats, starts) in [(1, vec![0], true), (2, vec![1], false), (2, vec![0, 1], true)]
    {
        let mut hall = Hall::new(voters);
        let mut a = hall.candidate(A);
        assert_eq!(hall.start(&mut a, 42, &seats).is_some(), starts, "{voters} voters");
    }
}
