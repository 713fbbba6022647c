//! One copy of one content: state machine, control file, stores, and the runtime that drives them.
//!
//! # Layout
//! - [`member`]: primary or mirror, restart, promotion, rejoin
//! - [`control`]: what an instance must not forget
//! - [`fate`]: what became of a commit in doubt
//! - [`rules`]: the safety rules by name
//! - [`store`]: the state that the log drives, and the stores that keep it
//! - [`rebuild`]: a copy made anew from another one, differential or full
//! - [`runtime`]: a member over real files, sockets and threads
//! - [`conformance`]: the suite that every store has to pass
#![forbid(unsafe_code)]

pub mod conformance;
pub mod control;
mod epochs;
pub mod fate;
pub mod member;
pub mod reading_back;
pub mod rebuild;
pub mod rules;
pub mod runtime;
pub mod store;
