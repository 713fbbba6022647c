//! The detector's settings, under WarehousePG's names where it has one.

/// When an instance counts as failed. Times in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DetectOptions {
    /// How often each instance is asked. Default 100.
    pub fts_probe_interval_millis: u64,
    /// How long an instance may be silent: half of it makes it suspect, all of it dead. Default 500.
    pub fts_probe_timeout_millis: u64,
    /// How many more refusals it takes, each asked for at once, after the first. A connection that was
    /// lost together with a refusal needs none. Default 1.
    pub fts_probe_retries: u32,
    /// How long a mirror may hear nothing from its primary before the state says that it is down. (How long
    /// commits wait for it is the primary's setting, `copy_grace_ms`.) Default 500.
    pub fts_mark_mirror_down_grace_period_millis: u64,
    /// How often a mirror may connect without ever catching up before it is dropped. Default 10.
    pub fts_replication_attempt_count: u32,
    /// How long a write to a disk may take before the disk counts as failed. Default 2,000.
    pub disk_probe_timeout_millis: u64,
    /// How long a recovery may read nothing more of the log than it ever had. Default 2,000.
    pub recovery_stall_millis: u64,
    /// How long an instance that this coordinator has never heard may take to start. Default 2,000.
    pub first_beat_millis: u64,
    /// How long the recorded primary may answer, open, without reigning and without getting on before its mirror
    /// is promoted. Default 10,000.
    pub serve_within_millis: u64,
    /// How long the threads that serve may not get on while the one that answers does. Default 3,000.
    pub stuck_millis: u64,
}

impl Default for DetectOptions {
    fn default() -> Self {
        Self {
            fts_probe_interval_millis: 100,
            fts_probe_timeout_millis: 500,
            fts_probe_retries: 1,
            fts_mark_mirror_down_grace_period_millis: 500,
            fts_replication_attempt_count: 10,
            disk_probe_timeout_millis: 2_000,
            recovery_stall_millis: 2_000,
            first_beat_millis: 2_000,
            serve_within_millis: 10_000,
            stuck_millis: 3_000,
        }
    }
}

/// The same in microseconds.
impl DetectOptions {
    pub(crate) const fn interval(&self) -> u64 {
        // Zero would ask without end.
        let millis =
            if self.fts_probe_interval_millis == 0 { 1 } else { self.fts_probe_interval_millis };
        millis.saturating_mul(1_000)
    }

    pub(crate) const fn timeout(&self) -> u64 {
        self.fts_probe_timeout_millis.saturating_mul(1_000)
    }

    pub(crate) const fn mirror_grace(&self) -> u64 {
        self.fts_mark_mirror_down_grace_period_millis.saturating_mul(1_000)
    }

    pub(crate) const fn disk_timeout(&self) -> u64 {
        self.disk_probe_timeout_millis.saturating_mul(1_000)
    }

    pub(crate) const fn stall(&self) -> u64 {
        self.recovery_stall_millis.saturating_mul(1_000)
    }

    pub(crate) const fn serve_within(&self) -> u64 {
        self.serve_within_millis.saturating_mul(1_000)
    }

    pub(crate) const fn stuck(&self) -> u64 {
        self.stuck_millis.saturating_mul(1_000)
    }

    pub(crate) fn first_beat(&self) -> u64 {
        self.first_beat_millis.saturating_mul(1_000).max(self.timeout())
    }
}
