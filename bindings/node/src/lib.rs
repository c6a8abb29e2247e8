//! The addon below the npm package `sendfd`: what JavaScript cannot do itself, and no more.
//!
//! Arguments come checked from `lib/`; what fails in the core comes back as a [`Failure`], a value,
//! and becomes an `Error` there, where the stack of the caller is known.

pub mod descriptors;
pub mod failure;
pub mod kind;
pub mod pair;
pub mod poller;
pub mod probe;
pub mod receiver;
pub mod send;
mod signals;
mod sys;

use napi_derive::napi;

pub use failure::Failure;

/// How many descriptors one message can carry.
#[napi]
pub const MAX_FDS: u32 = sendfd_core::MAX_FDS as u32;

/// How many bytes of data one message can carry.
#[napi]
pub const MAX_DATA: u32 = sendfd_core::MAX_DATA as u32;

/// The first real-time signal.
#[napi]
pub fn rtmin() -> i32 {
    sendfd_core::rtmin()
}

/// The last real-time signal.
#[napi]
pub fn rtmax() -> i32 {
    sendfd_core::rtmax()
}

/// The version of the core.
#[napi]
pub fn version() -> &'static str {
    sendfd_core::VERSION
}
