//! Reads any bytes as heartbeat datagrams. Nothing may panic; what passes is what its encoding makes.

use outrigger_net::beat::{Beat, Ping};

/// One run of the target. The first byte: bit 0, the checksum at the end is made to fit.
pub(crate) fn run(data: &[u8]) {
    let [mode, datagram @ ..] = data else {
        return;
    };
    let mut datagram = datagram.to_vec();
    if mode & 1 == 1
        && let Some((fields, crc)) = datagram.split_last_chunk_mut::<4>()
    {
        *crc = crc32fast::hash(fields).to_le_bytes();
    }
    if let Ok(ping) = Ping::decode(&datagram) {
        assert_eq!(ping.encode()[..], datagram, "one ping has one encoding");
    }
    if let Ok(beat) = Beat::decode(&datagram) {
        assert_eq!(beat.encode()[..], datagram, "one beat has one encoding");
    }
}
