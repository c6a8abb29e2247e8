//! What neither rustix nor the standard library has a safe function for: descriptors that Python
//! names by number, the payload of signals, and which interpreter this is. The one file of this
//! crate that may say `unsafe`.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use pyo3::{Python, ffi};
use rustix::io::Errno;

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// A descriptor that the Python program named. Whether it is open, the kernel will say.
pub(crate) fn borrow<'a>(number: RawFd) -> BorrowedFd<'a> {
    assert!(number >= 0, "checked when it was extracted");
    // SAFETY: it is not -1. It is passed to the kernel as a number and nothing else is done with
    // it, so the worst that a number of something else does is to send that.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Which of the process's interpreters runs; the main one is 0.
pub(crate) fn interpreter_id(_py: Python<'_>) -> i64 {
    // SAFETY: this thread is attached to an interpreter, as `_py` proves.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) }
}

/// A set of signals.
#[derive(Clone, Copy)]
pub(crate) struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// `EINVAL` for what is no signal.
    pub(crate) fn new(signals: &[i32]) -> Result<Self, Errno> {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: sigemptyset initialises `set`, before sigaddset changes it.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for sig in signals {
                if libc::sigaddset(set.as_mut_ptr(), *sig) != 0 {
                    return Err(last_errno());
                }
            }
            Ok(SignalSet(set.assume_init()))
        }
    }
}

/// What a queued signal says.
pub(crate) struct SignalInfo {
    pub(crate) sig: i32,
    pub(crate) code: i32,
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    /// `si_value.sival_int`
    pub(crate) value: i32,
}

/// Takes a pending signal of `set`, for which it waits so long. EAGAIN: none came.
///
/// # References
/// - [sigtimedwait(2)](https://man7.org/linux/man-pages/man2/sigtimedwait.2.html)
pub(crate) fn take_signal(set: SignalSet, wait: Option<Duration>) -> Result<SignalInfo, Errno> {
    let time = wait.map(|time| libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `set` is initialised, `info` has room, `time` is null or points at a value that
    // lives during the call; the call fills `info`. Its fields are numbers, whichever are used.
    unsafe {
        let sig = libc::sigtimedwait(&raw const set.0, info.as_mut_ptr(), time);
        if sig < 0 {
            return Err(last_errno());
        }
        let info = info.assume_init();
        let value = info.si_value().sival_ptr as usize;
        Ok(SignalInfo {
            sig,
            code: info.si_code,
            pid: info.si_pid(),
            uid: info.si_uid(),
            // sival_int is the half of the pointer that stands first in memory.
            value: if cfg!(target_endian = "big") && size_of::<usize>() == 8 {
                (value >> (usize::BITS / 2)) as i32
            } else {
                value as i32
            },
        })
    }
}

/// A descriptor that is readable while a signal of `set` is pending: close-on-exec, non-blocking.
///
/// # References
/// - [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html)
pub(crate) fn signalfd(set: SignalSet) -> Result<OwnedFd, Errno> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: `set` is initialised.
    let number = unsafe { libc::signalfd(-1, &raw const set.0, flags) };
    if number < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel just put it into our table for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
