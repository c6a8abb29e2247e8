//! Where Rust ends: the one conversion from results to C, and the one place that stops a panic.

use std::ffi::c_int;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A positive errno, on its way to C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// What C is told of a panic: a defect of this library, of which the caller can only be warned.
pub(crate) const PANICKED: Errno = Errno(libc::ENOTRECOVERABLE);

pub(crate) const INVALID: Errno = Errno(libc::EINVAL);
pub(crate) const BAD_DESCRIPTOR: Errno = Errno(libc::EBADF);
pub(crate) const NO_MEMORY: Errno = Errno(libc::ENOMEM);
pub(crate) const TOO_LONG: Errno = Errno(libc::EMSGSIZE);

impl From<sendfd_core::Error> for Errno {
    fn from(error: sendfd_core::Error) -> Self {
        Errno(error.raw_os_error())
    }
}

/// Runs the body of a function that returns a number or a negative errno.
pub(crate) fn status(body: impl FnOnce() -> Result<c_int>) -> c_int {
    boundary(-PANICKED.0, || match body() {
        Ok(number) => number,
        Err(Errno(errno)) => -errno,
    })
}

/// Runs the body of a function; returns `panicked` if it panics.
pub(crate) fn boundary<T>(panicked: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(answer) => answer,
        Err(payload) => {
            // Its destructor could panic once more.
            mem::forget(payload);
            panicked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_numbers() {
        assert_eq!(status(|| Ok(3)), 3);
        assert_eq!(status(|| Err(INVALID)), -libc::EINVAL);
    }

    #[test]
    fn a_panic_stops_here() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a payload that panics again");
            }
        }

        assert_eq!(status(|| panic!("on purpose")), -libc::ENOTRECOVERABLE);
        assert_eq!(
            status(|| std::panic::panic_any(Bomb)),
            -libc::ENOTRECOVERABLE
        );
        assert_eq!(boundary(7, || panic!("on purpose")), 7);
        extern "C" fn from_c() -> c_int {
            status(|| panic!("on purpose"))
        }
        assert_eq!(from_c(), -libc::ENOTRECOVERABLE);
    }
}
