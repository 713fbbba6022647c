//! What a model checker needs of a stream: a fingerprint without times and counts.

use std::hash::{Hash, Hasher};

use super::Sender;

impl Sender {
    /// Everything that decides what it does.
    pub fn fingerprint<H: Hasher>(&self, into: &mut H) {
        let Self { session, next, durable, applied, told_commit, reading, .. } = self;
        (self.stage as u8, session, next, durable, applied).hash(into);
        (told_commit, reading, self.owed.is_some()).hash(into);
        for (end, hash, _) in &self.unacked {
            (end, hash.0).hash(into);
        }
        self.unacked.len().hash(into);
    }
}
