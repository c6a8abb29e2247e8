//! The one folder that may say unsafe: numbers that are descriptors, Node-API's raw calls, libuv.
#![allow(unsafe_code)]

pub(crate) mod signal;
pub(crate) mod thread;
pub(crate) mod uv;

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use napi::bindgen_prelude::Uint32ArraySlice;
use napi::{Result, Status, sys};

/// Borrows what the caller says is a descriptor. The kernel, when it is asked, answers EBADF where
/// nothing is open.
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: not negative. No more is made of it than an argument of a call, during which JavaScript,
    // which could close it, does not run.
    unsafe { BorrowedFd::borrow_raw(fd.max(0)) }
}

/// Makes an owner of a number that [`IntoRawFd`](std::os::fd::IntoRawFd) gave.
pub(super) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: `Descriptors` alone calls this, with numbers that it took from an owner, once for each.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes a descriptor that is JavaScript's. Whether it was open is the caller's affair.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: takes no pointer. EBADF is answered where nothing is open.
    unsafe { libc::close(fd) };
}

/// The memory that JavaScript lends for a call.
pub(crate) fn lent<'a>(block: &'a mut Uint32ArraySlice<'_>) -> &'a mut [u32] {
    // SAFETY: `lib/` keeps the block to itself, and no JavaScript runs before the call returns.
    unsafe { block.as_mut() }
}

/// Runs `f` so that a thread it starts handles no signal: those are the program's.
fn with_signals_blocked<T>(f: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigfillset writes `all`, pthread_sigmask writes `before`.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = f();
    // SAFETY: written above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

/// A Node-API status as a result.
fn check(status: sys::napi_status, what: &str) -> Result<()> {
    match Status::from(status) {
        Status::Ok => Ok(()),
        status => Err(napi::Error::new(status, what)),
    }
}

/// What JavaScript threw out of a callback is nobody else's: an uncaught exception.
///
/// # Safety
/// On the environment's own thread, right after the call that answered `status`.
unsafe fn throw_uncaught(env: sys::napi_env, status: sys::napi_status) {
    if status != sys::Status::napi_pending_exception {
        return;
    }
    let mut exception = std::ptr::null_mut();
    // SAFETY: promised by the caller. While a thread is being terminated there is none.
    unsafe {
        if sys::napi_get_and_clear_last_exception(env, &raw mut exception) == sys::Status::napi_ok {
            sys::napi_fatal_exception(env, exception);
        }
    }
}
