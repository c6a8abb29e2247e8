//! Peers of this crate.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sendfd_core::{Paths, Port};
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

/// The port of [`pair`].
pub fn port() -> Port {
    Port::from_signal(signal(0)).expect("a port")
}

/// A path alone, by its name.
pub fn path(name: &str) -> Paths {
    let mut all = sendfd_core::Path::ALL.into_iter();
    all.find(|path| path.as_str() == name)
        .expect("a path")
        .into()
}

/// Runs `f` in a child, by fork(2) or by a clone(2) that runs no handlers, and waits for it.
pub fn in_child(raw: bool, f: impl FnOnce()) {
    let mut status = 0;
    // SAFETY: the child ends before anything of the parent's is dropped.
    unsafe {
        let child = if raw {
            libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32
        } else {
            libc::fork()
        };
        if child == 0 {
            let result = catch_unwind(AssertUnwindSafe(f));
            libc::_exit(i32::from(result.is_err()));
        }
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
    }
    assert_eq!(status, 0, "the child's part failed");
}
