//! Which signals are addresses: the real-time ones, as this program's libc counts them.

use crate::error::Cause;

/// The lowest real-time signal that libc leaves to programs: 34 on glibc, 35 on musl.
///
/// # References
/// - [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html), "Real-time signals"
#[must_use]
pub fn rtmin() -> i32 {
    libc::SIGRTMIN()
}

/// The highest real-time signal: 64.
#[must_use]
pub fn rtmax() -> i32 {
    libc::SIGRTMAX()
}

/// The kernel's first real-time signal. libc keeps the lowest few for itself, how many depends on
/// the libc; what must be equal in two processes (addresses, marker slots) counts from here.
pub(crate) const KERNEL_RTMIN: i32 = 32;

/// How many real-time signals the kernel has.
pub(crate) const COUNT: usize = 33;

pub(crate) fn check(sig: i32) -> Result<(), Cause> {
    if (rtmin()..=rtmax()).contains(&sig) {
        Ok(())
    } else {
        Err(Cause::NotRealTime)
    }
}

/// The place of a checked signal in a table of [`COUNT`].
pub(crate) fn index(sig: i32) -> usize {
    usize::try_from(sig - KERNEL_RTMIN).unwrap_or(0)
}
