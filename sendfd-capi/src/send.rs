//! Sending: with one call, or to a target that was opened.

use std::ffi::{c_int, c_void};

use libc::{pid_t, size_t};
use sendfd_core::{Path, Paths, Port, SendOptions, Target, TargetOptions, Wait, WaitFor};

use crate::boundary::{INVALID, Result, boundary, status};
use crate::lent::{self, Growing, end_of};
use crate::memory;

/// How many descriptors a message carries at most: one less beside more than 4096 bytes of data.
pub const SENDFD_MAX_FDS: usize = 253;

/// How many bytes of data a message carries at most. What is above 4096 travels in a sealed memfd,
/// which is one of the SENDFD_MAX_FDS.
pub const SENDFD_MAX_DATA: usize = 1048576;

/// sendfd(2), on a kernel that has it.
pub const SENDFD_PATH_SYSCALL: u32 = 1;

/// The sender fetches the sending end of the target's inbox with pidfd_getfd(2).
pub const SENDFD_PATH_PIDFD: u32 = 2;

/// The sender connects to the inbox's abstract address.
pub const SENDFD_PATH_NAME: u32 = 4;

/// For sendfd_options.flags: timeout_ms is for room only. A target that does not listen is
/// -ECONNREFUSED at once, so that one which lives but has lost its receiver does not cost the whole
/// timeout.
pub const SENDFD_WAIT_ROOM: u32 = 1;

// The header takes literals only.
const _: () = assert!(
    SENDFD_MAX_FDS == sendfd_core::MAX_FDS
        && SENDFD_MAX_DATA == sendfd_core::MAX_DATA
        && SENDFD_PATH_SYSCALL == Path::Syscall as u32
        && SENDFD_PATH_PIDFD == Path::Pidfd as u32
        && SENDFD_PATH_NAME == Path::Name as u32
);

/// What goes with the descriptors, and how they are sent. Wherever one is taken, NULL means the
/// defaults, which are all zero but for the size.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct sendfd_options {
    /// sizeof(sendfd_options).
    pub size: u32,
    /// The paths that may be used, SENDFD_PATH_* or'ed together. 0: all. If none of these leads to the
    /// target, no other is tried.
    pub paths: u32,
    /// How long to wait, in milliseconds: for the target to start listening, for room in its queue,
    /// and for descriptors in flight. 0: not at all. -1: without limit. What is sent is what the
    /// numbers meant when the call was made: a send that has to wait duplicates each descriptor first,
    /// and fails with -EMFILE when the descriptor table is full.
    pub timeout_ms: i32,
    /// The length of data in bytes, at most SENDFD_MAX_DATA. Above 4096 the library makes a memfd for
    /// it, which both processes need a free number for as long as they hold it.
    pub data_len: u32,
    /// Bytes for the receiver. May be NULL if data_len is 0.
    pub data: *const c_void,
    /// A number for the receiver.
    pub tag: u64,
    /// 0, or SENDFD_WAIT_ROOM.
    pub flags: u32,
    /// 0. For later.
    pub reserved: u32,
}

// SAFETY: it is repr(C), starts with its size, and consists of numbers and a pointer.
unsafe impl Growing for sendfd_options {
    const FIRST: usize = end_of!(sendfd_options, tag: u64);
}

/// A process, at one of its signals, opened for sending. It costs one descriptor of this process, which
/// is close-on-exec. A program that closes descriptors that it did not open must close its targets
/// first: see the beginning of this file.
pub struct sendfd_target(Target);

/// The options that C lent, checked.
#[derive(Default)]
struct Lent<'a> {
    paths: Paths,
    wait: Wait,
    wait_for: WaitFor,
    tag: u64,
    data: &'a [u8],
}

impl<'a> Lent<'a> {
    fn send(&self) -> SendOptions<'a> {
        SendOptions::new()
            .paths(self.paths)
            .wait(self.wait)
            .wait_for(self.wait_for)
            .tag(self.tag)
            .data(self.data)
    }

    fn target(&self) -> TargetOptions {
        TargetOptions::new()
            .paths(self.paths)
            .wait(self.wait)
            .wait_for(self.wait_for)
    }
}

/// # Safety
/// What the header requires of options holds for `at`, see `lent`.
unsafe fn options<'a>(at: *const sendfd_options) -> Result<Lent<'a>> {
    if at.is_null() {
        return Ok(Lent::default());
    }
    // SAFETY: by the contract `at` leads to options that are as long as they say, and data in them to
    // data_len bytes.
    let (options, data) = unsafe {
        let options = lent::read(at)?;
        (options, lent::data(options.data, options.data_len)?)
    };
    if options.reserved != 0 {
        return Err(INVALID);
    }
    Ok(Lent {
        paths: lent::paths(options.paths)?,
        wait: lent::wait(options.timeout_ms)?,
        wait_for: match options.flags {
            0 => WaitFor::Listening,
            SENDFD_WAIT_ROOM => WaitFor::Room,
            _ => return Err(INVALID),
        },
        tag: options.tag,
        data,
    })
}

/// Sends a duplicate of fd to process pid, which listens on the real-time signal sig (SIGRTMIN to
/// SIGRTMAX).
///
/// Once it returns 0, the kernel holds the duplicate for the target: the caller may close fd, exit
/// or be killed at once. fd is only borrowed. On an error nothing was sent, and nothing is left
/// behind in either process.
///
/// Returns 0, or
///   -EINVAL        sig is not a real-time signal, pid is below 1, or the environment's
///                  SENDFD_PATHS names no path
///   -EBADF         fd is not open
///   -ESRCH         no such process, or it has exited
///   -ECONNREFUSED  the process lives but does not listen on sig
///   -EPERM         the target does not accept this process's user, or every path to it is
///                  forbidden: sendfd_probe says why
///   -EAGAIN        the target's queue is full
///   -ETOOMANYREFS  too many of this user's descriptors are in flight (RLIMIT_NOFILE)
///   -EOPNOTSUPP    the paths of SENDFD_PATHS are not offered by this kernel or target
///   -EMFILE, -ENFILE, -ENOMEM  as the kernel says
///   -ENOTRECOVERABLE  a defect in this library; it is not known whether fd was sent
///
/// Does not block. Safe from any thread and in a forked child. Not for use in a signal handler:
/// see sendfd_target_send. The targets last used are kept open in a small cache of the process
/// (up to 16 descriptors).
///
/// See also: unix(7) "SCM_RIGHTS", pidfd_getfd(2), signal(7) "Real-time signals".
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn sendfd(pid: pid_t, sig: c_int, fd: c_int) -> c_int {
    status(|| {
        memory::enough()?;
        let port = Port::from_signal(sig)?;
        sendfd_core::send(lent::pid(pid), port, lent::descriptor(fd)?)?;
        Ok(0)
    })
}

/// Sends duplicates of nfds descriptors (1 to SENDFD_MAX_FDS) in one message, with a tag and data
/// if options say so. options may be NULL.
///
/// fds, their descriptors, options and its data are only borrowed, for the time of the call. As
/// with sendfd, 0 means that the kernel holds the duplicates, and an error that nothing was sent.
///
/// Returns 0, or the errors of sendfd, or
///   -EINVAL      nfds is 0 or more than SENDFD_MAX_FDS, fds is NULL, data is NULL but data_len is
///                not 0, timeout_ms is below -1, paths or flags has an unknown bit, or the size of
///                options is wrong
///   -EBADF       one of the descriptors is not open
///   -EMSGSIZE    data_len is more than SENDFD_MAX_DATA, or above 4096 and more than RLIMIT_FSIZE
///   -ETIMEDOUT   the target did not listen, or made no room, within timeout_ms
///   -EINTR       a signal handler ran while waiting
///   -EOPNOTSUPP  the paths asked for are not offered by this kernel or target; or data_len is above
///                4096, and this process may not make a memfd
///
/// Blocks for timeout_ms at most; without one, never. Safe from any thread and in a forked child.
/// Not for use in a signal handler: see sendfd_target_send.
///
/// See also: unix(7) "SCM_RIGHTS".
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_send(
    pid: pid_t,
    sig: c_int,
    fds: *const c_int,
    nfds: size_t,
    options: *const sendfd_options,
) -> c_int {
    status(|| {
        memory::enough()?;
        // SAFETY: the header requires fds to lead to nfds numbers, and options to be NULL or whole.
        let (fds, options) = unsafe { (lent::descriptors(fds, nfds)?, self::options(options)?) };
        let port = Port::from_signal(sig)?;
        sendfd_core::send_with(lent::pid(pid), port, fds, &options.send())?;
        Ok(0)
    })
}

/// Opens process pid at the real-time signal sig, to send to it again and again. Of options, which
/// may be NULL, paths and timeout_ms count: of the paths allowed the first that leads to the target
/// is taken, and kept to.
///
/// The target stands for the process that has the pid now: when that has exited, sending fails with
/// -ESRCH, also when another process has the pid by then.
///
/// On success *out is the caller's, to be closed with sendfd_target_close. On an error *out is NULL
/// and nothing is left open.
///
/// Returns 0, or
///   -EINVAL        sig is not a real-time signal, pid is below 1, out is NULL, options are wrong
///                  (see sendfd_send), or the environment's SENDFD_PATHS names no path
///   -ESRCH         no such process, or it has exited
///   -ECONNREFUSED  the process lives but does not listen on sig, and timeout_ms is 0
///   -ETIMEDOUT     it did not start to listen within timeout_ms
///   -EINTR         a signal handler ran while waiting
///   -EPERM         the target does not accept this process's user, or every path to it is
///                  forbidden: sendfd_probe says why
///   -EAGAIN        the target has too many connections waiting, and timeout_ms is 0
///   -EMSGSIZE      data_len is more than SENDFD_MAX_DATA, or above 4096 and more than RLIMIT_FSIZE
///   -EOPNOTSUPP    the paths asked for are not offered by this kernel or target
///   -EMFILE, -ENFILE, -ENOMEM  as the kernel says
///   -ENOTRECOVERABLE  a defect in this library
///
/// Blocks for timeout_ms at most; without one, never. Safe from any thread and in a forked child.
/// Not for use in a signal handler.
///
/// See also: pidfd_open(2), pidfd_getfd(2), unix(7).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_target_open(
    pid: pid_t,
    sig: c_int,
    options: *const sendfd_options,
    out: *mut *mut sendfd_target,
) -> c_int {
    status(|| {
        memory::ask()?;
        // SAFETY: the header requires out to lead to a pointer, and options to be NULL or whole.
        let (out, options) = unsafe { (lent::place(out)?, self::options(options)?) };
        let port = Port::from_signal(sig)?;
        let target = Target::open_with(lent::pid(pid), port, &options.target())?;
        *out = Box::into_raw(Box::new(sendfd_target(target)));
        Ok(0)
    })
}

/// Sends duplicates of nfds descriptors (1 to SENDFD_MAX_FDS) to an opened target, with a tag and
/// data if options say so. options may be NULL. One system call, and no memory is allocated.
///
/// Everything that goes in is only borrowed, for the time of the call. 0 means that the kernel holds
/// the duplicates for the target, an error that nothing was sent. With options->paths, a message
/// that would go another way fails with -EOPNOTSUPP.
///
/// Returns 0, or
///   -EINVAL        target or fds is NULL, nfds is 0 or more than SENDFD_MAX_FDS, or options are
///                  wrong (see sendfd_send)
///   -EBADF         one of the descriptors is not open
///   -ESRCH         the process that was opened has exited. (If a child that it made by a raw
///                  clone(2) shares its queue, this is found out within a tenth of a second: until
///                  then a send can return 0)
///   -ECONNREFUSED  it lives, but has stopped listening
///   -EPERM         it does not accept this process's user any more
///   -EAGAIN        its queue is full, and timeout_ms is 0
///   -ETIMEDOUT     it made no room, or did not listen again, within timeout_ms
///   -EINTR         a signal handler ran while waiting
///   -ETOOMANYREFS  too many of this user's descriptors are in flight (RLIMIT_NOFILE)
///   -EMSGSIZE      data_len is more than SENDFD_MAX_DATA, or above 4096 and more than RLIMIT_FSIZE
///   -EOPNOTSUPP    the target is not reached by one of options->paths; or data_len is above 4096,
///                  and this process may not make a memfd
///   -EMFILE        a send that has to wait duplicates each descriptor first, and the table is full; or
///                  as the kernel says
///   -ENFILE, -ENOMEM  as the kernel says
///   -ENOTRECOVERABLE  a defect in this library; it is not known whether anything was sent
///
/// The target is a descriptor of this process, and not checked: if the program has closed it without
/// sendfd_target_close, the message is written to what the number names by then.
///
/// Blocks for timeout_ms at most; without one, never. Threads may share a target. A forked child
/// may go on using its copy. Safe in a signal handler that saves errno, with a timeout_ms of 0: there it
/// needs 8 KiB of stack, or 16 where the target has closed its receiver and the way to it is opened again.
/// A child forked in a handler that interrupted a call of this library must not return into that call.
///
/// See also: sendmsg(2), unix(7) "SCM_RIGHTS", signal-safety(7).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_target_send(
    target: *mut sendfd_target,
    fds: *const c_int,
    nfds: size_t,
    options: *const sendfd_options,
) -> c_int {
    status(|| {
        // SAFETY: the header requires a target that was opened and not closed.
        let target = unsafe { lent::object(target.cast_const()) }?;
        // SAFETY: the header requires fds to lead to nfds numbers, and options to be NULL or whole.
        let (fds, options) = unsafe { (lent::descriptors(fds, nfds)?, self::options(options)?) };
        target.0.send(fds, &options.send())?;
        Ok(0)
    })
}

/// The path that an opened target uses.
///
/// Returns SENDFD_PATH_SYSCALL, SENDFD_PATH_PIDFD or SENDFD_PATH_NAME, or
///   -EINVAL  target is NULL
///
/// Does not block. Safe from any thread, in a forked child and in a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_target_path(target: *const sendfd_target) -> c_int {
    status(|| {
        // SAFETY: the header requires a target that was opened and not closed.
        let target = unsafe { lent::object(target) }?;
        Ok(target.0.path() as c_int)
    })
}

/// How many bytes wait in the queue that the target's messages go through, by the kernel's count, in
/// which the smallest message takes about 768: to give the next descriptor to the worker that has
/// fewest waiting. By SENDFD_PATH_PIDFD all who send that way share the queue; by SENDFD_PATH_NAME it
/// is this target's own.
///
/// Returns the number, which is 0 if nothing waits, or
///   -EINVAL      target is NULL
///   -EOPNOTSUPP  the target uses SENDFD_PATH_SYSCALL, where there is no queue
///   -ENOTRECOVERABLE  a defect in this library
///
/// Does not block. Safe from any thread and in a forked child. Not for use in a signal handler.
///
/// See also: unix(7) "SIOCOUTQ".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_target_queued(target: *const sendfd_target) -> c_int {
    status(|| {
        // SAFETY: the header requires a target that was opened and not closed.
        let target = unsafe { lent::object(target) }?;
        Ok(c_int::try_from(target.0.queued()?).unwrap_or(c_int::MAX))
    })
}

/// Closes a target and its descriptor. What was sent stays sent. NULL is allowed.
///
/// Nobody may use the target any more, in any thread. Does not block. Not for use in a signal
/// handler. In a forked child it closes the child's copy only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_target_close(target: *mut sendfd_target) {
    boundary((), || {
        if !target.is_null() {
            // SAFETY: sendfd_target_open made it by Box::into_raw, and the header requires that it is closed once
            // and not used any more.
            drop(unsafe { Box::from_raw(target) });
        }
    })
}
