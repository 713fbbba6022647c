//! Who mirrors whom: each host finds others for its mirrors, and each takes as many as any other.
//!
//! Guarantees: if there is an arrangement that keeps the rule, one is found; where nothing forbids the
//! preferred partner, it is taken. The same input gives the same arrangement.
//! Not here: what the rule is.

use std::collections::VecDeque;

/// An arrangement in the making: a flow from hosts that need partners to hosts that are partners.
struct Arrangement<'a> {
    hosts: usize,
    /// How many mirrors each host gives away, and takes.
    mirrors: usize,
    /// How many mirrors of one host another may take.
    at_most_together: usize,
    may: &'a dyn Fn(usize, usize) -> bool,
    /// The partners of each host, by slot.
    partners: Vec<Vec<usize>>,
    taken: Vec<usize>,
}

/// For each host, in order, the hosts that take its mirrors, by slot.
///
/// Slot k prefers the host that stands 1 + k places behind in the ring, its own place skipped.
///
/// # Errors
/// The first host for which there is nobody.
pub(super) fn arrange(
    hosts: usize,
    mirrors: usize,
    at_most_together: usize,
    may: &dyn Fn(usize, usize) -> bool,
) -> Result<Vec<Vec<usize>>, usize> {
    let mut arrangement = Arrangement {
        hosts,
        mirrors,
        at_most_together,
        may,
        partners: vec![Vec::new(); hosts],
        taken: vec![0; hosts],
    };
    for host in 0..hosts {
        for slot in 0..mirrors {
            if !arrangement.place(host, slot) {
                return Err(host);
            }
        }
    }
    Ok(arrangement.partners)
}

impl Arrangement<'_> {
    /// Finds a partner for one more mirror of `host`; others change theirs if that makes room.
    fn place(&mut self, host: usize, slot: usize) -> bool {
        // Which host asked each partner, and which partner each host would have to give up.
        let mut asked_by: Vec<Option<usize>> = vec![None; self.hosts];
        let mut gives_up: Vec<Option<usize>> = vec![None; self.hosts];
        let mut queue = VecDeque::from([host]);
        while let Some(asking) = queue.pop_front() {
            let first = if asking == host { slot } else { 0 };
            for partner in self.ring(asking, first) {
                let together = self.partners[asking].iter().filter(|one| **one == partner).count();
                if asked_by[partner].is_some()
                    || together >= self.at_most_together
                    || !(self.may)(asking, partner)
                {
                    continue;
                }
                asked_by[partner] = Some(asking);
                if self.taken[partner] < self.mirrors {
                    self.settle(host, partner, &asked_by, &gives_up);
                    return true;
                }
                for (other, given) in gives_up.iter_mut().enumerate() {
                    let is_open = other != host && given.is_none();
                    if is_open && self.partners[other].contains(&partner) {
                        *given = Some(partner);
                        queue.push_back(other);
                    }
                }
            }
        }
        false
    }

    /// The other hosts, those behind first, from the one that slot `first` prefers.
    fn ring(&self, host: usize, first: usize) -> impl Iterator<Item = usize> + use<> {
        let hosts = self.hosts;
        let others = hosts - 1;
        (0..others).map(move |step| (host + 1 + (first + step) % others) % hosts)
    }

    /// Walks back from the free partner: each host takes the one it asked, and gives one up.
    fn settle(
        &mut self,
        host: usize,
        free: usize,
        asked_by: &[Option<usize>],
        gives_up: &[Option<usize>],
    ) {
        self.taken[free] += 1;
        let mut partner = free;
        while let Some(asking) = asked_by[partner] {
            let given = gives_up[asking].filter(|_| asking != host);
            let Some(given) = given else {
                self.partners[asking].push(partner);
                return;
            };
            if let Some(slot) = self.partners[asking].iter().position(|one| *one == given) {
                self.partners[asking][slot] = partner;
            }
            partner = given;
        }
    }
}
