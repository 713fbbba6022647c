//! Heartbeat datagrams: what is said arrives; anything else is refused, and panics nowhere.

#[path = "../../../fuzz/bodies/beat.rs"]
mod body;

use outrigger_net::beat::{
    BEAT_VERSION, Beat, BeatError, DATAGRAM_BYTES, Figures, Flapping, Phase, Ping,
};
use outrigger_net::config::Version;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, Lsn};
use proptest::prelude::*;

const PING: Ping = Ping {
    cluster: ClusterId(1),
    content: ContentId(2),
    from: InstanceId(3),
    to: InstanceId(4),
    counter: 5,
    coordinator_epoch: 6,
};

const BEAT: Beat = Beat {
    cluster: ClusterId(1),
    content: ContentId(2),
    instance: InstanceId(4),
    counter: 5,
    incarnation: 7,
    phase: Phase::Mirror,
    figures: Some(Figures {
        epoch: Epoch { number: 8, nonce: 9 },
        version: Version(10),
        durable: Lsn(4096),
        commit: Lsn(4096),
        applied: Lsn(4096),
    }),
    oldest_write_micros: Some(11),
    stream_age_micros: Some(12),
    probe_age_micros: Some(13),
    recovering_at: None,
    flapping: None,
    turns: 0,
};

/// One that counts its turns: what was sent before they were is read as not counting them.
const TURNING: Beat = Beat { turns: 14, ..BEAT };

fn resealed(mut datagram: Vec<u8>) -> Vec<u8> {
    let end = datagram.len() - 4;
    let crc = crc32fast::hash(&datagram[..end]);
    datagram[end..].copy_from_slice(&crc.to_le_bytes());
    datagram
}

#[test]
fn no_answer_is_longer_than_its_question() {
    assert_eq!(PING.encode().len(), BEAT.encode().len());
    const { assert!(DATAGRAM_BYTES < 512) };
}

#[test]
fn every_bit_flip_is_detected() {
    for bit in 0..DATAGRAM_BYTES * 8 {
        let (mut ping, mut beat) = (PING.encode(), BEAT.encode());
        ping[bit / 8] ^= 1 << (bit % 8);
        beat[bit / 8] ^= 1 << (bit % 8);
        assert!(Ping::decode(&ping).is_err(), "bit {bit}");
        assert!(Beat::decode(&beat).is_err(), "bit {bit}");
    }
}

#[test]
fn a_cut_datagram_is_refused_at_every_length() {
    let beat = BEAT.encode();
    for len in 0..beat.len() {
        assert!(Beat::decode(&beat[..len]).is_err(), "{len} bytes");
    }
    assert!(Beat::decode(&[&beat[..], &[0]].concat()).is_err());
}

#[test]
fn a_newer_layout_is_told_apart_from_damage() {
    let mut newer = BEAT.encode().to_vec();
    newer[4] = 2;
    let found = BeatError::Version { found: 2, known: BEAT_VERSION };
    assert_eq!(Beat::decode(&newer), Err(BeatError::Checksum));
    assert_eq!(Beat::decode(&resealed(newer.clone())), Err(found));
    // It may be longer, too.
    newer.resize(300, 0);
    assert_eq!(Beat::decode(&resealed(newer)), Err(found));
}

#[test]
fn a_question_is_no_answer_and_unknown_flags_are_refused() {
    assert!(matches!(Beat::decode(&PING.encode()), Err(BeatError::Malformed { .. })));
    assert!(matches!(Ping::decode(&BEAT.encode()), Err(BeatError::Malformed { .. })));
    for at in [7, DATAGRAM_BYTES - 5] {
        let mut odd = BEAT.encode().to_vec();
        odd[at] = 1;
        assert!(matches!(Beat::decode(&resealed(odd)), Err(BeatError::Malformed { .. })), "{at}");
    }
}

#[test]
fn what_is_not_known_stays_unknown() {
    let beat = Beat {
        phase: Phase::Recovering,
        figures: None,
        oldest_write_micros: None,
        stream_age_micros: None,
        probe_age_micros: None,
        ..BEAT
    };
    assert_eq!(Beat::decode(&beat.encode()), Ok(beat));
    // The longest age is an age all the same.
    let old = Beat { probe_age_micros: Some(u64::MAX), ..BEAT };
    let read = Beat::decode(&old.encode()).unwrap();
    assert_eq!(read.probe_age_micros, Some(u64::MAX - 1));
}

fn phases() -> impl Strategy<Value = Phase> {
    prop::sample::select(vec![
        Phase::Recovering,
        Phase::Waiting,
        Phase::Mirror,
        Phase::Rising,
        Phase::Primary,
        Phase::Down,
    ])
}

fn ages() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(0..u64::MAX)
}

prop_compose! {
    fn figures()(
        (number, nonce, version) in any::<(u64, u128, u64)>(),
        (durable, commit, applied) in any::<(u64, u64, u64)>(),
    ) -> Figures {
        Figures {
            epoch: Epoch { number, nonce },
            version: Version(version),
            durable: Lsn(durable),
            commit: Lsn(commit),
            applied: Lsn(applied),
        }
    }
}

prop_compose! {
    fn beats()(
        (cluster, content, instance) in any::<(u128, i32, u128)>(),
        (counter, incarnation) in any::<(u64, u64)>(),
        phase in phases(),
        figures in prop::option::of(figures()),
        (oldest_write_micros, stream_age_micros) in (ages(), ages()),
        (probe_age_micros, recovering_at) in (ages(), ages()),
        flapping in prop::option::of((any::<u128>(), 1_u32..)),
        turns in any::<u64>(),
    ) -> Beat {
        Beat {
            cluster: ClusterId(cluster),
            content: ContentId(content),
            instance: InstanceId(instance),
            counter,
            incarnation,
            phase,
            figures,
            oldest_write_micros,
            stream_age_micros,
            probe_age_micros,
            recovering_at: recovering_at.map(Lsn),
            flapping: flapping.map(|(copy, attempts)| Flapping { copy: InstanceId(copy), attempts }),
            turns,
        }
    }
}

proptest! {
    #[test]
    fn every_beat_survives_its_encoding(beat in beats()) {
        prop_assert_eq!(Beat::decode(&beat.encode()), Ok(beat));
    }

    #[test]
    fn every_ping_survives_its_encoding(
        (cluster, content, from, to) in any::<(u128, i32, u128, u128)>(),
        (counter, coordinator_epoch) in any::<(u64, u64)>(),
    ) {
        let ping = Ping {
            cluster: ClusterId(cluster),
            content: ContentId(content),
            from: InstanceId(from),
            to: InstanceId(to),
            counter,
            coordinator_epoch,
        };
        prop_assert_eq!(Ping::decode(&ping.encode()), Ok(ping));
    }

    #[test]
    fn any_bytes_are_decoded_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        body::run(&bytes);
    }

    #[test]
    fn any_mutation_of_a_sound_datagram_is_decoded_without_a_panic(
        beat in beats(),
        changes in prop::collection::vec((0..DATAGRAM_BYTES - 4, any::<u8>()), 0..4),
    ) {
        let mut bytes = beat.encode();
        for (at, to) in changes {
            bytes[at] = to;
        }
        // The first byte asks the body to make the checksum fit.
        body::run(&[&[1][..], &bytes].concat());
    }
}

#[test]
fn the_fuzz_corpus_is_decoded_without_a_panic() {
    let corpus =
        std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/beat");
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        body::run(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 2, "only {replayed} inputs");
}

/// The corpus holds the datagrams as the first release encodes them; `OUTRIGGER_BLESS=1` writes them
/// where they are missing.
#[test]
fn the_layout_on_the_wire_stays_as_released() {
    let corpus =
        std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/beat");
    let all = [("ping", PING.encode()), ("beat", BEAT.encode()), ("turning", TURNING.encode())];
    for (name, datagram) in all {
        let (path, now) = (corpus.join(name), [&[0][..], &datagram].concat());
        if std::env::var_os("OUTRIGGER_BLESS").is_some() && !path.exists() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(&path, &now).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == now, "{name} is laid out differently");
    }
}
