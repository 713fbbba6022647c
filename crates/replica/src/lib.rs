//! One copy of one content: state machine, control file, safety rules, the state it drives.
//!
//! # Layout
//! - [`member`]: primary or mirror, restart, promotion, rejoin
//! - [`control`]: what an instance must not forget
//! - [`rules`]: the safety rules by name
//! - [`store`]: the state that the log drives, and the stores that keep it
//! - [`conformance`]: the suite that every store has to pass
#![forbid(unsafe_code)]

pub mod conformance;
pub mod control;
pub mod member;
pub mod rules;
pub mod store;
