//! One copy of one content: state machine, control file, safety rules.
//!
//! # Layout
//! - [`member`]: primary or mirror, restart, promotion, rejoin
//! - [`control`]: what an instance must not forget
//! - [`rules`]: the safety rules by name
#![forbid(unsafe_code)]

pub mod control;
pub mod member;
pub mod rules;
