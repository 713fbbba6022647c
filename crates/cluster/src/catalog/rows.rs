//! The rows of the tables as bytes, one by one and as lists.
//!
//! Guarantees: decoding is total; each row has one encoding. Not here: what they mean ([`super::tables`]).

use outrigger_wal::ContentId;

use super::tables::{
    Dbid, History, Host, Instance, MAX_HISTORY, MAX_HOSTS, MAX_INSTANCES, MAX_ROW_TEXT_BYTES,
    Preferred, Rebuild, Up, Wanted,
};
use crate::codec::{Put, Take};
use crate::error::CodecError;

const NAME: &str = "a name";
const TEXT: &str = "a text";
const PATH: &str = "a path";
const SETTING: &str = "the name of a setting";
const SETTINGS: &str = "the number of settings";
const HISTORY: &str = "the rows of history";
const MAX_SETTINGS: usize = 1024;
/// What a list of hosts, and one of instances, is called in an error.
pub(crate) const HOSTS: &str = "the number of hosts";
pub(crate) const INSTANCES: &str = "the number of instances";
/// The bytes of the smallest row of each table.
pub(crate) const HOST_BYTES: usize = 12;
pub(crate) const INSTANCE_BYTES: usize = 48;
const SETTING_BYTES: usize = 10;
const HISTORY_BYTES: usize = 12;

fn put_name(put: &mut Put, name: &str) {
    put.text(NAME, MAX_ROW_TEXT_BYTES, name);
}

fn take_name(take: &mut Take<'_>) -> Result<String, CodecError> {
    take.text(NAME, MAX_ROW_TEXT_BYTES)
}

fn put_option(put: &mut Put, name: Option<&String>) {
    put.flag(name.is_some());
    if let Some(name) = name {
        put_name(put, name);
    }
}

pub(crate) fn put_host(put: &mut Put, host: &Host) {
    put_name(put, &host.name);
    put.addresses(&host.addresses);
    put.addresses(&host.agent);
    put_option(put, host.rack.as_ref());
    put_option(put, host.storage.as_ref());
}

pub(crate) fn take_host(take: &mut Take<'_>) -> Result<Host, CodecError> {
    Ok(Host {
        name: take_name(take)?,
        addresses: take.addresses()?,
        agent: take.addresses()?,
        rack: take.option(take_name)?,
        storage: take.option(take_name)?,
    })
}

pub(crate) fn put_hosts<'a>(put: &mut Put, hosts: impl IntoIterator<Item = &'a Host>) {
    let hosts: Vec<_> = hosts.into_iter().collect();
    put.list(HOSTS, MAX_HOSTS, &hosts, |put, host| put_host(put, host));
}

pub(crate) fn take_hosts(take: &mut Take<'_>) -> Result<Vec<Host>, CodecError> {
    take.list(HOSTS, MAX_HOSTS, HOST_BYTES, take_host)
}

pub(crate) fn put_wanted(put: &mut Put, wanted: Wanted) {
    put.u8(match wanted {
        Wanted::Down => 1,
        Wanted::Up => 2,
        Wanted::Rebuild(Rebuild::Differential) => 3,
        Wanted::Rebuild(Rebuild::Full) => 4,
        Wanted::Gone => 5,
        Wanted::New => 6,
    });
}

pub(crate) fn take_wanted(take: &mut Take<'_>) -> Result<Wanted, CodecError> {
    Ok(match take.u8()? {
        1 => Wanted::Down,
        2 => Wanted::Up,
        3 => Wanted::Rebuild(Rebuild::Differential),
        4 => Wanted::Rebuild(Rebuild::Full),
        5 => Wanted::Gone,
        6 => Wanted::New,
        _ => return Err(CodecError::Malformed { what: "an unknown wish for an instance" }),
    })
}

pub(crate) fn put_instance(put: &mut Put, row: &Instance) {
    put.i32(row.content.0);
    put.u128(row.instance.0);
    put.u8(match row.preferred {
        Preferred::Primary => 1,
        Preferred::Mirror => 2,
    });
    put_name(put, &row.host);
    put.addresses(&row.addresses);
    put.text(PATH, MAX_ROW_TEXT_BYTES, &row.data_dir);
    put_wanted(put, row.wanted);
    put.u64(row.run);
    put.u64(row.max_rate_bytes);
}

pub(crate) fn take_instance(take: &mut Take<'_>) -> Result<Instance, CodecError> {
    Ok(Instance {
        content: ContentId(take.i32()?),
        instance: take.instance()?,
        preferred: match take.u8()? {
            1 => Preferred::Primary,
            2 => Preferred::Mirror,
            _ => return Err(CodecError::Malformed { what: "an unknown role" }),
        },
        host: take_name(take)?,
        addresses: take.addresses()?,
        data_dir: take.text(PATH, MAX_ROW_TEXT_BYTES)?,
        wanted: take_wanted(take)?,
        run: take.u64()?,
        max_rate_bytes: take.u64()?,
    })
}

pub(crate) fn put_instances<'a>(
    put: &mut Put,
    rows: impl IntoIterator<Item = (&'a Dbid, &'a Instance)>,
) {
    let rows: Vec<_> = rows.into_iter().collect();
    put.list(INSTANCES, MAX_INSTANCES, &rows, |put, (dbid, row)| {
        put.u16(dbid.0);
        put_instance(put, row);
    });
}

pub(crate) fn take_instances(take: &mut Take<'_>) -> Result<Vec<(Dbid, Instance)>, CodecError> {
    take.list(INSTANCES, MAX_INSTANCES, INSTANCE_BYTES, |take| {
        Ok((Dbid(take.u16()?), take_instance(take)?))
    })
}

pub(crate) fn put_setting(put: &mut Put, key: &str, value: u64) {
    put.text(SETTING, MAX_ROW_TEXT_BYTES, key);
    put.u64(value);
}

pub(crate) fn take_setting(take: &mut Take<'_>) -> Result<(String, u64), CodecError> {
    Ok((take.text(SETTING, MAX_ROW_TEXT_BYTES)?, take.u64()?))
}

pub(crate) fn put_settings<'a>(
    put: &mut Put,
    settings: impl IntoIterator<Item = (&'a String, &'a u64)>,
) {
    let settings: Vec<_> = settings.into_iter().collect();
    put.list(SETTINGS, MAX_SETTINGS, &settings, |put, (key, value)| {
        put_setting(put, key, **value);
    });
}

pub(crate) fn take_settings(take: &mut Take<'_>) -> Result<Vec<(String, u64)>, CodecError> {
    take.list(SETTINGS, MAX_SETTINGS, SETTING_BYTES, take_setting)
}

pub(crate) fn put_up(put: &mut Put, up: &Up) {
    match up {
        Up::Founding => put.u8(1),
        Up::Running => put.u8(2),
        Up::Stopped => put.u8(3),
        Up::ShutDown { why } => {
            put.u8(4);
            put.text(TEXT, MAX_ROW_TEXT_BYTES, why);
        }
    }
}

pub(crate) fn take_up(take: &mut Take<'_>) -> Result<Up, CodecError> {
    Ok(match take.u8()? {
        1 => Up::Founding,
        2 => Up::Running,
        3 => Up::Stopped,
        4 => Up::ShutDown { why: take.text(TEXT, MAX_ROW_TEXT_BYTES)? },
        _ => return Err(CodecError::Malformed { what: "an unknown state of the cluster" }),
    })
}

pub(crate) fn put_history(put: &mut Put, row: &History) {
    put.u64(row.at);
    put.u16(row.dbid.0);
    put.text(TEXT, MAX_ROW_TEXT_BYTES, &row.description);
}

pub(crate) fn take_history(take: &mut Take<'_>) -> Result<History, CodecError> {
    Ok(History {
        at: take.u64()?,
        dbid: Dbid(take.u16()?),
        description: take.text(TEXT, MAX_ROW_TEXT_BYTES)?,
    })
}

pub(crate) fn put_histories<'a>(put: &mut Put, rows: impl IntoIterator<Item = &'a History>) {
    let rows: Vec<_> = rows.into_iter().collect();
    put.list(HISTORY, MAX_HISTORY, &rows, |put, row| put_history(put, row));
}

pub(crate) fn take_histories(take: &mut Take<'_>) -> Result<Vec<History>, CodecError> {
    take.list(HISTORY, MAX_HISTORY, HISTORY_BYTES, take_history)
}
