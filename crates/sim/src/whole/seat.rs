//! The machines above the catalog's member, in the coordinator's and the standby's process: a council that asks
//! the voters, and the coordinator, which acts while its own member serves.
//!
//! Guarantees: they are driven as the server does it; what is recorded is told to the member and to the
//! coordinator. Not here: agents and voters (`agents`), heartbeats (`beats`).

use std::collections::{BTreeMap, VecDeque};

use outrigger_cluster::agent::Ask as AgentAsk;
use outrigger_cluster::coordinator::{self, Coordinator, CoordinatorOptions, Identity};
use outrigger_cluster::register::Proposer;
use outrigger_cluster::voters::{self, Council, CouncilOptions};
use outrigger_net::config::Config;
use outrigger_replica::member::In;
use outrigger_wal::{Epoch, Micros};

use super::Whole;
use super::agents::AgentLine;
use super::event::{Event, Seated};
use super::lines::is_line;
use super::plan::Bug;
use crate::cluster::queue::Life;

/// What runs above one copy of the catalog.
pub(super) struct Seat {
    pub(super) council: Council,
    pub(super) coordinator: Coordinator,
    pub(super) due: Option<Micros>,
    /// Whether it was activated by force in this life.
    pub(super) forced: bool,
    /// The hosts whose agents it should reach.
    pub(super) reach: Vec<String>,
    pub(super) agents: BTreeMap<String, AgentLine>,
}

impl Whole {
    /// The process of a copy of the catalog has opened: its machines begin.
    pub(super) fn take_seat(&mut self, at: usize) {
        let (seed, salt) = (self.rng.u128(), self.rng.u128());
        let place = &self.places[at];
        let now = place.node.clock.node_now(self.now);
        let id = place.node.identity;
        let Some(copy) = place.node.store.as_catalog() else { return };
        let catalog = copy.catalog.clone();
        let rules = self.plan.rules();
        let list = self.voter_list();
        let options = CouncilOptions::default();
        let council = Council::new(id.cluster, id.instance, &list, options, rules, salt, now);
        let whose = Identity {
            cluster: id.cluster,
            instance: id.instance,
            log: id.log,
            segment_bytes: id.segment_bytes,
        };
        let voters = self.hosts.iter().map(|host| vec![host.agent_address()]).collect();
        let coordinator =
            Coordinator::new(whose, catalog, seed, CoordinatorOptions::default(), now)
                .with_voters(voters);
        let seat = Seat {
            council,
            coordinator,
            due: None,
            forced: false,
            reach: Vec::new(),
            agents: BTreeMap::new(),
        };
        self.places[at].seat = Some(seat);
        let life = self.places[at].node.life;
        self.at(10_000, Event::Reach { at, life });
    }

    /// Its own member serves in this epoch, or no more.
    pub(super) fn seat_serves(&mut self, at: usize, epoch: Option<Epoch>) {
        if self.places[at].seat.is_none() {
            return;
        }
        if epoch.is_some() && self.coordinator().is_some_and(|other| other != at) {
            self.counts.row(44);
        }
        self.seat(at, Seated::Coordinator(coordinator::In::Serving(epoch)));
    }

    /// A deadline has come.
    pub(super) fn seat_due(&mut self, at: usize, life: Life) {
        if !self.is_open(at, life) || self.places[at].node.clock.is_paused() {
            return;
        }
        let Some(seat) = &mut self.places[at].seat else { return };
        if seat.due.is_some_and(|due| due <= self.now) {
            seat.due = None;
        }
        self.seat(at, Seated::Council(voters::In::Tick));
        self.seat(at, Seated::Coordinator(coordinator::In::Tick));
    }

    /// Steps the machines, and carries out what they ask for.
    pub(super) fn seat(&mut self, at: usize, event: Seated) {
        let life = self.places[at].node.life;
        let mut waiting = VecDeque::from([event]);
        while let Some(event) = waiting.pop_front() {
            let now = self.places[at].node.clock.node_now(self.now);
            let Some(seat) = &mut self.places[at].seat else { return };
            match event {
                Seated::Council(event) => {
                    let mut out = Vec::new();
                    seat.council.step(now, event, &mut out);
                    for out in out {
                        self.council_asks(at, out, &mut waiting);
                    }
                }
                Seated::Coordinator(event) => {
                    let mut out = Vec::new();
                    seat.coordinator.step(now, event, &mut out);
                    self.mix(4, at, out.len() as u64);
                    for out in out {
                        self.coordinator_asks(at, out, &mut waiting);
                    }
                }
            }
            if !self.is_open(at, life) {
                return;
            }
        }
        self.schedule_seat(at);
    }

    fn schedule_seat(&mut self, at: usize) {
        let now = self.now;
        let place = &mut self.places[at];
        let (clock, life) = (&place.node.clock, place.node.life);
        let Some(seat) = &mut place.seat else { return };
        let due = [seat.council.deadline(), seat.coordinator.deadline()];
        let due = due.into_iter().flatten().min().and_then(|due| clock.global_at(due, now));
        if let Some(due) = due.map(|due| due.max(now.plus(500)))
            && seat.due.is_none_or(|known| due < known || known < now)
        {
            seat.due = Some(due);
            self.queue.push(due, Event::Seat { at, life });
        }
    }

    fn council_asks(&mut self, at: usize, out: voters::Out, waiting: &mut VecDeque<Seated>) {
        match out {
            voters::Out::Ask(ask) => self.ask_voter(at, ask),
            voters::Out::Recorded { config } => {
                self.catalog_recorded(&config);
                let coordinator_epoch = config.epoch.number;
                let mut own = config.clone();
                let forced = self.places[at].seat.as_ref().is_some_and(|seat| seat.forced);
                if self.plan.bug == Some(Bug::ForgetForce) && !forced {
                    own.loss = None;
                }
                let own = coordinator::In::Own { config: own };
                waiting.push_back(Seated::Coordinator(own));
                self.step(at, In::Config { config, coordinator_epoch });
            }
            voters::Out::Activated { outcome, text, .. } => {
                self.note(|| format!("p{at} is activated: {text}"));
                self.activated(at, outcome);
            }
            voters::Out::Denied { text, .. } => {
                self.note(|| format!("p{at} is not activated: {text}"));
                self.not_activated(at, &text);
            }
            voters::Out::Event(event) => {
                self.note(|| format!("p{at} council: {event:?}"));
                match event {
                    voters::Event::Overtaken { .. } => self.counts.row(44),
                    voters::Event::Deposed { .. } => {
                        self.counts.count("coordinators that learn they are deposed");
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The voters' word on the catalog itself.
    fn catalog_recorded(&mut self, config: &Config) {
        let name = |config: &Config| (config.epoch.number, config.version);
        let group = &mut self.groups[0];
        if group.config.as_ref().is_none_or(|known| name(known) < name(config)) {
            group.config = Some(config.clone());
            group.past.push((config.epoch.number, config.clone()));
            self.mix(5, 0, config.version.0);
            self.counts.count("configurations of the catalog");
        }
    }

    fn coordinator_asks(
        &mut self,
        at: usize,
        out: coordinator::Out,
        waiting: &mut VecDeque<Seated>,
    ) {
        match out {
            coordinator::Out::Append { ticket, record } => {
                let other = *self.commanders.entry(ticket.epoch).or_insert(at);
                if other != at {
                    let epoch = ticket.epoch;
                    self.violate(format!("p{at} and p{other} both command in epoch {epoch}"));
                }
                let Some(process) = &self.places[at].node.process else { return };
                match process.member.appender().append_batch(&[&record[..]]) {
                    Ok(_) => self.step(at, In::Kick),
                    Err(error) => {
                        let text = error.to_string();
                        let not = coordinator::In::NotAppended { ticket, text };
                        waiting.push_back(Seated::Coordinator(not));
                    }
                }
            }
            coordinator::Out::Send { link, envelope, message } => {
                if is_line(link) {
                    self.put_on_wire(at, link, envelope, message);
                } else {
                    self.operator_hears(message);
                }
            }
            coordinator::Out::Hangup(link) => {
                if !is_line(link) {
                    return self.operator_hung_up(link);
                }
                let life = self.places[at].node.life;
                if let Some((conn, side)) = self.net.find(at, life, link) {
                    self.net.hang_up(self.now, conn, side, &mut self.queue);
                }
            }
            coordinator::Out::Reach { agents } => {
                if let Some(seat) = &mut self.places[at].seat {
                    seat.reach = agents.into_iter().map(|(host, _)| host).collect();
                    let Seat { reach, agents, .. } = seat;
                    agents.retain(|host, _| reach.contains(host));
                }
            }
            // No cluster is expanded here: rows that move have a world of their own.
            coordinator::Out::Carry { .. } => {}
            coordinator::Out::SwapOwn { seen, new } => {
                let by = Proposer::Operator;
                let swap = voters::In::Swap { seen, new, by };
                waiting.push_back(Seated::Council(swap));
            }
            coordinator::Out::Agent { host, ask } => self.command(at, &host, ask),
            coordinator::Out::Ping { address, ping } => self.ping(at, &address, ping),
            coordinator::Out::Event(event) => self.coordinator_says(at, event),
        }
    }

    fn command(&mut self, at: usize, host: &str, ask: AgentAsk) {
        if self.faults.chance(self.plan.late_command_per_mille) && !self.healed {
            self.counts.count("late commands to agents");
            if let Some(host) = self.hosts.iter().position(|known| known.name == host) {
                let micros = self.faults.range(1_000..5_000_000);
                let ask = Box::new(ask.clone());
                let agent = u64::MAX;
                self.at(micros, Event::Ask { host, agent, from: super::event::Asker::Nobody, ask });
            }
        }
        self.send_to_agent(at, host, ask);
    }

    fn coordinator_says(&mut self, at: usize, event: coordinator::Event) {
        self.note(|| format!("p{at} coordinator: {event:?}"));
        match event {
            coordinator::Event::Serves { .. } => self.counts.count("coordinators' reigns"),
            coordinator::Event::FailsOver { to, .. } => {
                self.counts.count("failovers");
                if self.faults.chance(self.plan.kill_promotion_per_mille) && !self.healed {
                    let victim = if self.faults.chance(400) { Some(at) } else { self.place_of(to) };
                    let Some(at) = victim else { return };
                    let life = self.places[at].node.life;
                    let micros = self.faults.range(0..30_000);
                    self.at(micros, Event::Kill { at, life, row: Some(47) });
                }
            }
            coordinator::Event::Alarm { text } => {
                self.counts.count("alarms");
                if text.contains("newest recorded here") || text.contains("commands nothing") {
                    self.counts.row(54);
                }
                if text.contains("two processes") {
                    self.counts.row(56);
                }
            }
            _ => {}
        }
    }

    /// A copy of the catalog has applied more: what is new in it is what is recorded.
    pub(super) fn catalog_applied(&mut self, at: usize) {
        let applied = self.places[at].node.store.applied();
        if applied <= self.catalog_top {
            return;
        }
        self.catalog_top = applied;
        let Some(copy) = self.places[at].node.store.as_catalog() else { return };
        let found: Vec<_> = copy.catalog.read(|state| {
            let contents = state.contents.iter();
            contents
                .filter_map(|(id, row)| Some((*id, row.log, row.register.config()?.clone())))
                .collect()
        });
        let epoch = self.groups[0].config.as_ref().map_or(0, |config| config.epoch.number);
        let mut losses = Vec::new();
        for (content, _, config) in found {
            let Some(number) = self.groups.iter().position(|group| group.content == content) else {
                continue;
            };
            let group = &mut self.groups[number];
            // A coordinator that was forced without everything may know older ones; and once all copies have proved that
            // they know nothing of what it lacks, it records others under the same numbers.
            let name = |config: &Config| (config.epoch.number, config.version);
            let newer = group.config.as_ref().is_none_or(|known| name(known) < name(&config));
            let instead = !newer && self.lossy && group.past.iter().all(|(_, at)| *at != config);
            let known = group.config.as_ref().filter(|_| instead);
            let knows = |at: &usize| {
                let process = self.places[*at].node.process.as_ref();
                let config = process.and_then(|process| process.member.config());
                config.is_some_and(|config| known.is_some_and(|known| known == config))
            };
            if let Some(knows) = group.members.iter().find(|at| known.is_some() && knows(at)) {
                let text =
                    format!("content {}: p{knows} knows what is recorded anew", group.content);
                self.violate(text);
                return;
            }
            if newer || instead {
                let version = config.version.0;
                let before = group.config.as_ref().and_then(|known| known.loss);
                losses.extend(config.loss.filter(|_| config.loss != before).map(|at| (number, at)));
                group.config = Some(config.clone());
                group.past.push((epoch, config));
                self.mix(6, at, version);
                self.counts.count("configurations");
            }
        }
        for (group, loss) in losses {
            self.loss_is_accepted(group, loss);
        }
    }
}
