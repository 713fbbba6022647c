//! How much memory a process holds, as the system counts it.

/// Anonymous and shared memory in the text of `/proc/PID/status`, in bytes.
pub(crate) fn anonymous_bytes(status: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Some((kib("RssAnon:")? + kib("RssShmem:")?) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_and_shared_memory_are_added_up() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nRssAnon:\t     156 kB\nRssFile:\t 2 kB\nRssShmem:\t  4 kB\n";
        assert_eq!(anonymous_bytes(status), Some(160 * 1024));
        assert_eq!(anonymous_bytes("Name:\tzombie\n"), None);
    }
}
