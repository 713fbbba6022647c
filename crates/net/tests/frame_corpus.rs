//! Replays the corpus of the fuzz target `frame`, and keeps the wire layout still: the corpus holds
//! one frame of each kind as the first release encodes it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../fuzz/bodies/frame.rs"]
mod frame;
mod samples;

use std::path::PathBuf;

use proptest::prelude::*;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/frame")
}

#[test]
fn the_fuzz_corpus_is_decoded_without_a_panic() {
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus()).unwrap() {
        frame::run(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= samples::all().len(), "only {replayed} inputs");
}

/// `OUTRIGGER_BLESS=1` writes the files: for a new message, never for a changed one.
#[test]
fn the_layout_on_the_wire_stays_as_released() {
    for (name, message, body) in samples::all() {
        let path = corpus().join(format!("kind_{name}"));
        let now = [&[1, 0][..], &samples::on_wire(&message, &body)].concat();
        if std::env::var_os("OUTRIGGER_BLESS").is_some() && !path.exists() {
            std::fs::create_dir_all(corpus()).unwrap();
            std::fs::write(&path, &now).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == now, "{name} is laid out differently");
    }
}

#[test]
fn the_table_of_messages_has_each_kind_once_under_its_name() {
    // A reader of the wire goes by docs/replication.md.
    let text = include_str!("../../../docs/replication.md");
    let table = text.split("### Messages").nth(1).unwrap().split("\n- ").next().unwrap();
    let rows: Vec<(u8, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?.parse().ok()?, cells.next()?))
        })
        .collect();
    let mut kinds: Vec<(u8, String)> = samples::all()
        .iter()
        .map(|(_, message, body)| {
            let name: String =
                format!("{message:?}").chars().take_while(char::is_ascii_alphanumeric).collect();
            (samples::on_wire(message, body)[6], name)
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    let kinds: Vec<(u8, &str)> = kinds.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    assert_eq!(rows, kinds);
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_a_panic(
        mode in 0_u8..4,
        piece: u8,
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        frame::run(&[&[mode, piece][..], &rest].concat());
    }

    #[test]
    fn any_mutation_of_a_sound_message_is_decoded_without_a_panic(
        which in 0..samples::all().len(),
        piece: u8,
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 0..4),
    ) {
        let (_, message, body) = &samples::all()[which];
        let wire = samples::on_wire(message, body);
        let meta_len = u32::from_le_bytes(wire[8..12].try_into().unwrap()) as usize;
        let mut input = vec![3, piece, wire[6]];
        input.extend_from_slice(&wire[32..32 + meta_len]);
        for (at, to) in changes {
            let at = 3 + usize::from(at) % meta_len;
            input[at] = to;
        }
        frame::run(&input);
    }
}
