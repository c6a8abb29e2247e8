//! What a person reads: errors in words, and the version.

use std::ffi::{CStr, c_char, c_int};

use crate::boundary::boundary;

/// What an error of this library means, in words of this library. Takes what a function returned,
/// or the positive errno.
///
/// The text is static: nobody frees it, and it is never NULL. Does not block. Safe in a signal
/// handler, in a forked child and from any thread.
///
/// See also: errno(3), strerror(3).
#[unsafe(no_mangle)]
pub extern "C" fn sendfd_strerror(err: c_int) -> *const c_char {
    boundary(c"unknown error".as_ptr(), || describe(err).as_ptr())
}

/// What an errno means when it comes from this library, positive or negative.
fn describe(errno: i32) -> &'static CStr {
    match errno.saturating_abs() {
        0 => c"success",
        libc::EINVAL => {
            c"bad argument: a signal outside SIGRTMIN..SIGRTMAX, a pid below 1, no descriptors or more than 253, an unknown flag or size, a null pointer"
        }
        libc::EBADF => c"a descriptor is not open, or the receiver was inherited through fork or closed",
        libc::ESRCH => c"no such process, or it has exited",
        libc::ECONNREFUSED => c"the process lives but does not listen on this signal",
        libc::EPERM => {
            c"the target does not accept this sender, or no permitted path leads to it: sendfd_probe says why"
        }
        libc::EAGAIN => c"the target's queue is full (receiving: there is no message), and no timeout was given",
        libc::ETIMEDOUT => c"the timeout ran out",
        libc::ETOOMANYREFS => c"too many of this user's descriptors are in flight: raise RLIMIT_NOFILE or wait",
        libc::EMFILE => c"this process's descriptor table is full: close some or raise RLIMIT_NOFILE",
        libc::ENFILE => c"the system's table of open files is full",
        libc::ENOMEM => c"there is no memory, in the kernel or in this process",
        libc::EMSGSIZE => c"more than 1 MiB of data, or (receiving) the room lent is too small and the message stays",
        libc::EADDRINUSE => c"this process already listens on this signal",
        libc::EOPNOTSUPP => {
            c"this kernel or target does not offer the path that was insisted on, or data above 4096 bytes was to be sent where memfd_create is refused"
        }
        libc::EINTR => c"interrupted by a signal handler while waiting; nothing was sent or received",
        libc::ESHUTDOWN => c"the receiver has retired, and what was sent before has been received",
        libc::ENOTRECOVERABLE => c"a defect in libsendfd itself: please report it, with what it wrote to stderr",
        _ => c"an error of the kernel: see errno(3)",
    }
}

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no zero byte"),
    };

/// The version of the library that the program runs with, as "major.minor.patch".
///
/// The text is static: nobody frees it. Does not block. Safe in a signal handler, in a forked child
/// and from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn sendfd_version() -> *const c_char {
    boundary(c"".as_ptr(), || VERSION.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_can_be_described() {
        assert_eq!(describe(0), c"success");
        assert_eq!(describe(libc::ESRCH), describe(-libc::ESRCH));
        for odd in [1_000_000, i32::MIN, i32::MAX] {
            assert_eq!(describe(odd), c"an error of the kernel: see errno(3)");
        }
    }

    #[test]
    fn one_version() {
        assert_eq!(VERSION.to_str(), Ok(sendfd_core::VERSION));
    }
}
