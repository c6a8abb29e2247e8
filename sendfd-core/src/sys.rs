//! The system calls that rustix does not have, or not in the shape that is needed here. The one
//! file of this crate that may say `unsafe`.
#![allow(unsafe_code)]

mod lineage;

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::{array, ptr, slice};

use rustix::io::Errno;

use crate::credentials::Credentials;
use crate::limits::{MAX_DATA, MAX_FDS};
use crate::signal;
use crate::wire::HEADER_LEN;

pub(crate) use lineage::{PerProcess, generation, own_pid};

/// errno of the call that just failed.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[inline]
fn check(answer: i64) -> Result<i64, Errno> {
    if answer < 0 {
        Err(last_errno())
    } else {
        Ok(answer)
    }
}

// ---------------------------------------------------------------- receiving

/// Room for the credentials and the most descriptors that a record has.
const CONTROL_LEN: usize = {
    // SAFETY: pure arithmetic on the lengths.
    unsafe {
        libc::CMSG_SPACE(mem::size_of::<libc::ucred>() as u32) as usize
            + libc::CMSG_SPACE((MAX_FDS * mem::size_of::<RawFd>()) as u32) as usize
    }
};

/// Aligned as control messages must be.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_LEN]);

/// A record just received, as the kernel wrote it. It owns the descriptors that came with it until
/// they are taken; what is left is closed with it or when it is used again.
///
/// The kernel initialises as much of it as it writes, and no more is ever read.
pub(crate) struct Record {
    bytes: [MaybeUninit<u8>; HEADER_LEN + MAX_DATA],
    len: usize,
    control: Control,
    credentials: Option<Credentials>,
    /// Where in `control` the descriptors are that were not taken yet.
    fds: std::ops::Range<usize>,
    flags: i32,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Record({} bytes, {} descriptors)",
            self.len,
            self.fd_count()
        )
    }
}

impl Default for Record {
    fn default() -> Self {
        Record {
            bytes: [MaybeUninit::uninit(); HEADER_LEN + MAX_DATA],
            len: 0,
            control: Control([MaybeUninit::uninit(); CONTROL_LEN]),
            credentials: None,
            fds: 0..0,
            flags: 0,
        }
    }
}

impl Record {
    /// The header and the data.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the kernel initialised that many bytes, see `store`.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len) }
    }

    /// Who sent it. A record without is none: the end of the stream.
    #[inline]
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// Whether nothing was left out: no bytes because the record was longer than any of ours, no
    /// descriptors because this process's table is full.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0
    }

    /// Whether descriptors were left out because this process's table is full (there is always
    /// room for them in `control`).
    #[inline]
    pub(crate) fn lacks_descriptors(&self) -> bool {
        self.flags & libc::MSG_CTRUNC != 0
    }

    #[inline]
    pub(crate) fn fd_count(&self) -> usize {
        self.fds.len() / mem::size_of::<RawFd>()
    }

    /// The number of the last descriptor: the kernel gives out the lowest free ones first.
    #[inline]
    pub(crate) fn last_fd(&self) -> Option<RawFd> {
        let at = self.fds.end.checked_sub(mem::size_of::<RawFd>())?;
        // SAFETY: the end of `fds` is the end of an initialised number, see `store`; where it is
        // 0, nothing is read.
        Some(unsafe {
            self.control
                .0
                .as_ptr()
                .add(at)
                .cast::<RawFd>()
                .read_unaligned()
        })
    }

    /// The bytes, and the descriptors to be taken; those that are not are closed.
    #[inline]
    pub(crate) fn split(&mut self) -> (&[u8], ReceivedFds<'_>) {
        let fds = ReceivedFds {
            control: &self.control,
            at: mem::take(&mut self.fds),
        };
        // SAFETY: the kernel initialised that many bytes, see `store`.
        let bytes = unsafe { slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len) };
        (bytes, fds)
    }

    #[inline]
    pub(crate) fn close_fds(&mut self) {
        if !self.fds.is_empty() {
            drop(self.split());
        }
    }

    #[inline]
    fn iovec(&mut self) -> libc::iovec {
        libc::iovec {
            iov_base: self.bytes.as_mut_ptr().cast(),
            iov_len: self.bytes.len(),
        }
    }

    #[inline]
    fn message(&mut self, iov: &mut libc::iovec) -> libc::msghdr {
        self.close_fds();
        // SAFETY: all fields of msghdr are numbers or pointers, for which zero is a value; musl
        // has padding there that cannot be named.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = iov;
        message.msg_iovlen = 1;
        message.msg_control = self.control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        message
    }

    /// Reads what the kernel wrote for `message`, which was made by this record.
    #[inline]
    fn store(&mut self, message: &libc::msghdr, len: usize) {
        // With MSG_TRUNC in the flags of the answer, `len` is still what was written.
        self.len = len.min(self.bytes.len());
        self.flags = message.msg_flags;
        self.credentials = None;
        self.fds = 0..0;
        // SAFETY: the kernel wrote msg_controllen bytes of well-formed control messages at
        // msg_control, which is `control`, 8-aligned; the macros stay within that length.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while !header.is_null() {
                let data = libc::CMSG_DATA(header);
                let len = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                match ((*header).cmsg_level, (*header).cmsg_type) {
                    (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                        let sender = data.cast::<libc::ucred>().read_unaligned();
                        self.credentials = Some(Credentials {
                            pid: sender.pid.cast_unsigned(),
                            uid: sender.uid,
                            gid: sender.gid,
                        });
                    }
                    (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                        let at = data.offset_from(self.control.0.as_ptr().cast());
                        let at = usize::try_from(at).unwrap_or(0);
                        self.fds = at..at + len;
                    }
                    _ => {}
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
    }
}

/// The descriptors of a [`Record`].
pub(crate) struct ReceivedFds<'a> {
    control: &'a Control,
    at: std::ops::Range<usize>,
}

impl Iterator for ReceivedFds<'_> {
    type Item = OwnedFd;

    #[inline]
    fn next(&mut self) -> Option<OwnedFd> {
        if self.at.is_empty() {
            return None;
        }
        let at = self.at.start;
        self.at.start += mem::size_of::<RawFd>();
        // SAFETY: `at` spans whole initialised numbers inside `control`, see `Record::store`, and
        // each is read once. The kernel put it into our table for this record: nobody else owns it.
        unsafe {
            let number = self
                .control
                .0
                .as_ptr()
                .add(at)
                .cast::<RawFd>()
                .read_unaligned();
            Some(OwnedFd::from_raw_fd(number))
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.at.len() / mem::size_of::<RawFd>();
        (len, Some(len))
    }
}

impl Drop for ReceivedFds<'_> {
    #[inline]
    fn drop(&mut self) {
        // A record is used again for the next message, so what is left must go now.
        self.by_ref().for_each(drop);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close_fds();
    }
}

/// Takes the next record from `socket`, or with `peek` leaves it there and takes a copy. Never
/// blocks. The descriptors are close-on-exec from the start.
///
/// # References
/// - [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html)
#[inline]
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    record: &mut Record,
    peek: bool,
) -> Result<(), Errno> {
    let peek = if peek { libc::MSG_PEEK } else { 0 };
    let mut iov = record.iovec();
    let mut message = record.message(&mut iov);
    // Not the libc function, which is a cancellation point: a thread cancelled there would unwind
    // through frames that do not expect it.
    // SAFETY: `message` points at `iov` and at room in `record`, all alive and exclusively ours
    // during the call; the kernel writes no more than the lengths given.
    let len = check(unsafe {
        libc::syscall(
            libc::SYS_recvmsg,
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | peek,
        )
    } as i64)?;
    record.store(&message, usize::try_from(len).unwrap_or(0));
    Ok(())
}

/// Drops the next record from `socket`, closing what it carries.
pub(crate) fn discard(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: as a null pointer of length 0, nothing is written.
    check(unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            socket.as_raw_fd(),
            ptr::null_mut::<u8>(),
            0_usize,
            libc::MSG_DONTWAIT,
            ptr::null_mut::<u8>(),
            ptr::null_mut::<u8>(),
        )
    } as i64)
    .map(drop)
}

/// How many records one call of [`receive_many`] takes at most.
pub(crate) const BATCH: usize = 32;

/// Takes as many records as there are at once, into the first so many of `records`. Never blocks.
///
/// # References
/// - [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html)
pub(crate) fn receive_many(socket: BorrowedFd<'_>, records: &mut [Record]) -> Result<usize, Errno> {
    let count = records.len().min(BATCH);
    let mut iovs: [libc::iovec; BATCH] = array::from_fn(|i| match records.get_mut(i) {
        Some(record) => record.iovec(),
        None => libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        },
    });
    // SAFETY: zero is a value of every field, as in `Record::message`.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    for ((record, iov), message) in records.iter_mut().zip(&mut iovs).zip(&mut messages) {
        message.msg_hdr = record.message(iov);
    }
    // SAFETY: the first `count` messages point at `iovs` and at room in `records`, all alive and
    // exclusively ours during the call; no timeout is given.
    let received = check(unsafe {
        libc::syscall(
            libc::SYS_recvmmsg,
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
            ptr::null_mut::<libc::timespec>(),
        )
    } as i64)?;
    let received = usize::try_from(received).unwrap_or(0);
    for (record, message) in records.iter_mut().zip(&messages).take(received) {
        record.store(&message.msg_hdr, message.msg_len as usize);
    }
    Ok(received)
}

// ---------------------------------------------------------------- who is at the other end

/// Who made the other end of a socket pair, or listens where a socket is connected to.
///
/// rustix has this too, but with a pid that cannot be 0, which it is for a peer in a pid namespace
/// that cannot be seen from here.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SO_PEERCRED`
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    socket_option(socket, libc::SO_PEERCRED, &mut peer)?;
    Ok(Credentials {
        pid: peer.pid.cast_unsigned(),
        uid: peer.uid,
        gid: peer.gid,
    })
}

/// The process that listens where a socket is connected to, since Linux 6.5.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SO_PEERPIDFD`
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const SO_PEERPIDFD: i32 = 77;
    let mut number: RawFd = -1;
    socket_option(socket, SO_PEERPIDFD, &mut number)?;
    if number < 0 {
        return Err(Errno::NOPROTOOPT);
    }
    // SAFETY: the kernel just put it into our table for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What tells a socket from all others as long as the machine runs, or what became of its number: EBADF,
/// ENOTSOCK. Asks no file system, whatever the number is by now.
///
/// # References
/// - [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html); `SO_COOKIE`, since Linux 4.12
pub(crate) fn cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut cookie = 0_u64;
    socket_option(socket, libc::SO_COOKIE, &mut cookie)?;
    Ok(cookie)
}

/// The pid namespace of the process that a pidfd refers to, where there is no /proc to tell it: since
/// Linux 6.11.
///
/// # References
/// - [ioctl_pidfd](https://man7.org/linux/man-pages/man2/PIDFD_GET_PID_NAMESPACE.2const.html)
pub(crate) fn pid_namespace(pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const PIDFD_GET_PID_NAMESPACE: u64 = 0xFF05;
    // SAFETY: the call takes no pointer, and answers a new descriptor or -1.
    unsafe {
        let number = libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_PID_NAMESPACE as _, 0);
        check(number.into())?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

fn socket_option<T: Copy>(socket: BorrowedFd<'_>, option: i32, value: &mut T) -> Result<(), Errno> {
    let mut len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` has room for `len` bytes, and all callers' types are plain numbers.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    check(answer.into()).map(drop)
}

/// This process's real and saved user: those that kill(2) compares the sender's with.
pub(crate) fn own_users() -> [u32; 2] {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: three valid pointers; the call has no other way to fail.
    unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    [real, saved]
}

/// How many bytes wait in the queue that is sent to over a socket, by the kernel's count.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html); `SIOCOUTQ` in
///   [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html)
pub(crate) fn queued(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut bytes: i32 = 0;
    // SAFETY: the call writes one int, for which there is room.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

// ---------------------------------------------------------------- this process's table

/// Puts `new` at the number of `old`, at once: there is no moment at which the number is free.
/// What was there is closed.
///
/// # References
/// - [dup3(2)](https://man7.org/linux/man-pages/man2/dup.2.html)
pub(crate) fn replace(old: BorrowedFd<'_>, new: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: whoever owns the number goes on owning it, with another open file behind it.
    check(unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) }.into()).map(drop)
}

/// How many descriptors a process can have: another one, by its pid, or with 0 this one. `None` where
/// that is not told or not limited.
///
/// # References
/// - [prlimit(2)](https://man7.org/linux/man-pages/man2/prlimit.2.html)
pub(crate) fn descriptor_limit(pid: u32) -> Option<RawFd> {
    let mut limit = MaybeUninit::<libc::rlimit64>::uninit();
    // SAFETY: asks only; the call fills `limit` when it succeeds.
    let limit = unsafe {
        let answer = libc::prlimit64(
            pid.cast_signed(),
            libc::RLIMIT_NOFILE,
            ptr::null(),
            limit.as_mut_ptr(),
        );
        check(answer.into()).ok()?;
        limit.assume_init()
    };
    RawFd::try_from(limit.rlim_cur).ok()
}

// ---------------------------------------------------------------- the clock

/// The monotonic clock as a whole number, which is compared for every message.
///
/// # References
/// - [clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)
#[inline]
pub(crate) fn nanoseconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid pointer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// The same clock as far as the kernel has counted it, some milliseconds coarse, without a system call.
#[inline]
pub(crate) fn tick() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid pointer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

// ---------------------------------------------------------------- the system call

/// sendfd(2), by the number that this kernel advertises.
pub(crate) fn sendfd(number: i64, pid: u32, sig: i32, fd: RawFd) -> Result<(), Errno> {
    // SAFETY: three numbers, which the kernel checks.
    check(unsafe { libc::syscall(number as libc::c_long, pid, sig, fd) } as i64).map(drop)
}

// ---------------------------------------------------------------- signals

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
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; the kernel fills the second.
    check(unsafe { libc::sigaction(sig, ptr::null(), action.as_mut_ptr()) }.into())?;
    // SAFETY: filled by the successful call above.
    let handler = unsafe { action.assume_init() }.sa_sigaction;
    Ok(match handler {
        libc::SIG_DFL | libc::SIG_IGN => Disposition::Default,
        _ => Disposition::Handled,
    })
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
    value: usize,
    rest: [u8; QUEUED_INFO_REST],
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
    let info = QueuedInfo {
        signo: sig,
        errno: 0,
        code: libc::SI_QUEUE,
        #[cfg(target_pointer_width = "64")]
        padding: 0,
        pid: sender.pid.cast_signed(),
        uid: sender.uid,
        // sival_int is the low half of sival_ptr on little-endian machines, the high half on
        // big-endian ones.
        value: if cfg!(target_endian = "big") && mem::size_of::<usize>() == 8 {
            (fd.as_raw_fd() as usize) << 32
        } else {
            fd.as_raw_fd() as usize
        },
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

// ---------------------------------------------------------------- catching sendfd(2)'s signal

/// What the handler writes into the pipe: which descriptor came, from whom.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Caught {
    fd: RawFd,
    pid: i32,
    uid: u32,
}

impl Caught {
    pub(crate) const LEN: usize = mem::size_of::<Caught>();

    fn take(self) -> Option<(OwnedFd, Credentials)> {
        // A value that no descriptor can have was not put there by the kernel's call.
        let is_open = self.fd >= 0
            // SAFETY: only asks the kernel about the number.
            && unsafe { libc::fcntl(self.fd, libc::F_GETFD) } & libc::FD_CLOEXEC != 0;
        let sender = Credentials {
            pid: self.pid.cast_unsigned(),
            uid: self.uid,
            // A signal does not say.
            gid: u32::MAX,
        };
        // SAFETY: the kernel put it into our table for the signal, which was taken once. Whoever may
        // signal this process could have made that up; that it is open and close-on-exec keeps a
        // mistake from closing what is not there.
        is_open.then(|| (unsafe { OwnedFd::from_raw_fd(self.fd) }, sender))
    }
}

/// Where the handler of each signal writes to.
static WRITE_ENDS: [AtomicI32; signal::COUNT] = [const { AtomicI32::new(-1) }; signal::COUNT];

/// How many handlers are running, so that none writes to a number that was closed.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// How many have run: who was woken by one was not woken by a signal of the program's.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn handled() -> usize {
    HANDLED.load(Ordering::SeqCst)
}

/// Installs the handler that writes what `sig` carries into a pipe.
pub(crate) fn catch(sig: i32, write_end: BorrowedFd<'_>) -> Result<(), Errno> {
    WRITE_ENDS[signal::index(sig)].store(write_end.as_raw_fd(), Ordering::SeqCst);
    act(sig, on_signal as *const () as usize)
}

/// Ignores `sig`, which also discards what is pending.
pub(crate) fn ignore(sig: i32) {
    let _ = act(sig, libc::SIG_IGN);
}

/// Restores the default action, and returns when no handler can be using the pipe any more.
pub(crate) fn release(sig: i32, write_end: BorrowedFd<'_>) {
    let _ = act(sig, libc::SIG_DFL);
    let end = &WRITE_ENDS[signal::index(sig)];
    let _ = end.compare_exchange(
        write_end.as_raw_fd(),
        -1,
        Ordering::SeqCst,
        Ordering::SeqCst,
    );
    while RUNNING.load(Ordering::SeqCst) != 0 {
        std::thread::yield_now();
    }
}

/// In a forked child, where the threads that ran handlers do not exist.
pub(crate) fn forget_handlers() {
    RUNNING.store(0, Ordering::SeqCst);
}

fn act(sig: i32, handler: usize) -> Result<(), Errno> {
    // SAFETY: zero is a value of every field.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler, where it is one, is of the SA_SIGINFO kind and only does what is allowed
    // in a signal handler.
    check(unsafe { libc::sigaction(sig, &raw const action, ptr::null_mut()) }.into()).map(drop)
}

extern "C" fn on_signal(sig: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is this thread's, and is put back; the kernel passes a valid siginfo and
    // context; all calls are async-signal-safe.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        RUNNING.fetch_add(1, Ordering::SeqCst);
        if (*info).si_code == libc::SI_QUEUE {
            let caught = Caught {
                fd: (*info).si_value().sival_ptr as usize as RawFd,
                pid: (*info).si_pid(),
                uid: (*info).si_uid(),
            };
            let end = WRITE_ENDS[signal::index(sig)].load(Ordering::SeqCst);
            let written = libc::write(end, (&raw const caught).cast(), Caught::LEN);
            if end < 0 {
                // The receiver was closed while the signal was on its way.
                libc::close(caught.fd);
            } else if written != Caught::LEN as isize {
                // Full. Blocked in this thread, the signal waits where the receiver's signalfd
                // finds it. One place in the queue of signals has just become free.
                let context: *mut libc::ucontext_t = context.cast();
                libc::sigaddset(&raw mut (*context).uc_sigmask, sig);
                libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), sig, info);
            }
        }
        HANDLED.fetch_add(1, Ordering::SeqCst);
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        *errno = before;
    }
}

/// # References
/// - [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html)
pub(crate) fn signalfd(sig: i32) -> Result<OwnedFd, Errno> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigemptyset initialises the set; the number that comes back is new and ours.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), sig);
        let number = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(number.into())?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// The next descriptor in the pipe; EAGAIN if there is none.
pub(crate) fn read_caught(pipe: BorrowedFd<'_>) -> Result<(OwnedFd, Credentials), Errno> {
    loop {
        let mut caught = MaybeUninit::<Caught>::uninit();
        let room = caught.as_mut_ptr().cast();
        // SAFETY: room for one record; records are written and read whole.
        let answer = unsafe { libc::read(pipe.as_raw_fd(), room, Caught::LEN) };
        check(answer as i64)?;
        // SAFETY: the write end is open, so that the read was of a whole record.
        if let Some(received) = unsafe { caught.assume_init() }.take() {
            return Ok(received);
        }
    }
}

/// The next descriptor that a pending signal carries; EAGAIN if there is none.
pub(crate) fn read_pending(signalfd: BorrowedFd<'_>) -> Result<(OwnedFd, Credentials), Errno> {
    loop {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let len = mem::size_of::<libc::signalfd_siginfo>();
        // SAFETY: room for one record; the kernel writes whole ones.
        check(unsafe { libc::read(signalfd.as_raw_fd(), info.as_mut_ptr().cast(), len) } as i64)?;
        // SAFETY: the read succeeded.
        let info = unsafe { info.assume_init() };
        let caught = Caught {
            fd: info.ssi_int,
            pid: info.ssi_pid as i32,
            uid: info.ssi_uid,
        };
        if info.ssi_code == libc::SI_QUEUE
            && let Some(received) = caught.take()
        {
            return Ok(received);
        }
    }
}

// ---------------------------------------------------------------- fork

/// Has fork(2) call these three: before it, and after it in the parent and in the child.
///
/// # References
/// - [pthread_atfork(3)](https://man7.org/linux/man-pages/man3/pthread_atfork.3.html)
pub(crate) fn at_fork(
    prepare: extern "C" fn(),
    parent: extern "C" fn(),
    child: extern "C" fn(),
) -> Result<(), Errno> {
    // SAFETY: three functions without arguments that live as long as the process: the library is
    // linked so that it is never unloaded.
    let answer = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    match answer {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}
