//! The fixed head of a frame: 32 bytes that say how long the rest is, and are checked first.
//!
//! Guarantees: no length is believed before the head's own checksum fits; a newer layout is told
//! apart from garbage. Not here: the caps on the lengths ([`super::Limits`]).

use crate::error::Error;

/// The length of a frame's head.
pub const HEAD_BYTES: usize = 32;
/// A frame's first bytes. The first is no ASCII and no TLS record type, so that other protocols
/// fail on it.
pub const MAGIC: [u8; 4] = [0x8A, b'O', b'G', b'F'];
/// The layout of the head.
pub const FRAME_VERSION: u16 = 1;

/// A decoded head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) meta_len: u32,
    pub(crate) body_len: u32,
    pub(crate) meta_crc: u32,
}

impl Head {
    pub(crate) fn encode(self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&FRAME_VERSION.to_le_bytes());
        out[6] = self.kind;
        // 7: flags, all refused when unknown; none is known yet.
        out[8..12].copy_from_slice(&self.meta_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.body_len.to_le_bytes());
        out[16..20].copy_from_slice(&self.meta_crc.to_le_bytes());
        // 20..28: reserved, zeros.
        let crc = crc32fast::hash(&out[..28]);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, Error> {
        let magic = &bytes[0..4];
        if magic != MAGIC {
            return Err(Error::NotAFrame { found: magic.to_vec() });
        }
        // The checksum comes before the version: its place is the same in every version.
        if crc32fast::hash(&bytes[..28]) != le_u32(bytes, 28) {
            return Err(Error::HeadChecksum);
        }
        let found = u16::from_le_bytes([bytes[4], bytes[5]]);
        if found != FRAME_VERSION {
            return Err(Error::FrameVersion { found, known: FRAME_VERSION });
        }
        if bytes[7] != 0 || bytes[20..28] != [0; 8] {
            return Err(Error::UnknownFlags { flags: bytes[7] });
        }
        Ok(Self {
            kind: bytes[6],
            meta_len: le_u32(bytes, 8),
            body_len: le_u32(bytes, 12),
            meta_crc: le_u32(bytes, 16),
        })
    }
}

/// The fixed-size array makes every index here known to be in range.
const fn le_u32(bytes: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { kind: 8, meta_len: 100, body_len: 4096, meta_crc: 7 };

    #[test]
    fn every_bit_flip_of_a_head_is_detected() {
        let good = HEAD.encode();
        assert_eq!(Head::decode(&good).unwrap(), HEAD);
        for bit in 0..HEAD_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_layout_is_told_apart_from_garbage() {
        let mut newer = HEAD.encode();
        newer[4] = 2;
        let crc = crc32fast::hash(&newer[..28]);
        newer[28..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Head::decode(&newer), Err(Error::FrameVersion { found: 2, known: 1 })));
    }

    #[test]
    fn unknown_flags_and_reserved_bytes_are_refused() {
        for at in (7..8).chain(20..28) {
            let mut bad = HEAD.encode();
            bad[at] = 1;
            let crc = crc32fast::hash(&bad[..28]);
            bad[28..].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(Head::decode(&bad), Err(Error::UnknownFlags { .. })), "byte {at}");
        }
    }
}
