//! Descriptors that JavaScript holds as numbers: borrowed for a call, or owned on its behalf.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use napi::Either;
use napi_derive::napi;

use crate::Failure;
use crate::sys::{self, borrow, own};

/// The descriptors that one JavaScript environment received and has not passed on.
///
/// JavaScript objects go without notice when a worker thread is terminated. This is finalized with
/// the environment, and closes what they held.
#[napi]
#[derive(Clone, Default)]
pub struct Descriptors(Rc<Owned>);

#[derive(Default)]
struct Owned(RefCell<HashSet<RawFd, BuildHasherDefault<Number>>>);

#[napi]
impl Descriptors {
    /// An empty set.
    #[napi(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes those of `fds` that are owned. The others are none of ours.
    #[napi]
    pub fn close(&self, fds: Vec<i32>) {
        for fd in fds {
            drop(self.give(fd));
        }
    }

    /// Another number for the open file that `fd` refers to, owned: whatever becomes of `fd`.
    #[napi]
    pub fn duplicate(&self, fd: i32) -> Either<i32, Failure> {
        match borrow(fd).try_clone_to_owned() {
            Ok(duplicate) => Either::A(self.take(duplicate)),
            Err(error) => Either::B(Failure {
                errno: -error.raw_os_error().unwrap_or(libc::EBADF),
                message: format!("cannot hold descriptor {fd} while it waits to be sent: {error}"),
                hint: None,
            }),
        }
    }

    /// Lets go of `fd`, which is JavaScript's from now on. False if it was not owned.
    #[napi]
    pub fn release(&self, fd: i32) -> bool {
        self.give(fd).map(IntoRawFd::into_raw_fd).is_some()
    }

    pub(crate) fn take(&self, fd: OwnedFd) -> RawFd {
        let fd = fd.into_raw_fd();
        self.0.0.borrow_mut().insert(fd);
        fd
    }

    fn give(&self, fd: RawFd) -> Option<OwnedFd> {
        self.0.0.borrow_mut().remove(&fd).then(|| own(fd))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        for fd in self.0.borrow_mut().drain() {
            drop(own(fd));
        }
    }
}

/// Closes a descriptor that is JavaScript's.
#[napi]
pub fn close(fd: i32) {
    sys::close(fd);
}

/// Descriptor numbers are small and differ in their low bits: they need no hashing to speak of.
#[derive(Default)]
pub struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_i32(&mut self, number: i32) {
        // hashbrown takes the bucket from the low bits and a tag from the high ones.
        self.0 = u64::from(number.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
