//! What goes wrong: processes, hosts, the network between hosts, disks, clocks, voters' files.
//!
//! Not here: what the operator breaks (`operator`), what is killed in the middle of something (`agents`, `seat`).

use super::Whole;
use super::event::Event;
use crate::clock::Pause;
use crate::disk::{FaultRates, Latency};

/// About every so often faults are drawn, in microseconds.
const TICK_MICROS: std::ops::Range<u64> = 50_000..150_000;
/// The longest pause: 30 s, as of a suspended process.
const LONG_PAUSE_MICROS: u64 = 30_000_000;

impl Whole {
    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let micros = self.faults.range(TICK_MICROS);
        self.at(micros, Event::Fault);
        self.force_story();
        self.fault_processes();
        self.fault_network();
        self.fault_disks();
        let faults = self.plan.faults;
        if self.faults.chance(faults.lose_voter)
            && self.hosts.iter().all(|host| host.agent.is_none() || host.votes())
        {
            let host = self.any_host();
            self.lose_voter(host);
        }
        if self.faults.chance(faults.clone) {
            let at = self.any_data();
            let other = self.faults.next_u64();
            let cloned = &mut self.places[at].cloned;
            *cloned = if cloned.is_some() { None } else { Some(other) };
            self.places[at].was_cloned = true;
        }
        if self.faults.chance(faults.clock) {
            let (now, at) = (self.now, self.any_place());
            let drift = self.faults.range(0..400_000);
            let jump = self.faults.range(0..4_000_000);
            let clock = &mut self.places[at].node.clock;
            clock.set_drift(now, i32::try_from(drift).unwrap_or(0) - 200_000);
            if jump < 2_000_000 {
                clock.jump(now, i64::try_from(jump).unwrap_or(0) - 1_000_000);
            }
            self.counts.count("clocks that ran wrong");
        }
    }

    fn fault_processes(&mut self) {
        let faults = self.plan.faults;
        if self.faults.chance(faults.kill) {
            let at = self.any_data();
            self.kill(at);
        }
        if self.faults.chance(faults.kill_catalog) {
            let at = usize::from(self.faults.chance(400));
            self.kill(at);
        }
        if self.faults.chance(faults.kill_agent) {
            let host = self.any_host();
            self.counts.count("agents killed");
            self.kill_agent(host);
        }
        if self.faults.chance(faults.power) {
            let host = self.any_host();
            let micros = self.faults.range(100_000..5_000_000);
            self.cut_power(host, micros);
        }
        if self.faults.chance(faults.both) {
            let groups: Vec<usize> = self.data_groups().collect();
            if let Some(group) = self.faults.pick(&groups).copied() {
                for at in self.groups[group].members.clone() {
                    self.kill(at);
                }
            }
        }
        if self.faults.chance(faults.pause) {
            let at = self.any_place();
            self.pause(at);
        }
        if self.faults.chance(faults.pause_agent) {
            let host = self.any_host();
            if self.hosts[host].agent.is_some() && !self.hosts[host].paused {
                self.hosts[host].paused = true;
                let life = self.hosts[host].life;
                let micros = self.faults.range(50_000..3_000_000);
                self.counts.count("agents that stood still");
                self.at(micros, Event::AgentResume { host, life });
            }
        }
    }

    fn fault_network(&mut self) {
        let faults = self.plan.faults;
        if self.faults.chance(faults.partition) {
            let (a, b) = self.two_hosts();
            let micros = self.faults.range(50_000..4_000_000);
            let both = self.faults.chance(500);
            self.counts.count(if both { "partitions" } else { "one-way partitions" });
            self.cut_way(a, b, micros);
            if both {
                self.cut_way(b, a, micros);
            }
        }
        if self.faults.chance(faults.isolate) {
            let host = self.any_host();
            let (to, from) = (self.faults.chance(800), self.faults.chance(800));
            let micros = self.faults.range(100_000..6_000_000);
            self.counts.count("hosts cut off");
            for other in (0..self.hosts.len()).filter(|other| *other != host) {
                if to || !from {
                    self.cut_way(host, other, micros);
                }
                if from {
                    self.cut_way(other, host, micros);
                }
            }
        }
        if self.faults.chance(faults.flap) {
            let (a, b) = self.two_hosts();
            let left = u32::try_from(self.faults.range(5..30)).unwrap_or(5);
            self.counts.row(57);
            self.flap(a, b, left);
        }
        if self.faults.chance(faults.cut) {
            let open = self.net.open();
            if let Some(conn) = self.faults.pick(&open).copied() {
                self.counts.count("connections cut");
                let notice = if self.faults.chance(700) { 0..3_000 } else { 0..1_500_000 };
                if let Err(text) = self.net.cut(self.now, conn, notice, &mut self.queue) {
                    self.violate(text);
                }
            }
        }
        if self.faults.chance(faults.stall) {
            for conn in self.net.open() {
                for side in 0..2 {
                    if self.faults.chance(300) {
                        let micros = self.faults.range(5_000..1_800_000);
                        self.net.stall(conn, side, self.now.plus(micros));
                    }
                }
            }
            self.counts.count("times that connections stalled");
        }
    }

    fn fault_disks(&mut self) {
        let faults = self.plan.faults;
        if self.faults.chance(faults.disk_slow) {
            let at = self.any_place();
            let hangs = self.faults.chance(300);
            let slow = if hangs { 3_000_000 } else { self.faults.range(1_000..60_000) };
            let latency =
                Latency { sync_micros: slow / 2..slow, slow_per_mille: 50, ..Latency::default() };
            self.places[at].node.disk.set_latency(latency);
            if hangs {
                self.places[at].hangs = Some(self.now);
            }
            self.counts.count(if hangs { "disks that hang" } else { "slow disks" });
            let micros = self.faults.range(200_000..4_000_000);
            self.at(micros, Event::DiskWell { at });
        }
        if self.faults.chance(faults.disk_error) {
            let at = self.any_data();
            let rate = u32::try_from(self.faults.range(1..20)).unwrap_or(1);
            let rates =
                FaultRates { write_per_mille: rate, sync_per_mille: rate, ..FaultRates::default() };
            self.places[at].node.disk.set_faults(rates);
            self.places[at].node.shadow.flaky = true;
            self.at(500_000, Event::DiskWell { at });
        }
    }

    pub(super) fn disk_well(&mut self, at: usize) {
        self.places[at].node.disk.set_latency(Latency::default());
        self.places[at].node.disk.set_faults(FaultRates::default());
        self.places[at].hangs = None;
    }

    fn any_host(&mut self) -> usize {
        usize::try_from(self.faults.below(self.hosts.len() as u64)).unwrap_or(0)
    }

    fn any_place(&mut self) -> usize {
        usize::try_from(self.faults.below(self.places.len() as u64)).unwrap_or(0)
    }

    fn any_data(&mut self) -> usize {
        let data = self.places.len() as u64 - 2;
        2 + usize::try_from(self.faults.below(data)).unwrap_or(0)
    }

    fn two_hosts(&mut self) -> (usize, usize) {
        let a = self.any_host();
        let others = self.hosts.len() as u64 - 1;
        let b = a + 1 + usize::try_from(self.faults.below(others)).unwrap_or(0);
        (a, b % self.hosts.len())
    }

    /// A process dies; the page cache stays.
    pub(super) fn kill(&mut self, at: usize) {
        if !self.places[at].runs() {
            return;
        }
        self.note(|| format!("p{at} is killed"));
        self.counts.count(if self.places[at].group == 0 {
            "coordinators and standbys killed"
        } else {
            "kills"
        });
        let report = self.places[at].node.disk.kill();
        self.mix(8, at, report.in_flight);
        self.end(at, "signal 9", false);
    }

    /// A host loses power, and everything on it.
    fn cut_power(&mut self, host: usize, micros: u64) {
        if !self.hosts[host].up {
            return;
        }
        self.note(|| format!("h{host} loses power"));
        self.counts.count("power cuts");
        self.hosts[host].up = false;
        self.kill_agent(host);
        for at in self.on(host) {
            let report = self.places[at].node.disk.power_cut();
            self.mix(9, at, report.pages_lost);
            self.end(at, "power", false);
        }
        self.at(micros, Event::HostUp { host });
    }

    fn pause(&mut self, at: usize) {
        let place = &mut self.places[at];
        if place.node.clock.is_paused() || place.node.process.is_none() {
            return;
        }
        let long = self.faults.chance(100);
        let kind = if self.faults.chance(700) { Pause::Process } else { Pause::Machine };
        let micros = if long { LONG_PAUSE_MICROS } else { self.faults.range(20_000..4_000_000) };
        self.note(|| format!("p{at} stands still for {micros}"));
        self.counts.count(if self.places[at].group == 0 {
            "coordinators that stood still"
        } else {
            "pauses"
        });
        let now = self.now;
        if kind == Pause::Process && self.places[at].group > 0 && self.faults.chance(300) {
            self.places[at].stuck = Some(self.places[at].turns(now));
            self.counts.count("processes that are stuck, and answer");
        }
        self.places[at].node.clock.pause(now, kind);
        self.at(micros, Event::Resume { at });
    }

    fn cut_way(&mut self, from: usize, to: usize, micros: u64) {
        *self.cut.entry((from, to)).or_insert(0) += 1;
        self.note(|| format!("nothing passes from h{from} to h{to} for {micros}"));
        self.reblock();
        self.at(micros, Event::Mend { from, to });
    }

    pub(super) fn mend(&mut self, from: usize, to: usize) {
        if let Some(times) = self.cut.get_mut(&(from, to)) {
            *times -= 1;
            if *times == 0 {
                self.cut.remove(&(from, to));
            }
        }
        self.reblock();
    }

    /// The way between two hosts comes and goes every 100 ms.
    pub(super) fn flap(&mut self, a: usize, b: usize, left: u32) {
        if left == 0 || self.healed {
            return;
        }
        self.cut_way(a, b, 100_000);
        self.cut_way(b, a, 100_000);
        self.at(200_000, Event::Flap { a, b, left: left - 1 });
    }

    /// The standby is cut off, a mirror dies and is dropped, the coordinator's host is lost: whoever activates the
    /// standby must force it, and its catalog takes that mirror for whole. Then the primary dies.
    fn force_story(&mut self) {
        let Some(at) = self.plan.forced_at else { return };
        let (step, group) = self.story;
        let since = self.now.0.saturating_sub(at);
        let copy = |whole: &Self, primary: bool| {
            let group = &whole.groups[group];
            let config = group.config.as_ref()?;
            let mut members = group.members.iter().copied();
            members.find(|at| (whole.places[*at].node.instance == config.primary) == primary)
        };
        match step {
            0 if since > 0 && self.now.0 > at => {
                for other in (0..self.hosts.len()).filter(|other| *other != 1) {
                    self.cut_way(1, other, 5_000_000);
                    self.cut_way(other, 1, 5_000_000);
                }
                // A content that goes on without the standby's host.
                let away = |group: &usize| {
                    self.groups[*group].members.iter().all(|at| self.places[*at].host != 1)
                };
                let group = self.data_groups().find(away).unwrap_or(1);
                self.story = (1, group);
            }
            1 if since > 1_500_000 => {
                self.story.0 = 2;
                if let Some(at) = copy(self, false) {
                    self.kill(at);
                }
            }
            2 if since > 4_500_000 => {
                self.story.0 = 3;
                self.cut_power(0, 14_000_000);
            }
            3 if self.lossy && self.faults.chance(100) => {
                if let Some(at) = copy(self, true) {
                    self.kill(at);
                }
            }
            _ => {}
        }
    }

    /// An agent loses its voter's file: it does not vote from its next start on.
    fn lose_voter(&mut self, host: usize) {
        self.counts.count("voters that lost their file");
        self.note(|| format!("the voter's file of h{host} is lost"));
        for slot in 0..2 {
            self.hosts[host].voter_slots.set(slot, None);
        }
        self.plan.faults.lose_voter = 0;
        self.kill_agent(host);
    }

    /// Everything works again.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.note(|| "everything works again".to_owned());
        self.cut.clear();
        self.reblock();
        self.net.weather.slow_per_mille = 0;
        let now = self.now;
        for at in 0..self.places.len() {
            self.disk_well(at);
            // An administrator stops both, and starts the one.
            if std::mem::take(&mut self.places[at].was_cloned) {
                self.places[at].cloned = None;
                self.kill(at);
            }
            self.places[at].node.clock.set_drift(now, 0);
            self.resume(at);
        }
        for host in 0..self.hosts.len() {
            if !self.hosts[host].up {
                self.host_up(host);
            }
            let life = self.hosts[host].life;
            self.agent_resumes(host, life);
        }
    }
}
