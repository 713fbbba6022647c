//! The control file keeps the newest configuration that a copy was told: a lost catalog is made anew from it. Files of a
//! release that kept none are read.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use outrigger_net::config::{Config, Copy, Loss, Rule, Version};
use outrigger_replica::control::{Control, ControlError};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, InstanceId, Lsn};

fn config() -> Config {
    let copy = |instance, in_sync| Copy {
        instance: InstanceId(instance),
        addresses: vec!["10.0.0.1:6000".to_owned(), "10.0.1.1:6000".to_owned()],
        in_sync,
        held: !in_sync,
        durable: Promise { epoch: 2, lsn: Lsn(4096) },
    };
    Config {
        version: Version(7),
        epoch: Epoch { number: 3, nonce: 99 },
        primary: InstanceId(1),
        copies: vec![copy(1, true), copy(2, false)],
        rule: Rule::All,
        loss: Some(Loss { instance: InstanceId(1), epoch: 3, end: Lsn(4096) }),
    }
}

#[test]
fn a_configuration_survives_the_control_file() {
    let control = Control { version: Version(8), config: Some(config()), ..Control::default() };
    assert_eq!(Control::decode(&control.encode(5)).unwrap(), (5, control));
}

#[test]
fn a_control_file_without_a_configuration_is_read() {
    let control = Control { version: Version(8), ..Control::default() };
    let (without, with) =
        (control.encode(5), Control { config: Some(config()), ..control.clone() }.encode(5));
    assert!(without.len() < with.len(), "nothing is written where there is none");
    assert_eq!(Control::decode(&without).unwrap(), (5, control));
}

#[test]
fn a_configuration_that_is_cut_or_damaged_is_damage() {
    let bytes = Control { config: Some(config()), ..Control::default() }.encode(5);
    for len in 0..bytes.len() {
        assert!(matches!(Control::decode(&bytes.slice(..len)), Err(ControlError::Damaged(_))));
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        assert!(Control::decode(&flipped.into()).is_err(), "byte {at}");
    }
}
