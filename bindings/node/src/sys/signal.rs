//! A real-time signal as Node can take it: blocked in every thread, and read from a signalfd.
//!
//! Node's threads run before this is loaded, and block nothing. Another thread's signals can be blocked by a
//! handler that runs in it: it changes the mask that the thread goes on with. So each thread is sent the
//! signal once. Threads that are started later have the mask of those that start them.

use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long threads may take to run the handler. One that is traced or stopped may never do it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a signal says.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    /// `si_value.sival_int`
    pub(crate) value: i32,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) code: i32,
}

/// Blocks `sig` in all threads of this process, for good. `EADDRINUSE` if something else handles it;
/// `EAGAIN` if a thread does not get round to it.
pub(crate) fn block_everywhere(sig: i32) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes `set`; both actions are plain data, and the handler does only what a
    // handler may.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), sig);
        let mut action: libc::sigaction = mem::zeroed();
        let mut before: libc::sigaction = mem::zeroed();
        let ours = handler as *const () as usize;
        if libc::sigaction(sig, ptr::null(), &raw mut before) < 0 {
            return Err(io::Error::last_os_error());
        }
        if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != ours {
            return Err(Errno::ADDRINUSE.into());
        }
        action.sa_sigaction = ours;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        if libc::sigaction(sig, &raw const action, ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
    let end = Instant::now() + PATIENCE;
    // A thread may have been started behind a look, by one that did not block it yet. It is there at the
    // next.
    let mut clean = 0;
    while clean < 2 {
        if ask_threads(sig)? {
            clean = 0;
            if Instant::now() > end {
                return Err(Errno::AGAIN.into());
            }
            thread::sleep(Duration::from_millis(1));
        } else {
            clean += 1;
        }
    }
    Ok(())
}

/// Sends the signal to each thread that does not block it. Whether there was one.
fn ask_threads(sig: i32) -> io::Result<bool> {
    let mut found = false;
    for task in fs::read_dir("/proc/self/task")? {
        let name = task?.file_name();
        let Some(tid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that has ended meanwhile blocks enough.
        let Ok(status) = fs::read_to_string(format!("/proc/self/task/{tid}/status")) else {
            continue;
        };
        if !blocks(&status, sig) {
            found = true;
            // SAFETY: takes no pointer. That it fails is found at the next look.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, sig) };
        }
    }
    Ok(found)
}

/// Whether the thread of this status blocks `sig`, or has ended.
fn blocks(status: &str, sig: i32) -> bool {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let mask = field("SigBlk:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let has_ended = field("State:").is_some_and(|state| state.starts_with(['Z', 'X']));
    has_ended || mask.is_none_or(|mask| mask & (1 << (sig - 1)) != 0)
}

/// Blocks the signal in the thread that it came to. One with a value is not for this thread: it is queued
/// again, for the signalfd. Only system calls that a handler may make.
unsafe extern "C" fn handler(
    sig: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives a siginfo_t and a ucontext_t to handlers that were installed with
    // SA_SIGINFO. errno is this thread's, and put back as it was.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let context = &mut *context.cast::<libc::ucontext_t>();
        libc::sigaddset(&raw mut context.uc_sigmask, sig);
        if brings_descriptor((*info).si_code) {
            libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), sig, info);
        }
        *errno = before;
    }
}

/// A descriptor that is readable while `sig` is pending.
///
/// # References
/// - [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html)
pub(crate) fn signalfd(sig: i32) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes `set`; the number is the kernel's answer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), sig);
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        match libc::signalfd(-1, set.as_ptr(), flags) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next signal; nothing if none is pending.
pub(crate) fn take(signalfd: &OwnedFd) -> Option<Taken> {
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::read(signalfd, &mut bytes);
    if read != Ok(bytes.len()) {
        return None;
    }
    // SAFETY: so many bytes, which make numbers whatever they are.
    let info: libc::signalfd_siginfo = unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) };
    Some(Taken {
        value: info.ssi_int,
        pid: info.ssi_pid,
        uid: info.ssi_uid,
        code: info.ssi_code,
    })
}

/// Whether a signal with this `si_code` is one of signal mode: raised by the library's agent, or by a kernel
/// that has sendfd(2).
pub(crate) fn brings_descriptor(code: i32) -> bool {
    matches!(code, libc::SI_QUEUE | sendfd_core::SI_SENDFD)
}

/// Whether `fd` may be what a sender sent: open and close-on-exec. Who may signal this process may say any
/// number.
pub(crate) fn is_plausible(fd: RawFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC != 0
}
