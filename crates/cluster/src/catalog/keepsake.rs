//! What a coordinator leaves with every agent: the rows of its catalog, without configurations and history.
//!
//! Should the catalog be lost, these rows are the way back to hosts, places, preferred roles, settings and the map of rows;
//! configurations are what the instances have accepted, which is newer. Guarantees: decoding is total.
//! Not here: who keeps it ([`crate::agent`]), what is made of it ([`crate::rebuilding`]).

use bytes::Bytes;
use outrigger_wal::Lsn;

use super::image;
use super::state::State;
use crate::codec::{Put, Take};
use crate::error::CodecError;
use crate::voters::MAX_VOTERS;

const VERSION: u8 = 1;
const VOTERS: &str = "the number of voters";
const IMAGE: &str = "the rows of a catalog";
/// The longest that is left with an agent, in bytes.
pub const MAX_KEPT_BYTES: usize = 256 << 10;

/// The rows of a catalog, and who votes on its configuration.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Keepsake {
    /// The addresses of the voters' agents, one a network, in their fixed order.
    pub voters: Vec<Vec<String>>,
    /// Cluster, hosts, instances, settings, the map of rows, and whether it should be up. No contents, no history.
    pub rows: State,
}

impl Keepsake {
    /// What is to be left of this catalog.
    #[must_use]
    pub fn of(state: &State, voters: &[Vec<String>]) -> Self {
        let rows = State {
            cluster: state.cluster,
            hosts: state.hosts.clone(),
            instances: state.instances.clone(),
            settings: state.settings.clone(),
            up: state.up.clone(),
            map: state.map.clone(),
            planned: state.planned,
            ..State::default()
        };
        Self { voters: voters.to_vec(), rows }
    }

    /// The bytes of it.
    ///
    /// # Errors
    /// When there is more of anything than fits, [`MAX_KEPT_BYTES`] in all.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        put.list(VOTERS, MAX_VOTERS, &self.voters, |put, seat| put.addresses(seat));
        let image = image::encode(&self.rows, Lsn::ZERO)?;
        put.body(IMAGE, MAX_KEPT_BYTES, &image);
        put.done()
    }

    /// The keepsake in these bytes.
    ///
    /// # Errors
    /// When they are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut take = Take::versioned(bytes, VERSION)?;
        let voters = take.list(VOTERS, MAX_VOTERS, 4, Take::addresses)?;
        let image = take.body(IMAGE, MAX_KEPT_BYTES)?;
        take.end()?;
        let (rows, _) = image::decode(image)?;
        Ok(Self { voters, rows })
    }
}
