//! S8, checked by a model checker on the shipped functions: three voters, a coordinator, a standby;
//! crashes; messages lost, doubled and late. What is abstract is said in `world.rs`.
//!
//! `cargo test --release -p outrigger-cluster --features seeded-bugs --test voters_model -- --nocapture`
//! explores a million states and more, and prints how many; a debug build explores fewer.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests")]
#![expect(clippy::indexing_slicing, reason = "tests")]

mod world;

use outrigger_cluster::voters::Question;
use outrigger_replica::rules::Rules;
use stateright::{Checker, Model, Property};
use world::{NODES, World};

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    epochs: u64,
    proposals: u8,
    crashes: u8,
    activations: u8,
    writes: u8,
}

struct Catalog {
    rules: Rules,
    bounds: Bounds,
    /// Where it begins.
    begin: fn(Rules) -> World,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// A voter is asked, and its answer heard at once.
    Exchange(usize),
    /// A voter is asked; its answer is on its way, or lost.
    Ask(usize),
    Say(usize),
    Tick(usize),
    Read(usize),
    Crash(usize),
    Restart(usize),
    Activate(usize),
    Write(usize),
    Replicate(usize),
    Commit(usize),
    Propose(usize, bool),
}

impl Model for Catalog {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![(self.begin)(self.rules)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let bounds = self.bounds;
        steps.extend((0..world.says.len()).map(Step::Say));
        for at in (0..world.asks.len()).filter(|at| world.matters(*at, self.rules)) {
            steps.push(Step::Exchange(at));
            if world.asks[at].body.question != Question::Read {
                steps.push(Step::Ask(at));
            }
        }
        for at in 0..2 {
            let acts = world.nodes[at].acting().is_some();
            if !world.is_up(at) {
                steps.push(Step::Restart(at));
                continue;
            }
            steps.push(Step::Tick(at));
            if world.crashes < bounds.crashes {
                steps.push(Step::Crash(at));
            }
            if world.proposals < bounds.proposals {
                steps.push(Step::Read(at));
            }
            if at == 1 && !acts && world.activations < bounds.activations {
                steps.push(Step::Activate(at));
            }
            if acts {
                if world.written < bounds.writes {
                    steps.push(Step::Write(at));
                }
                steps.push(Step::Replicate(at));
                steps.push(Step::Commit(at));
                if world.proposals < bounds.proposals {
                    steps.extend([Step::Propose(at, false), Step::Propose(at, true)]);
                }
            }
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        let sense = match step {
            Step::Ask(at) => {
                world.ask(at, self.rules);
                true
            }
            Step::Exchange(at) => {
                world.exchange(at, self.rules);
                true
            }
            Step::Say(at) => {
                world.say(at);
                true
            }
            Step::Tick(at) => world.tick(at),
            Step::Read(at) => {
                world.proposals += 1;
                world.nodes[at].phase == world::Phase::Waiting && world.read(at)
            }
            Step::Crash(at) => {
                world.crash(at);
                true
            }
            Step::Restart(at) => {
                world.restart(at, self.rules);
                true
            }
            Step::Activate(at) => {
                world.activate(at);
                true
            }
            Step::Write(at) => {
                world.write(at);
                true
            }
            Step::Replicate(at) => world.replicate(at),
            Step::Commit(at) => {
                world.commit(at);
                true
            }
            Step::Propose(at, in_sync) => world.propose(at, in_sync),
        };
        (sense && world != *before).then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.voters.iter().all(|voter| voter.promised().number <= self.bounds.epochs)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no acknowledged write is missing at who acts",
                |_: &Self, world: &World| {
                    world.nodes.iter().all(|node| holds_what_was_acknowledged(world, node))
                },
            ),
            Property::always("one coordinator acts in an epoch", |_: &Self, world: &World| {
                let acting =
                    |at: usize| world.nodes[at].acting().map(|one| one.config.epoch.number);
                !world.two_reigns && (acting(0).is_none() || acting(0) != acting(1))
            }),
            Property::always("(epoch, version) names one value", |_: &Self, world: &World| {
                one_value(world)
            }),
            Property::sometimes("the coordinator goes on alone", |_: &Self, world: &World| {
                alone(world, 0) && world.acknowledged.iter().any(|epoch| *epoch > 0)
            }),
            Property::sometimes("the standby acts", |_: &Self, world: &World| {
                world.nodes[1].acting().is_some()
            }),
            Property::sometimes("the standby goes on alone", |_: &Self, world: &World| {
                alone(world, 1)
            }),
            Property::sometimes("the old coordinator follows", |_: &Self, world: &World| {
                let two = &world.nodes;
                two[0].phase == world::Phase::Following
                    && two[0].log != 0
                    && two[1].acting().is_some_and(|acting| acting.acked == two[0].log)
            }),
            Property::sometimes(
                "a copy that had left is in sync again",
                |_: &Self, world: &World| {
                    world.nodes[0].acting().is_some_and(|acting| {
                        acting.config.version.0 >= 4
                            && acting.config.in_sync(NODES[1])
                            && acting.config.epoch.number == 1
                    })
                },
            ),
        ]
    }
}

fn alone(world: &World, at: usize) -> bool {
    world.nodes[at].acting().is_some_and(|acting| !acting.config.in_sync(NODES[1 - at]))
}

fn holds_what_was_acknowledged(world: &World, node: &world::Node) -> bool {
    let Some(acting) = node.acting() else { return true };
    let epoch = acting.config.epoch.number;
    world
        .acknowledged
        .iter()
        .enumerate()
        .all(|(write, at)| *at == 0 || *at > epoch || node.log & (1 << write) != 0)
}

fn one_value(world: &World) -> bool {
    let values: Vec<_> = world
        .asks
        .iter()
        .filter_map(|ask| match &ask.body.question {
            Question::Accept { config } => Some(config),
            _ => None,
        })
        .collect();
    values.iter().enumerate().all(|(at, one)| {
        values[at..]
            .iter()
            .all(|other| (one.epoch, one.version) != (other.epoch, other.version) || one == other)
    })
}

const BOUNDS: Bounds = Bounds { epochs: 3, proposals: 3, crashes: 1, activations: 1, writes: 1 };

/// Explores so many states, breadth first; returns what was found, with the number of steps.
fn explore(rules: Rules, bounds: Bounds, states: usize) -> Vec<(&'static str, usize)> {
    let model = Catalog { rules, bounds, begin: World::new };
    let checker = model.checker().threads(1).target_state_count(states).spawn_bfs().join();
    let (states, unique) = (checker.state_count(), checker.unique_state_count());
    let found: Vec<_> = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| (name, path.into_actions().len()))
        .collect();
    let depth = checker.max_depth();
    say(format!("{unique} unique states of {states}, depth {depth}, found {found:?}"));
    found
}

const ALWAYS: [&str; 3] = [
    "no acknowledged write is missing at who acts",
    "one coordinator acts in an epoch",
    "(epoch, version) names one value",
];

#[test]
fn no_interleaving_loses_what_was_acknowledged() {
    let states = if cfg!(debug_assertions) { 200_000 } else { 6_500_000 };
    let found = explore(Rules::all(), BOUNDS, states);
    assert!(found.iter().all(|(name, _)| !ALWAYS.contains(name)), "{found:?}");
    if !cfg!(debug_assertions) {
        assert_eq!(found.len(), 5, "something is never reached: {found:?}");
    }
}

/// Where each rule's absence shows, with as little else as can be. Two of the stories are long: the search begins in
/// the middle of them, in a state that is reached with every rule.
#[cfg(feature = "seeded-bugs")]
#[test]
fn without_any_one_rule_something_breaks() {
    use outrigger_replica::rules::Rule;
    let small = Bounds { epochs: 3, proposals: 1, crashes: 0, activations: 1, writes: 1 };
    for rule in Rule::VOTERS {
        let begin: fn(Rules) -> World = match rule {
            Rule::S8Again => World::one_voter_holds_a_shrink,
            Rule::S8Start => World::a_start_is_overtaken_by_an_activation,
            _ => World::new,
        };
        let bounds = match rule {
            Rule::S8OneOpen => Bounds { proposals: 2, ..small },
            _ => small,
        };
        let (states, broken) = search(Catalog { rules: Rules::without(rule), bounds, begin });
        say(format!("without {rule:?}: {broken:?} after {states} states"));
        assert!(!broken.is_empty(), "without {rule:?} nothing breaks");
        // The same search with the rule finds nothing, as far as it went.
        let model = Catalog { rules: Rules::all(), bounds, begin };
        let checker = model.checker().threads(1).target_state_count(states).spawn_bfs().join();
        let found = checker.discoveries();
        assert!(ALWAYS.iter().all(|name| !found.contains_key(name)), "with every rule: {rule:?}");
    }
}

/// Searches breadth first for what breaks.
#[cfg(feature = "seeded-bugs")]
fn search(model: Catalog) -> (usize, Vec<(&'static str, usize)>) {
    let checker = model
        .checker()
        .threads(1)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .target_state_count(8_000_000)
        .spawn_bfs()
        .join();
    let found = checker.discoveries().into_iter();
    let broken = found.filter(|(name, _)| ALWAYS.contains(name));
    let steps = broken.map(|(name, path)| (name, path.into_actions().len()));
    (checker.unique_state_count(), steps.collect())
}

fn say(line: String) {
    use std::io::Write;
    std::io::stdout().write_all((line + "\n").as_bytes()).unwrap();
}
