//! Ports that every libc counts alike.

use std::ffi::c_int;

use crate::boundary::{INVALID, status};

/// The real-time signal of port n, which is SIGRTMAX - n. SIGRTMIN is 34 in glibc and 35 in musl, so
/// SIGRTMIN + 1 names two ports; SIGRTMAX is 64 in both, so that sender and receiver agree.
///
/// n goes from 0 to 29. Returns the signal, or
///   -EINVAL  there is no such port
///
/// Does not block. Safe in a signal handler, in a forked child and from any thread.
///
/// See also: signal(7) "Real-time signals".
#[unsafe(no_mangle)]
pub extern "C" fn sendfd_port(n: c_int) -> c_int {
    status(|| {
        let number = u32::try_from(n).map_err(|_| INVALID)?;
        Ok(sendfd_core::Port::new(number)?.signal())
    })
}
