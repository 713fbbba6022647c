//! How the cluster looks from here: for `outrigger state` and `outrigger recover`.

use outrigger_wal::ContentId;

use super::Coordinator;
use crate::catalog::Content;
use crate::operator::{Answer, ClusterState, ContentState, CopyRole, CopyState};

impl Coordinator {
    /// Every content, its copies, and what they reported last.
    #[must_use]
    pub fn state(&self) -> ClusterState {
        let contents = self.catalog.read(|state| {
            let rows = state.contents.iter();
            rows.filter_map(|(id, row)| self.content_state(*id, row)).collect()
        });
        ClusterState {
            cluster: self.identity.cluster,
            coordinator_epoch: self.serving().unwrap_or_default().number,
            contents,
        }
    }

    fn content_state(&self, content: ContentId, row: &Content) -> Option<ContentState> {
        let config = row.register.config()?;
        let figures_of = |instance| self.figures.get(&(content, instance)).copied();
        let durable_of = |instance| {
            figures_of(instance)
                .map_or_else(|| row.register.heard(instance).lsn, |figures| figures.durable)
        };
        let newest = durable_of(config.primary);
        let copies = config.copies.iter().map(|copy| {
            let instance = copy.instance;
            let figures = figures_of(instance).unwrap_or_default();
            let durable = durable_of(instance);
            CopyState {
                instance,
                addresses: copy.addresses.clone(),
                role: if instance == config.primary { CopyRole::Primary } else { CopyRole::Mirror },
                in_sync: copy.in_sync,
                in_touch: self.in_touch(content, instance),
                durable,
                commit: figures.commit,
                applied: figures.applied,
                lag_bytes: newest.since(durable),
            }
        });
        Some(ContentState {
            content,
            log: row.log,
            segment_bytes: row.segment_bytes,
            version: config.version,
            epoch: config.epoch,
            primary: config.primary,
            copies: copies.collect(),
        })
    }

    /// What keeps a content's copies from being in sync.
    pub(super) fn recovery(&self, content: ContentId) -> Option<Answer> {
        let state = self.catalog.read(|state| {
            let row = state.contents.get(&content)?;
            self.content_state(content, row)
        })?;
        let done = state.copies.iter().all(|copy| copy.in_sync);
        let primary_here =
            state.copies.iter().any(|copy| copy.role == CopyRole::Primary && copy.in_touch);
        let mut lines = Vec::new();
        if !primary_here {
            let primary = state.primary;
            lines.push(format!("the primary {primary} is out of touch: start it, or promote"));
        }
        for copy in state.copies.iter().filter(|copy| !copy.in_sync) {
            let (instance, lag) = (copy.instance, copy.lag_bytes);
            lines.push(if copy.in_touch {
                format!("{instance} is brought in sync by its primary, {lag} bytes behind")
            } else {
                format!("{instance} is out of touch: start its instance")
            });
        }
        if done {
            lines.push("all copies are in sync".to_owned());
        }
        Some(Answer::Recovery { done, text: lines.join("; "), content: state })
    }
}
