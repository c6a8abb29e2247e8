//! Peers of this crate.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::Path;

use sendfd_tests::{Peer, signal};

/// The paths that every kernel offers, and every receiver.
pub const PATHS: [&str; 2] = ["pidfd", "name"];

/// Whether this kernel has sendfd(2).
pub fn has_call() -> bool {
    Path::new("/proc/sys/kernel/pidfd_sendfd_nr").exists()
}

/// The paths to a target in signal mode: where the kernel has the call, that is all there is.
pub fn paths_to_signals() -> &'static [&'static str] {
    if has_call() { &["syscall"] } else { &PATHS }
}

/// How many descriptors a receiver owns.
pub const RECEIVER_COST: usize = 5;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_peer");

pub fn peer() -> Peer {
    Peer::start(Path::new(PROGRAM))
}

pub fn peer_as(uid: u32) -> Peer {
    Peer::start_as(Path::new(PROGRAM), uid)
}

/// A sender, and a target that listens: its pid and signal.
pub fn pair() -> (Peer, Peer, i32, i32) {
    let (sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig}"));
    (sender, target, pid, sig)
}
