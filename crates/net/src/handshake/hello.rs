//! The two greetings: `Hello` as its receiver judges it, `Welcome` as its receiver does.
//!
//! Guarantees: the rows of `docs/replication.md`, in their order; the first that applies decides.
//! Not here: histories ([`super::compare`]).

use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

use crate::message::{Abilities, Envelope, Message, Reason, Role};

/// The smallest block cap that can be agreed on: a control block is one page.
pub const MIN_BLOCK_BYTES: u32 = 4096;

/// Who this side is, and what it can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its content.
    pub content: ContentId,
    /// Itself.
    pub instance: InstanceId,
    /// Its log; nil while it has none: it then takes the log of the primary that dials it.
    pub log: LogId,
    /// What it can do.
    pub abilities: Abilities,
}

/// What both sides can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The highest protocol version in common.
    pub protocol: u16,
    /// The features in common.
    pub features: u64,
    /// The highest block format in common; 0 where no blocks will flow.
    pub block_format: u16,
    /// The largest block that the primary sends; 0 where no blocks will flow.
    pub max_block_bytes: u32,
}

type Refusal = (Reason, String);

fn refuse<T>(reason: Reason, text: String) -> Result<T, Refusal> {
    Err((reason, text))
}

/// Judges a `Hello` on the side that was dialled.
///
/// # Errors
/// The reason of the first row that applies, and it in words; to be sent as `Refuse` and logged.
pub fn check_hello(me: &Identity, envelope: &Envelope, hello: &Message) -> Result<Chosen, Refusal> {
    let Message::Hello { role, from, to, log, abilities, .. } = hello else {
        return refuse(Reason::OutOfTurn, "the first message must be a Hello".to_owned());
    };
    same_place(me, envelope)?;
    let replicates = *role == Role::Primary;
    let meant_for_any = *to == InstanceId::default() && !replicates;
    if *to != me.instance && !meant_for_any {
        return refuse(
            Reason::WrongInstance,
            format!("this is instance {}, not {to}; check the addresses of both", me.instance),
        );
    }
    if replicates && (*from == me.instance || *from == InstanceId::default()) {
        return refuse(
            Reason::WrongInstance,
            format!("{from} cannot be the primary of instance {}", me.instance),
        );
    }
    if replicates || *log != LogId::default() {
        same_log(me, *log)?;
    }
    let blocks = if replicates { Blocks::FromThem } else { Blocks::None };
    agree(&me.abilities, abilities, blocks)
}

/// Judges what came in answer to `hello`, which was sent in the envelope `sent`.
///
/// # Errors
/// The reason of the first row that applies, and it in words; the connection is dropped.
pub fn check_welcome(
    me: &Identity,
    sent: &Envelope,
    hello: &Message,
    envelope: &Envelope,
    welcome: &Message,
) -> Result<Chosen, Refusal> {
    let Message::Hello { role, to: whom, .. } = hello else {
        return refuse(Reason::OutOfTurn, "no Hello was sent".to_owned());
    };
    let Message::Welcome { from, protocol, abilities, .. } = welcome else {
        return refuse(Reason::OutOfTurn, "a Hello is answered by Welcome or Refuse".to_owned());
    };
    same_place(me, envelope)?;
    if envelope.session != sent.session {
        return refuse(Reason::OutOfTurn, "the answer is to another session".to_owned());
    }
    if *whom != InstanceId::default() && from != whom {
        return refuse(
            Reason::WrongInstance,
            format!("instance {from} answered where {whom} was dialled; check the addresses"),
        );
    }
    let blocks = if *role == Role::Primary { Blocks::FromMe } else { Blocks::None };
    let chosen = agree(&me.abilities, abilities, blocks)?;
    if *protocol != chosen.protocol {
        return refuse(
            Reason::NoCommonVersion,
            format!("protocol {protocol} was chosen, {} is the best in common", chosen.protocol),
        );
    }
    Ok(chosen)
}

fn same_place(me: &Identity, envelope: &Envelope) -> Result<(), Refusal> {
    if envelope.cluster != me.cluster {
        return refuse(
            Reason::WrongCluster,
            format!("this is cluster {}, not {}", me.cluster, envelope.cluster),
        );
    }
    if envelope.content != me.content {
        return refuse(
            Reason::WrongContent,
            format!("this is content {}, not {}", me.content, envelope.content),
        );
    }
    Ok(())
}

fn same_log(me: &Identity, log: LogId) -> Result<(), Refusal> {
    if log == LogId::default() {
        return refuse(Reason::WrongLog, "a primary must name its log".to_owned());
    }
    if me.log != LogId::default() && me.log != log {
        return refuse(Reason::WrongLog, format!("this copy holds log {}, not {log}", me.log));
    }
    Ok(())
}

/// Who streams blocks to whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocks {
    None,
    FromThem,
    FromMe,
}

/// What two sides have in common.
fn agree(mine: &Abilities, theirs: &Abilities, blocks: Blocks) -> Result<Chosen, Refusal> {
    let Some(protocol) = common(mine.protocols, theirs.protocols) else {
        return refuse(
            Reason::NoCommonVersion,
            format!(
                "protocols {} here, {} there; upgrade the older side",
                range(mine.protocols),
                range(theirs.protocols)
            ),
        );
    };
    let my_features = mine.required_features | mine.optional_features;
    let their_features = theirs.required_features | theirs.optional_features;
    let unknown =
        (theirs.required_features & !my_features) | (mine.required_features & !their_features);
    if unknown != 0 {
        return refuse(
            Reason::UnknownFeature,
            format!("features {unknown:#x} are required by one side and unknown to the other"),
        );
    }
    let features = my_features & their_features;
    if blocks == Blocks::None {
        return Ok(Chosen { protocol, features, block_format: 0, max_block_bytes: 0 });
    }
    let Some(block_format) = common(mine.block_formats, theirs.block_formats) else {
        return refuse(
            Reason::NoCommonFormat,
            format!(
                "block formats {} here, {} there; upgrade the older side",
                range(mine.block_formats),
                range(theirs.block_formats)
            ),
        );
    };
    let (sent, taken) = match blocks {
        Blocks::FromMe => (mine.max_block_bytes, theirs.max_block_bytes),
        Blocks::FromThem | Blocks::None => (theirs.max_block_bytes, mine.max_block_bytes),
    };
    if sent > taken || sent < MIN_BLOCK_BYTES {
        return refuse(
            Reason::BlocksTooLarge,
            format!(
                "blocks of up to {} bytes here, {} there",
                mine.max_block_bytes, theirs.max_block_bytes
            ),
        );
    }
    Ok(Chosen { protocol, features, block_format, max_block_bytes: sent })
}

/// The highest value in both ranges.
fn common(mine: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = mine.1.min(theirs.1);
    (highest >= mine.0.max(theirs.0)).then_some(highest)
}

fn range((lowest, highest): (u16, u16)) -> String {
    format!("{lowest} to {highest}")
}
