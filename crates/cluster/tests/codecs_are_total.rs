//! Records, requests, answers and checkpoints: what is written is read back, nothing else is, and no
//! bytes bring a decoder down.

mod support;

use bytes::Bytes;
use outrigger_cluster::CodecError;
use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::state::Standing;
use outrigger_cluster::catalog::tables::{
    Dbid, History, Host, Instance, Preferred, Rebuild, Up, Wanted,
};
use outrigger_cluster::catalog::{Catalog, Change, Record, Ticket};
use outrigger_cluster::operator::{
    Answer, ClusterState, ContentState, CopyRole, CopyState, Founding, HostState, InstanceState,
    Loss, Place, RecoverMode, Registration, Request,
};
use outrigger_cluster::register::{Proposer, Report};
use outrigger_cluster::slots::{Kind, MemorySlots, Saved};
use outrigger_net::config::{Config, Copy, Loss as AcceptedLoss, Rule, Version};
use outrigger_replica::rules::Rules;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};
use proptest::collection::vec;
use proptest::prelude::*;

fn an_instance() -> impl Strategy<Value = InstanceId> {
    any::<u128>().prop_map(InstanceId)
}

fn an_lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn)
}

fn a_promise() -> impl Strategy<Value = Promise> {
    (any::<u64>(), an_lsn()).prop_map(|(epoch, lsn)| Promise { epoch, lsn })
}

fn an_epoch() -> impl Strategy<Value = Epoch> {
    (any::<u64>(), any::<u128>()).prop_map(|(number, nonce)| Epoch { number, nonce })
}

fn addresses() -> impl Strategy<Value = Vec<String>> {
    vec("\\PC{0,20}", 0..4)
}

fn a_config() -> impl Strategy<Value = Config> {
    let copy = (an_instance(), addresses(), any::<(bool, bool)>(), a_promise()).prop_map(
        |(instance, addresses, (in_sync, held), durable)| Copy {
            instance,
            addresses,
            in_sync,
            held,
            durable,
        },
    );
    let loss = (an_instance(), any::<u64>(), an_lsn())
        .prop_map(|(instance, epoch, end)| AcceptedLoss { instance, epoch, end });
    let loss = proptest::option::of(loss);
    (any::<u64>(), an_epoch(), an_instance(), vec(copy, 0..5), loss).prop_map(
        |(version, epoch, primary, copies, loss)| Config {
            version: Version(version),
            epoch,
            primary,
            copies,
            rule: Rule::All,
            loss,
        },
    )
}

fn a_record() -> impl Strategy<Value = Record> {
    let report = (an_instance(), any::<u64>(), an_lsn())
        .prop_map(|(instance, epoch, durable)| Report { instance, epoch, durable });
    let proposer = prop_oneof![
        an_instance().prop_map(Proposer::Instance),
        Just(Proposer::Coordinator),
        Just(Proposer::Operator),
    ];
    let content = any::<i32>().prop_map(ContentId);
    let change = prop_oneof![
        any::<u128>().prop_map(|id| Change::Found { cluster: ClusterId(id) }),
        (content.clone(), any::<u128>(), any::<u64>(), a_config()).prop_map(
            |(content, log, segment_bytes, config)| Change::Create {
                content,
                log: LogId(log),
                segment_bytes,
                config
            }
        ),
        (content, any::<u64>(), a_config(), proposer, vec(report, 0..5)).prop_map(
            |(content, seen, new, proposer, reports)| Change::Swap {
                content,
                seen: Version(seen),
                new,
                proposer,
                reports
            }
        ),
    ];
    let change = prop_oneof![2 => change, 3 => a_table_change()];
    (any::<u64>(), any::<u64>(), any::<u64>(), change).prop_map(|(epoch, number, at, change)| {
        Record { ticket: Ticket { epoch, number }, at, change }
    })
}

fn a_row() -> impl Strategy<Value = Instance> {
    let wanted = prop_oneof![
        Just(Wanted::Down),
        Just(Wanted::New),
        Just(Wanted::Up),
        Just(Wanted::Rebuild(Rebuild::Differential)),
        Just(Wanted::Rebuild(Rebuild::Full)),
        Just(Wanted::Gone),
    ];
    let preferred = prop_oneof![Just(Preferred::Primary), Just(Preferred::Mirror)];
    let names = ("\\PC{0,20}", addresses(), "\\PC{0,20}");
    (any::<i32>(), an_instance(), preferred, names, wanted, any::<u64>(), any::<u64>()).prop_map(
        |(content, instance, preferred, names, wanted, run, max_rate_bytes)| {
            let (host, addresses, data_dir) = names;
            let content = ContentId(content);
            Instance {
                content,
                instance,
                preferred,
                host,
                addresses,
                data_dir,
                wanted,
                run,
                max_rate_bytes,
            }
        },
    )
}

fn an_up() -> impl Strategy<Value = Up> {
    prop_oneof![
        Just(Up::Founding),
        Just(Up::Running),
        Just(Up::Stopped),
        "\\PC{0,20}".prop_map(|why| Up::ShutDown { why }),
    ]
}

fn a_host() -> impl Strategy<Value = Host> {
    let name = "\\PC{0,20}";
    let maybe = proptest::option::of(name);
    (name, addresses(), addresses(), maybe.clone(), maybe).prop_map(
        |(name, addresses, agent, rack, storage)| Host { name, addresses, agent, rack, storage },
    )
}

fn a_founding() -> impl Strategy<Value = Founding> {
    let row = (any::<u16>(), a_row()).prop_map(|(dbid, row)| (Dbid(dbid), row));
    let settings = vec(("\\PC{0,20}", any::<u64>()), 0..4);
    (vec(a_host(), 0..4), vec(row, 0..4), any::<u64>(), settings).prop_map(
        |(hosts, rows, segment_bytes, settings)| Founding { hosts, rows, segment_bytes, settings },
    )
}

fn a_table_change() -> impl Strategy<Value = Change> {
    let name = "\\PC{0,20}";
    prop_oneof![
        a_host().prop_map(Change::PutHost),
        name.prop_map(|name| Change::RemoveHost { name }),
        (any::<u16>(), a_row())
            .prop_map(|(dbid, row)| Change::PutInstance { dbid: Dbid(dbid), row }),
        any::<u16>().prop_map(|dbid| Change::RemoveInstance { dbid: Dbid(dbid) }),
        (name, any::<u64>()).prop_map(|(key, value)| Change::Set { key, value }),
        an_up().prop_map(Change::SetUp),
        (any::<u16>(), name).prop_map(|(dbid, text)| Change::Note { dbid: Dbid(dbid), text }),
    ]
}

fn a_recover_mode() -> impl Strategy<Value = RecoverMode> {
    prop_oneof![Just(RecoverMode::Auto), Just(RecoverMode::Differential), Just(RecoverMode::Full)]
}

fn a_loss() -> impl Strategy<Value = Loss> {
    prop_oneof![Just(Loss::None), Just(Loss::Accepted), Just(Loss::AcceptedAndFenced)]
}

fn a_request() -> impl Strategy<Value = Request> {
    let content = any::<i32>().prop_map(ContentId);
    prop_oneof![
        (content.clone(), a_loss()).prop_map(|(content, loss)| Request::Promote { content, loss }),
        content.clone().prop_map(|content| Request::Recover { content }),
        Just(Request::State),
        a_founding().prop_map(Request::Found),
        a_founding().prop_map(Request::Expand),
        any::<bool>().prop_map(|force| Request::Activate { force }),
        (vec(content.clone(), 0..4), a_recover_mode(), any::<u64>()).prop_map(
            |(contents, mode, max_rate_bytes)| Request::BringBack {
                contents,
                mode,
                max_rate_bytes
            }
        ),
        Just(Request::Rebalance),
        Just(Request::Start),
        proptest::option::of("\\PC{0,20}").prop_map(|host| Request::Stop { host }),
        a_founding()
            .prop_map(|founding| Request::AddCopies { hosts: founding.hosts, rows: founding.rows }),
        vec(any::<u16>().prop_map(Dbid), 0..4).prop_map(|dbids| Request::DropCopies { dbids }),
        any::<u32>().prop_map(|limit| Request::History { limit }),
        ("\\PC{0,20}", any::<u64>()).prop_map(|(key, value)| Request::Set { key, value }),
        content.clone().prop_map(|content| Request::LookUp { content }),
        (content, an_instance(), addresses(), any::<u64>()).prop_map(
            |(content, instance, addresses, segment_bytes)| {
                Request::Register(Registration { content, instance, addresses, segment_bytes })
            }
        ),
    ]
}

fn a_content() -> impl Strategy<Value = ContentState> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let lsns = (an_lsn(), an_lsn(), an_lsn(), any::<u64>());
    let copy = (an_instance(), addresses(), flags, lsns).prop_map(
        |(
            instance,
            addresses,
            (primary, in_sync, held, in_touch),
            (durable, commit, applied, lag_bytes),
        )| {
            let role = if primary { CopyRole::Primary } else { CopyRole::Mirror };
            CopyState {
                instance,
                addresses,
                role,
                in_sync,
                held,
                in_touch,
                durable,
                commit,
                applied,
                lag_bytes,
            }
        },
    );
    let ids = (any::<i32>(), any::<u128>(), any::<u64>(), any::<u64>());
    (ids, an_epoch(), an_instance(), vec(copy, 0..4), "\\PC{0,20}").prop_map(
        |((content, log, segment_bytes, version), epoch, primary, copies, note)| ContentState {
            note,
            content: ContentId(content),
            log: LogId(log),
            segment_bytes,
            version: Version(version),
            epoch,
            primary,
            copies,
        },
    )
}

fn a_history() -> impl Strategy<Value = History> {
    (any::<u64>(), any::<u16>(), "\\PC{0,20}").prop_map(|(at, dbid, description)| History {
        at,
        dbid: Dbid(dbid),
        description,
    })
}

fn a_process() -> impl Strategy<Value = Process> {
    prop_oneof![
        Just(Process::Stopped),
        Just(Process::Starting),
        any::<u32>().prop_map(|pid| Process::Running { pid }),
        any::<(u64, u64)>()
            .prop_map(|(done_bytes, total_bytes)| Process::Rebuilding { done_bytes, total_bytes }),
        Just(Process::Rebuilt),
        "\\PC{0,20}".prop_map(|how| Process::Ended { how }),
        Just(Process::Gone),
    ]
}

fn a_state() -> impl Strategy<Value = ClusterState> {
    let standing = any::<(bool, bool, bool)>().prop_map(|(primary, synced, up)| Standing {
        role: if primary { 'p' } else { 'm' },
        mode: if synced { 's' } else { 'n' },
        status: if up { 'u' } else { 'd' },
    });
    let row = (
        any::<u16>(),
        a_row(),
        proptest::option::of(standing),
        proptest::option::of(a_process()),
        "\\PC{0,20}",
    );
    let row = row.prop_map(|(dbid, row, standing, process, seen)| InstanceState {
        dbid: Dbid(dbid),
        row,
        standing,
        process,
        seen,
    });
    let host =
        (a_host(), any::<bool>()).prop_map(|(host, agent_here)| HostState { host, agent_here });
    let settings = vec(("\\PC{0,20}", any::<u64>()), 0..4);
    let expanding = proptest::option::of(any::<(u32, u32)>());
    let ids = (any::<u128>(), any::<u64>(), an_up(), expanding);
    (ids, vec(a_content(), 0..4), vec(host, 0..4), vec(row, 0..4), settings).prop_map(
        |(ids, contents, hosts, instances, settings)| {
            let (cluster, coordinator_epoch, up, expanding) = ids;
            ClusterState {
                cluster: ClusterId(cluster),
                coordinator_epoch,
                up,
                contents,
                hosts,
                instances,
                settings,
                expanding,
            }
        },
    )
}

fn an_answer() -> impl Strategy<Value = Answer> {
    let ids = (any::<u128>(), any::<i32>(), any::<u128>(), any::<u64>(), any::<u64>());
    let place = (ids, a_config()).prop_map(
        |((cluster, content, log, segment_bytes, coordinator_epoch), config)| Place {
            cluster: ClusterId(cluster),
            content: ContentId(content),
            log: LogId(log),
            segment_bytes,
            coordinator_epoch,
            config,
        },
    );
    prop_oneof![
        "\\PC{0,50}".prop_map(|text| Answer::Denied { text }),
        (any::<i32>(), an_instance(), an_epoch(), any::<u64>()).prop_map(
            |(content, primary, epoch, version)| Answer::Promoted {
                content: ContentId(content),
                primary,
                epoch,
                version: Version(version)
            }
        ),
        (any::<bool>(), "\\PC{0,50}", a_content())
            .prop_map(|(done, text, content)| Answer::Recovery { done, text, content }),
        a_state().prop_map(Answer::State),
        "\\PC{0,50}".prop_map(|text| Answer::Done { text }),
        vec(a_history(), 0..4).prop_map(Answer::History),
        (any::<bool>(), place).prop_map(|(found, place)| {
            if found { Answer::Found(place) } else { Answer::Registered(place) }
        }),
    ]
}

/// Cut anywhere or with a byte behind, it is refused; with any byte changed it is refused or
/// means something that is written in just these bytes.
fn holds<T>(
    bytes: &Bytes,
    at: usize,
    to: u8,
    decode: impl Fn(&[u8]) -> Result<T, CodecError>,
    encode: impl Fn(&T) -> Result<Bytes, CodecError>,
) -> Result<(), TestCaseError> {
    for len in 0..bytes.len() {
        prop_assert!(decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let mut longer = bytes.to_vec();
    longer.push(to);
    prop_assert!(matches!(decode(&longer), Err(CodecError::Trailing)));
    let mut other = bytes.to_vec();
    let at = at % other.len();
    other[at] = to;
    if let Ok(meaning) = decode(&other) {
        prop_assert_eq!(encode(&meaning), Ok(Bytes::from(other)));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_record_is_read_back_and_nothing_else(
        record in a_record(), at in any::<usize>(), to in any::<u8>(),
    ) {
        let bytes = record.encode().unwrap();
        prop_assert_eq!(Record::decode(&bytes), Ok(record));
        holds(&bytes, at, to, Record::decode, Record::encode)?;
    }

    #[test]
    fn a_request_is_read_back_and_nothing_else(
        request in a_request(), at in any::<usize>(), to in any::<u8>(),
    ) {
        let bytes = request.encode().unwrap();
        prop_assert_eq!(Request::decode(&bytes), Ok(request));
        holds(&bytes, at, to, Request::decode, Request::encode)?;
    }

    #[test]
    fn an_answer_is_read_back_and_nothing_else(
        answer in an_answer(), at in any::<usize>(), to in any::<u8>(),
    ) {
        let bytes = answer.encode().unwrap();
        prop_assert_eq!(Answer::decode(&bytes), Ok(answer));
        holds(&bytes, at, to, Answer::decode, Answer::encode)?;
    }

    #[test]
    fn no_bytes_bring_a_decoder_down(mut bytes in vec(any::<u8>(), 0..300)) {
        for version in [None, Some(1)] {
            if let (Some(first), Some(version)) = (bytes.first_mut(), version) {
                *first = version;
            }
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), Ok(Bytes::copy_from_slice(&bytes)));
            }
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode(), Ok(Bytes::copy_from_slice(&bytes)));
            }
            if let Ok(answer) = Answer::decode(&bytes) {
                prop_assert_eq!(answer.encode(), Ok(Bytes::copy_from_slice(&bytes)));
            }
            let slots = MemorySlots::default();
            let (mut saved, _) = Saved::open(Box::new(slots.clone()), Kind::Catalog).unwrap();
            saved.save(&Bytes::copy_from_slice(&bytes)).unwrap();
            // Either it means something, or it is refused.
            if let Ok(catalog) = Catalog::open(Box::new(slots), Rules::all()) {
                prop_assert!(catalog.read(|state| state.contents.len()) < 10);
            }
        }
    }
}

#[test]
fn a_newer_version_is_refused_as_such() {
    for bytes in [[2, 1].as_slice(), &[2], &[255, 0, 0, 0]] {
        let found = bytes[0];
        let newer = CodecError::Newer { found, known: 1 };
        assert_eq!(Record::decode(bytes), Err(newer));
        assert_eq!(Request::decode(bytes), Err(newer));
        assert_eq!(Answer::decode(bytes), Err(newer));
    }
    assert_eq!(Request::decode(&[1, 77]), Err(CodecError::Kind { found: 77 }));
}

#[test]
fn what_is_too_long_is_refused_before_it_is_written_and_texts_are_cut() {
    let registration = |addresses| Registration { addresses, ..support::registration(support::A) };
    let many = Request::Register(registration(vec!["a:1".to_owned(); 17]));
    assert!(matches!(many.encode(), Err(CodecError::TooLong { found: 17, cap: 16, .. })));
    let long = Request::Register(registration(vec!["x".repeat(256)]));
    assert!(matches!(long.encode(), Err(CodecError::TooLong { found: 256, .. })));
    let text = "\u{e9}".repeat(3_000);
    let bytes = Answer::Denied { text }.encode().unwrap();
    let Ok(Answer::Denied { text }) = Answer::decode(&bytes) else { panic!("unreadable") };
    assert_eq!(text.len(), 4_096);
}

#[test]
fn a_count_that_the_bytes_cannot_hold_allocates_nothing() {
    // A registration that claims 16 addresses, and ends there.
    let mut bytes = vec![1, 5];
    bytes.extend_from_slice(&[0; 28]);
    bytes.extend_from_slice(&16_u32.to_le_bytes());
    assert_eq!(Request::decode(&bytes), Err(CodecError::Short));
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(Request::decode(&bytes), Err(CodecError::TooLong { .. })));
}
