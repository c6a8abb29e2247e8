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
    boundary(c"unknown error".as_ptr(), || {
        sendfd_core::describe(err).as_ptr()
    })
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
    #[test]
    fn one_version() {
        assert_eq!(super::VERSION.to_str(), Ok(sendfd_core::VERSION));
    }
}
