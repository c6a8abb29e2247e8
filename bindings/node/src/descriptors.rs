//! Descriptors that JavaScript holds as numbers: borrowed for a call, or owned on its behalf.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use napi_derive::napi;

/// Borrows what the caller says is a descriptor. The core asks the kernel, which answers EBADF
/// where nothing is open.
#[allow(unsafe_code)]
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: `lib/` lets no negative number through, and the borrow ends with the call.
    unsafe { BorrowedFd::borrow_raw(fd.max(0)) }
}

/// The descriptors that one JavaScript environment received and has not passed on.
///
/// JavaScript objects go without notice when a worker thread is terminated. This is finalized with
/// the environment, and closes what they held.
#[napi]
#[derive(Clone, Default)]
pub struct Descriptors {
    owned: Rc<RefCell<HashSet<RawFd, BuildHasherDefault<Number>>>>,
}

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

    /// Lets go of `fd`, which is JavaScript's from now on. False if it was not owned.
    #[napi]
    pub fn release(&self, fd: i32) -> bool {
        self.give(fd).map(IntoRawFd::into_raw_fd).is_some()
    }

    pub(crate) fn take(&self, fd: OwnedFd) -> RawFd {
        let fd = fd.into_raw_fd();
        self.owned.borrow_mut().insert(fd);
        fd
    }

    #[allow(unsafe_code)]
    fn give(&self, fd: RawFd) -> Option<OwnedFd> {
        let owned = self.owned.borrow_mut().remove(&fd);
        // SAFETY: only `take` puts numbers there, and it owned the descriptor.
        owned.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // Receivers hold clones only for as long as a call lasts.
        if Rc::strong_count(&self.owned) == 1 {
            let fds: Vec<RawFd> = self.owned.borrow().iter().copied().collect();
            self.close(fds);
        }
    }
}

/// Closes a descriptor that is JavaScript's, or answers the negative errno.
#[napi]
#[allow(unsafe_code)]
pub fn close(fd: i32) -> i32 {
    // SAFETY: the caller owns the number. EBADF is answered, not undefined.
    match unsafe { libc::close(fd) } {
        0 => 0,
        _ => -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EBADF),
    }
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
