//! Where every content is, as this coordinator's catalog says: what its router is told.
//!
//! Not here: the catalog (cluster), the router ([`crate::kv::router`]).

use outrigger_cluster::catalog::Catalog;
use outrigger_cluster::coordinator::Identity;

use crate::kv::places::{Places, Seat};

/// Looks at what is applied.
pub(super) fn look(catalog: &Catalog, whose: Identity, serving: bool) -> Places {
    let Identity { cluster, instance, .. } = whose;
    if !serving {
        return Places::nowhere(cluster, instance);
    }
    let contents = catalog.read(|state| {
        let seats = state.contents.iter().filter_map(|(content, row)| {
            let config = row.register.config()?;
            let addresses = config.copy(config.primary)?.addresses.clone();
            let seat = Seat {
                primary: config.primary,
                addresses,
                epoch: config.epoch.number,
                version: config.version.0,
                acting: true,
            };
            Some((*content, seat))
        });
        seats.filter(|(content, _)| content.0 >= 0).collect()
    });
    let mut places = Places { serving, contents, ..Places::nowhere(cluster, instance) };
    places.buckets = catalog.read(|state| state.map.clone());
    places
}
