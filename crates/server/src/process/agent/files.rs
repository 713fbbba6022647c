//! The configuration files that an agent starts its instances with.
//!
//! Guarantees: everything in them follows from the order. Not here: what the keys mean (config).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use outrigger_cluster::agent::Order;
use outrigger_cluster::catalog::tables::Dbid;
use outrigger_wal::disk::plain;

use crate::error::Error;

/// Writes the configuration of an instance; returns its path.
pub(super) fn write(
    folder: &Path,
    dbid: Dbid,
    cluster: outrigger_wal::ClusterId,
    order: &Order,
    log: &str,
) -> Result<PathBuf, Error> {
    let path = folder.join(format!("{dbid}.toml"));
    let failed = |cause| Error::file("cannot be written", &path, cause);
    fs::create_dir_all(folder).map_err(failed)?;
    // Whoever reads it meanwhile, a process that was just started above all, finds the old one or the new one: never a
    // part, and never none.
    let new = folder.join(format!("{dbid}.toml.new"));
    fs::write(&new, text(cluster, order, log)).map_err(failed)?;
    plain::replace(&new, &path)
        .map_err(|fault| failed(std::io::Error::other(fault.to_string())))?;
    Ok(path)
}

fn text(cluster: outrigger_wal::ClusterId, order: &Order, log: &str) -> String {
    let mut text = String::from("# Written by the agent at each start: changes are lost.\n");
    let mut key = |name: &str, value: String| text.push_str(&format!("{name} = {value}\n"));
    key("data_dir", quoted(&order.data_dir));
    key("listen", list(&listen(&order.addresses)));
    key("advertise", list(&order.addresses));
    let identity = format!(
        "{{ cluster = {}, content = {}, instance = {}, log = {} }}",
        quoted(&cluster.to_string()),
        order.content.0,
        quoted(&order.instance.to_string()),
        quoted(&order.log.to_string()),
    );
    key("identity", identity);
    if order.content.0 < 0 {
        key("coordinators", list(&order.coordinators));
        let voters: Vec<_> = order.voters.iter().map(|voter| list(voter)).collect();
        key("voters", format!("[{}]", voters.join(", ")));
    } else {
        key("coordinator", list(&order.coordinators));
        key("segment_bytes", order.segment_bytes.to_string());
    }
    for (name, value) in &order.settings {
        key(name, value.to_string());
    }
    key("log", quoted(log));
    text
}

/// Where an instance with these addresses listens.
///
/// With more than one: on all that the host has, so that one whose network comes up later is served without a restart,
/// and one that is missing keeps nobody from starting. Not so on loopback, where other hosts may use the same port:
/// there on each of its own.
fn listen(addresses: &[String]) -> Vec<String> {
    let of = |address: &String| address.parse::<SocketAddr>().ok();
    let is_shared = |at: SocketAddr| at.ip().is_loopback();
    let port = addresses.first().and_then(|first| first.rsplit_once(':'));
    match (addresses, port) {
        ([_, _, ..], Some((_, port)))
            if !addresses.iter().any(|address| of(address).is_some_and(is_shared)) =>
        {
            let v6 = addresses.iter().any(|address| of(address).is_some_and(|at| at.is_ipv6()));
            let any = if v6 { "[::]" } else { "0.0.0.0" };
            vec![format!("{any}:{port}")]
        }
        _ => addresses.to_vec(),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_cluster::catalog::tables::Wanted;
    use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

    fn order(content: i32) -> Order {
        Order {
            content: ContentId(content),
            instance: InstanceId(0xA),
            log: LogId(0xB),
            segment_bytes: 1 << 20,
            addresses: vec!["127.0.0.2:7001".to_owned(), "127.0.1.2:7001".to_owned()],
            data_dir: "/data/with \"quotes\"".to_owned(),
            wanted: Wanted::Up,
            run: 1,
            coordinators: vec!["127.0.0.1:7000".to_owned(), "127.0.0.2:7000".to_owned()],
            voters: vec![vec!["127.0.0.1:6900".to_owned(), "127.0.1.1:6900".to_owned()]],
            source: Vec::new(),
            max_rate_bytes: 0,
            settings: vec![("copy_grace_ms".to_owned(), 300)],
        }
    }

    #[test]
    fn an_instance_can_be_started_with_what_is_written() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = write(folder.path(), Dbid(2), ClusterId(0xC), &order(3), "warn")?;
        let config: crate::config::InstanceConfig = crate::config::read(&path)?;
        assert_eq!(config.data_dir, PathBuf::from("/data/with \"quotes\""));
        assert_eq!(config.coordinator.len(), 2);
        assert_eq!(config.copy_grace_ms, 300);
        assert_eq!(config.advertise.len(), 2);
        assert_eq!(config.listen, config.advertise);
        let identity = config.identity.ok_or("no identity")?;
        assert_eq!(identity.instance, InstanceId(0xA));
        assert_eq!(identity.content, 3);
        Ok(())
    }

    /// An agent started the coordinator, and wrote its configuration again at once; for a moment there was none, the
    /// process that was just started found nothing and ended, and no cluster came to be (once in some 80 times).
    #[test]
    fn who_reads_while_it_is_written_again_finds_one() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let again = || write(folder.path(), Dbid(2), ClusterId(0xC), &order(3), "warn");
        let path = again()?;
        let read = std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..500).try_for_each(|_| again().map(drop)));
            let mut read = Vec::new();
            while !writer.is_finished() {
                read.push(crate::config::read::<crate::config::InstanceConfig>(&path).map(drop));
            }
            writer.join().map(|written| (written, read))
        });
        let (written, read) = read.map_err(|_| "the writer panicked")?;
        written?;
        assert!(!read.is_empty());
        read.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }

    #[test]
    fn an_instance_on_two_networks_listens_on_both() {
        let at = |addresses: &[&str]| {
            listen(&addresses.iter().map(|at| (*at).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(at(&["10.0.0.1:6000", "10.0.1.1:6000"]), ["0.0.0.0:6000"]);
        assert_eq!(at(&["a:6000", "b:6000"]), ["0.0.0.0:6000"]);
        assert_eq!(at(&["[fd00::1]:6000", "10.0.1.1:6000"]), ["[::]:6000"]);
        // One address is what an administrator meant; on loopback the port is another host's too.
        assert_eq!(at(&["10.0.0.1:6000"]), ["10.0.0.1:6000"]);
        let both = ["127.0.0.1:6000", "127.0.1.1:6000"];
        assert_eq!(at(&both), both);
    }

    #[test]
    fn a_coordinator_can_be_started_with_what_is_written() -> Result<(), Box<dyn std::error::Error>>
    {
        let folder = tempfile::tempdir()?;
        let order = Order { settings: Vec::new(), ..order(-1) };
        let path = write(folder.path(), Dbid(1), ClusterId(0xC), &order, "warn")?;
        let config: crate::config::CoordinatorConfig = crate::config::read(&path)?;
        assert_eq!(config.voters, [["127.0.0.1:6900", "127.0.1.1:6900"]]);
        assert_eq!(config.identity.ok_or("no identity")?.log, LogId(0xB));
        Ok(())
    }
}
