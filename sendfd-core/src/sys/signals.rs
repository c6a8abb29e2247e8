//! Signals of this process: who handles them, and queueing one to itself.

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::thread::JoinHandle;

use rustix::io::Errno;

use super::{check, generation};
use crate::credentials::Credentials;

/// What an arriving signal would do to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Terminate it, or nothing at all: nobody asked for the signal.
    Default,
    /// Run a handler.
    Handled,
}

/// # References
/// - [sigaction(2)](https://man7.org/linux/man-pages/man2/sigaction.2.html)
pub(crate) fn disposition(sig: i32) -> Result<Disposition, Errno> {
    Ok(match action(sig)?.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => Disposition::Default,
        _ => Disposition::Handled,
    })
}

fn action(sig: i32) -> Result<libc::sigaction, Errno> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; the kernel fills the second.
    check(unsafe { libc::sigaction(sig, ptr::null(), action.as_mut_ptr()) }.into())?;
    // SAFETY: filled by the successful call above.
    Ok(unsafe { action.assume_init() })
}

fn set_action(sig: i32, action: &libc::sigaction) -> Result<(), Errno> {
    // SAFETY: the structure is one that the kernel gave, so the handler in it is one that the program set.
    check(unsafe { libc::sigaction(sig, action, ptr::null_mut()) }.into()).map(drop)
}

/// The flag of sigaction(2) by which a process lets others send it files with the signal, on a kernel
/// that has sendfd(2).
const SA_EXPECTFD: libc::c_int = 0x1000;
/// Kernels clear the flags that they do not know, since 5.11; and always this one, which says so.
const SA_UNSUPPORTED: libc::c_int = 0x400;

/// Lets others send files with `sig`, whose action stays what it is. False if that cannot be: the kernel does
/// not know the flag, the signal is ignored, or its handler is one that is not told the number.
///
/// To be asked only of a kernel that has the call: on another, the flag may come to mean something else.
pub(crate) fn expect_fd(sig: i32) -> Result<bool, Errno> {
    let before = action(sig)?;
    let told = before.sa_flags & (libc::SA_SIGINFO | libc::SA_RESETHAND) == libc::SA_SIGINFO;
    match before.sa_sigaction {
        libc::SIG_IGN => return Ok(false),
        libc::SIG_DFL => {}
        _ if told => {}
        _ => return Ok(false),
    }
    let mut action = before;
    action.sa_flags |= SA_EXPECTFD | SA_UNSUPPORTED;
    set_action(sig, &action)?;
    let expects = expects_fd(sig)?;
    if !expects {
        set_action(sig, &before)?;
    }
    Ok(expects)
}

/// Whether others may send files with `sig`.
pub(crate) fn expects_fd(sig: i32) -> Result<bool, Errno> {
    Ok(action(sig)?.sa_flags & (SA_EXPECTFD | SA_UNSUPPORTED) == SA_EXPECTFD)
}

/// Takes the permission back. What was queued stays queued. Safe in a forked child.
pub(crate) fn expect_no_fd(sig: i32) {
    let expects = |action: &libc::sigaction| action.sa_flags & SA_EXPECTFD != 0;
    if let Some(mut action) = action(sig).ok().filter(expects) {
        action.sa_flags &= !SA_EXPECTFD;
        let _ = set_action(sig, &action);
    }
}

/// Whether the calling thread blocks `sig`.
pub(crate) fn is_blocked(sig: i32) -> bool {
    let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: asks only (no new mask); the call fills `mask`, which sigismember then reads.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) == 0
            && libc::sigismember(mask.as_ptr(), sig) == 1
    }
}

/// Runs `f` with all signals blocked in this thread, so that a thread it starts never handles any.
///
/// # References
/// - [pthread_sigmask(3)](https://man7.org/linux/man-pages/man3/pthread_sigmask.3.html)
pub(crate) fn with_signals_blocked<T>(f: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigfillset initialises `all`, and the call fills `before`.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = f();
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

/// Waits for a thread of this process that is about to end; `own` is the generation that started it. A child that a
/// handler forked meanwhile, and that comes back here, has no such thread and does not wait.
///
/// No handler runs in this thread while it waits: a child forked by one would be in the midst of joining.
pub(crate) fn join(thread: JoinHandle<()>, own: u32) {
    with_signals_blocked(|| {
        if generation() == own {
            // If it panicked, it has printed that.
            let _ = thread.join();
        } else {
            mem::forget(thread);
        }
    });
}

/// The kernel's siginfo_t for SI_QUEUE. libc's type hides the fields behind accessors.
#[repr(C)]
struct QueuedInfo {
    signo: i32,
    errno: i32,
    code: i32,
    // On 64-bit machines the union that follows is aligned to a pointer.
    #[cfg(target_pointer_width = "64")]
    padding: i32,
    pid: i32,
    uid: u32,
    value: SigVal,
    rest: [u8; QUEUED_INFO_REST],
}

/// sigval_t: the number stands where C's union has it, whatever the byte order.
#[repr(C)]
union SigVal {
    int: i32,
    ptr: *mut libc::c_void,
}

const QUEUED_INFO_REST: usize = if cfg!(target_pointer_width = "64") {
    96
} else {
    104
};

/// Queues `sig` to this process, with a descriptor's number as its value and the sender as its
/// origin. A process may say of a signal to itself where it came from.
///
/// EAGAIN when its queue is full (RLIMIT_SIGPENDING).
///
/// # References
/// - [rt_sigqueueinfo(2)](https://man7.org/linux/man-pages/man2/rt_sigqueueinfo.2.html)
pub(crate) fn queue_to_self(
    sig: i32,
    sender: Credentials,
    fd: BorrowedFd<'_>,
) -> Result<(), Errno> {
    // All of it set, for it is read as a pointer too.
    let mut value = SigVal {
        ptr: ptr::null_mut(),
    };
    value.int = fd.as_raw_fd();
    let info = QueuedInfo {
        signo: sig,
        errno: 0,
        code: libc::SI_QUEUE,
        #[cfg(target_pointer_width = "64")]
        padding: 0,
        pid: sender.pid as i32,
        uid: sender.uid,
        value,
        rest: [0; QUEUED_INFO_REST],
    };
    // SAFETY: `info` has the layout and the size (128) that the kernel reads.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigqueueinfo,
            libc::getpid(),
            sig,
            &raw const info,
        )
    } as i64)
    .map(drop)
}

const _: () = assert!(mem::size_of::<QueuedInfo>() == mem::size_of::<libc::siginfo_t>());
