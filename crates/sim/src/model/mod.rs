//! The failover protocol of one content, checked by a model checker on the shipped step functions.
//!
//! Shipped: `Member::step` with everything below it (log, sender, receiver, handshake), recovery of the log and of
//! the control file, and the authority's `Register`. Two copies, the connections between them, and the coordinator.
//! What is abstract, and what each exploration covers, is said in docs/failover.md.
//!
//! # Layout
//! - `node`: one copy and its disk
//! - `lines`: the connections between them
//! - `world`: what there is
//! - `steps`: what may happen
//! - `plans`: what is explored

mod lines;
mod node;
pub mod plans;
mod steps;
mod world;

use std::sync::Arc;
use std::time::Instant;

use outrigger_replica::rules::Rules;
use stateright::{Checker, HasDiscoveries, Model, Property};

pub use steps::{Bounds, Step};
pub use world::{Seen, World};

const HELD: &str = "nothing that was acknowledged is lost, or served by two";

struct Failover {
    bounds: Bounds,
    begin: World,
}

impl Model for Failover {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin.clone()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(&self.bounds, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        world.after(step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(HELD, |_: &Self, world: &World| world.broken.is_none())]
    }
}

/// Where an exploration begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// Nobody runs, nothing is written.
    Cold,
    /// The first copy serves, the second one follows.
    Serving,
}

/// What an exploration came to.
#[derive(Debug)]
pub struct Found {
    /// States that differ.
    pub unique: usize,
    /// Steps that were taken.
    pub steps: usize,
    /// The longest way from the beginning.
    pub depth: usize,
    /// Whether there is nothing more within the bounds.
    pub exhaustive: bool,
    /// How long it took.
    pub seconds: f64,
    /// What broke, and the steps to it, each with the state that it leads to.
    pub broken: Option<(String, Vec<String>)>,
    /// What was seen on the way.
    pub seen: Arc<Seen>,
}

/// Explores everything within the bounds, breadth first, until so many steps were taken or something broke.
#[must_use]
pub fn explore(begin: Begin, down: u8, bounds: Bounds, rules: Rules, steps: usize) -> Found {
    let seen = Arc::new(Seen::default());
    let mut world = World::cold(rules, false, Arc::clone(&seen));
    if begin == Begin::Serving {
        world.start(0);
        world.start(1);
        world.settle();
    }
    world.begin(down, &bounds);
    let began = Instant::now();
    let checker = Failover { bounds, begin: world }
        .checker()
        .threads(1)
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(steps)
        .spawn_bfs()
        .join();
    let broken = checker.discovery(HELD).map(|path| {
        let text = path.last_state().broken.clone().unwrap_or_default();
        let told = path.into_vec().into_iter();
        (text, told.map(|(world, step)| format!("{step:?} <- {world:?}")).collect())
    });
    Found {
        unique: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        exhaustive: checker.state_count() < steps && broken.is_none(),
        seconds: began.elapsed().as_secs_f64(),
        broken,
        seen,
    }
}
