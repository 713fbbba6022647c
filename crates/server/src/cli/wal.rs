//! `outrigger wal`.

use std::path::PathBuf;

use clap::Subcommand;
use outrigger_wal::Lsn;

use crate::error::{Error, Verdict};
use crate::inspect::{self, DumpOptions};

#[derive(Debug, Subcommand)]
pub(super) enum Wal {
    /// Print the blocks of a log, and the records in them
    ///
    /// With --json an object a block: lsn, end, epoch, kind, stored_len, records. A record: lsn, end,
    /// len, crc32 (CRC-32 IEEE) and, with --data, data in base64. LSNs are plain integers.
    Dump {
        /// A data directory, or the folder wal/ of one
        dir: PathBuf,
        /// Begin with the block that holds this LSN, as 4096 or 0/1000 (hexadecimal)
        #[arg(long, value_name = "LSN", value_parser = lsn)]
        from: Option<Lsn>,
        /// At most so many blocks
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Records with their bytes
        #[arg(long)]
        data: bool,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check every stored byte of a log; exit code 1 when it is not sound
    Verify {
        /// A data directory, or the folder wal/ of one
        dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

impl Wal {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        match self {
            Self::Dump { dir, from, limit, data, json } => {
                inspect::dump(&dir, DumpOptions { from, limit, data, json })
            }
            Self::Verify { dir, json } => inspect::verify(&dir, json),
        }
    }
}

/// An LSN as a plain integer, or as two hexadecimal numbers X/Y, as it is printed.
fn lsn(text: &str) -> Result<Lsn, String> {
    let found = match text.split_once('/') {
        None => text.parse().ok(),
        Some((high, low)) => {
            let part = |hex: &str| {
                let plain = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
                plain.then(|| u32::from_str_radix(hex, 16).ok()).flatten().map(u64::from)
            };
            part(high).zip(part(low)).map(|(high, low)| high << 32 | low)
        }
    };
    found.map(Lsn).ok_or_else(|| "give an integer, or X/Y in hexadecimal".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_is_read_as_it_is_printed_and_as_an_integer() {
        for at in [0, 4096, 1 << 32, u64::MAX] {
            assert_eq!(lsn(&at.to_string()), Ok(Lsn(at)));
            assert_eq!(lsn(&Lsn(at).to_string()), Ok(Lsn(at)));
        }
        for bad in ["", "/", "x", "-1", "1/", "0/100000000", "+1/+1", "18446744073709551616"] {
            assert!(lsn(bad).is_err(), "{bad}");
        }
    }
}
