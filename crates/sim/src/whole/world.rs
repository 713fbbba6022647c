//! What there is at the beginning: hosts whose agents vote and have the orders of `init`, a coordinator and a
//! standby with empty catalogs in sync, and places for the copies of two contents in group layout.
//!
//! Not here: the rows of the catalog, which the operator founds (`operator`).

use std::collections::{BTreeMap, VecDeque};

use outrigger_cluster::agent::{Agent, Memory, Order};
use outrigger_cluster::catalog::tables::{Dbid, Wanted};
use outrigger_cluster::coordinator::CATALOG;
use outrigger_cluster::slots::MemorySlots;
use outrigger_cluster::voters::{Seat, Voter, VoterFile, VoterList};
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::control::Identity;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, Micros};

use super::agents::Host;
use super::event::Event;
use super::holding::Holding;
use super::lines::Line;
use super::operator::Operator;
use super::place::Place;
use super::rows::Counts;
use super::writes::Customer;
use super::{Group, Whole, WholePlan};
use crate::checker::{Checker, Shadow};
use crate::cluster::clients::Client;
use crate::cluster::network::Network;
use crate::cluster::node::Node;
use crate::cluster::queue::Queue;
use crate::disk::{SimDisk, SimDiskOptions};
use crate::rng::Rng;

pub(super) const CLUSTER: ClusterId = ClusterId(0xC1);
pub(super) const SEGMENT_BYTES: u64 = 1 << 20;
/// How many contents hold rows.
pub(super) const CONTENTS: usize = 2;
const CATALOG_LOG: LogId = LogId(0xCA7);

impl Whole {
    /// A cluster that was made and not started.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(plan: WholePlan) -> Result<Self, String> {
        let rng = Rng::new(plan.seed);
        let weather = plan.weather.clone();
        let mut whole = Self {
            now: Micros(1_000_000),
            queue: Queue::default(),
            net: Network::new(weather, rng.fork("network")),
            hosts: Vec::new(),
            places: Vec::new(),
            groups: Vec::new(),
            customers: Vec::new(),
            operator: Operator::default(),
            cut: BTreeMap::new(),
            catalog_top: Lsn::ZERO,
            commanders: BTreeMap::new(),
            carried_out: BTreeMap::new(),
            lossy: false,
            names: 0,
            faults: rng.fork("faults"),
            counts: Counts::default(),
            hash: plan.seed,
            tracing: false,
            broken: None,
            healed: false,
            story: (0, 1),
            quiet: false,
            rng,
            plan,
        };
        whole.make_places()?;
        whole.make_hosts()?;
        for client in 0..whole.plan.clients * CONTENTS {
            let seed = whole.rng.next_u64();
            let number = client as u64 + 1;
            let group = 1 + client % CONTENTS;
            let client = Client::new(number, Rng::new(seed));
            whole.customers.push(Customer { client, group });
        }
        Ok(whole)
    }

    /// The catalog's copies on the first two hosts, each content's on two hosts next to each other.
    fn make_places(&mut self) -> Result<(), String> {
        let hosts = self.plan.hosts;
        let first = usize::try_from(self.rng.below(hosts as u64)).unwrap_or(0);
        for group in 0..=CONTENTS {
            let content = if group == 0 {
                CATALOG
            } else {
                ContentId(i32::try_from(group).map_err(|error| error.to_string())? - 1)
            };
            let mut members = Vec::new();
            for slot in 0..2 {
                let host = if group == 0 { slot } else { (first + group + slot) % hosts };
                members.push(self.make_place((group, content), slot, host)?);
            }
            let (checker, past) = (Checker::default(), Vec::new());
            self.groups.push(Group { content, members, checker, config: None, past, commits: 0 });
        }
        let copies = self.groups[0].members.iter().map(|at| Copy {
            instance: self.places[*at].node.instance,
            addresses: vec![self.places[*at].address.clone()],
            in_sync: true,
            held: false,
            durable: Promise::NONE,
        });
        let config = Config {
            version: Version(1),
            epoch: Epoch::NONE,
            primary: self.places[0].node.instance,
            copies: copies.collect(),
            rule: Rule::All,
            loss: None,
        };
        self.groups[0].config = Some(config);
        for at in self.groups[0].members.clone() {
            self.places[at].node.initialise(true)?;
            self.places[at].made = true;
        }
        Ok(())
    }

    fn make_place(
        &mut self,
        (group, content): (usize, ContentId),
        slot: usize,
        host: usize,
    ) -> Result<usize, String> {
        let at = self.places.len();
        let number = u16::try_from(at).map_err(|error| error.to_string())? + 1;
        let identity = Identity {
            cluster: CLUSTER,
            content,
            instance: InstanceId(u128::from(number)),
            // The coordinator draws those of data, and its orders tell them.
            log: if group == 0 { CATALOG_LOG } else { LogId::default() },
            segment_bytes: SEGMENT_BYTES,
        };
        let seed = self.rng.next_u64();
        let disk = SimDisk::new(SimDiskOptions::new(seed));
        let holding =
            if group == 0 { Holding::catalog(self.plan.rules())? } else { Holding::rows() };
        self.places.push(Place {
            node: Node::of(identity, Place::options(), disk, holding),
            group,
            slot,
            host,
            dbid: Dbid(number),
            address: format!("h{host}:{}", 100 + number),
            made: false,
            half_made: false,
            remade: 0,
            starting: None,
            remaking: false,
            incarnation: 0,
            pid: 0,
            inbox: VecDeque::new(),
            line: Line::default(),
            seat: None,
            stuck: None,
            hangs: None,
            cloned: None,
            was_cloned: false,
            doing: BTreeMap::new(),
        });
        Ok(at)
    }

    fn make_hosts(&mut self) -> Result<(), String> {
        let addresses = (0..self.plan.hosts).map(|host| vec![format!("h{host}:1")]).collect();
        let list = VoterList { version: 1, addresses };
        let Some(first) = self.groups[0].config.clone() else { return Ok(()) };
        for host in 0..self.plan.hosts {
            let orders = self.groups[0].members.iter().filter(|at| self.places[**at].host == host);
            let orders = orders.map(|at| (self.places[*at].dbid, self.first_order(*at))).collect();
            let memory = Memory {
                cluster: CLUSTER,
                host: format!("h{host}"),
                coordinator_epoch: 0,
                orders,
                done: BTreeMap::new(),
                ..Memory::default()
            };
            let memory = Agent::encode(&memory).map_err(|error| error.to_string())?;
            let slots = MemorySlots::default();
            let seat = Seat(u8::try_from(host).map_err(|error| error.to_string())?);
            let voter = Voter::create(CLUSTER, list.clone(), seat, first.clone())
                .map_err(|error| error.to_string())?;
            VoterFile::create(Box::new(slots.clone()), voter, self.plan.rules())
                .map_err(|error| error.to_string())?;
            self.hosts.push(Host::new(host, memory, slots));
        }
        Ok(())
    }

    /// What `init` tells the agent of a coordinator or standby.
    fn first_order(&self, at: usize) -> Order {
        let place = &self.places[at];
        let coordinators = self.groups[0].members.iter();
        Order {
            content: place.node.identity.content,
            instance: place.node.instance,
            log: place.node.identity.log,
            segment_bytes: place.node.identity.segment_bytes,
            addresses: vec![place.address.clone()],
            data_dir: format!("/data/{}", place.dbid),
            wanted: Wanted::Up,
            run: 1,
            coordinators: coordinators.map(|at| self.places[*at].address.clone()).collect(),
            voters: (0..self.plan.hosts).map(|host| vec![format!("h{host}:1")]).collect(),
            source: Vec::new(),
            max_rate_bytes: 0,
            settings: Vec::new(),
        }
    }

    /// Agents start, and everything that goes on by itself.
    pub(super) fn start(&mut self) {
        for host in 0..self.hosts.len() {
            let micros = self.rng.range(0..50_000);
            self.at(micros, Event::AgentStart { host });
        }
        for client in 0..self.customers.len() {
            self.at(10_000, Event::Client { client });
        }
        self.at(2_000_000, Event::Fault);
        self.at(300_000, Event::Operator);
    }

    /// The shadow of a copy.
    pub(super) fn shadow(&self, at: usize) -> &Shadow {
        &self.places[at].node.shadow
    }
}
