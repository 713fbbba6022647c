//! What a model checker needs of a stream: a fingerprint.

use std::hash::{Hash, Hasher};

use super::Receiver;

impl Receiver {
    /// Everything that decides what it does.
    pub fn fingerprint<H: Hasher>(&self, into: &mut H) {
        let Self { primary, session, epoch, stage, told } = self;
        (primary, session, epoch, *stage as u8, told).hash(into);
    }
}
