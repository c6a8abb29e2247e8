//! Records as the kernel hands them out, with their control messages: bytes, credentials,
//! descriptors.

use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{array, ptr, slice};

use rustix::io::Errno;

use super::check;
use crate::credentials::Credentials;
use crate::limits::MAX_FDS;
use crate::wire::{HEADER_LEN, INLINE_DATA};

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
    bytes: [MaybeUninit<u8>; HEADER_LEN + INLINE_DATA],
    len: usize,
    control: Control,
    credentials: Option<Credentials>,
    /// Where in `control` the descriptors are that were not taken yet.
    fds: Range<usize>,
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
            bytes: [MaybeUninit::uninit(); HEADER_LEN + INLINE_DATA],
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

    fn last_fd(&self) -> Option<RawFd> {
        if self.fds.is_empty() {
            return None;
        }
        let at = self.fds.end - mem::size_of::<RawFd>();
        // SAFETY: `fds` spans whole initialised numbers inside `control`, see `store`.
        Some(unsafe {
            self.control
                .0
                .as_ptr()
                .add(at)
                .cast::<RawFd>()
                .read_unaligned()
        })
    }

    /// The last descriptor, which stays in the record.
    pub(crate) fn last(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the record owns it, and lends it for as long as it is not changed.
        self.last_fd()
            .map(|number| unsafe { BorrowedFd::borrow_raw(number) })
    }

    /// Takes the last descriptor out.
    pub(crate) fn take_last(&mut self) -> Option<OwnedFd> {
        let number = self.last_fd()?;
        self.fds.end -= mem::size_of::<RawFd>();
        // SAFETY: it was the record's, which has just forgotten it.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// The numbers of all descriptors, for a forked child that closes them and forgets the record.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let at = self.fds.clone().step_by(mem::size_of::<RawFd>());
        // SAFETY: `fds` spans whole initialised numbers inside `control`, see `store`.
        at.map(|at| unsafe {
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
        // A u32 with musl.
        #[allow(clippy::unnecessary_cast)]
        let len = (message.msg_controllen as usize).min(CONTROL_LEN);
        // SAFETY: the kernel initialised that many bytes of `control`, which is where msg_control is.
        let control = unsafe { slice::from_raw_parts(self.control.0.as_ptr().cast(), len) };
        (self.credentials, self.fds) = read_control(control);
    }
}

/// What control messages hold: who sent them, and where the numbers of the descriptors are. The kernel
/// makes them well-formed, and nothing here relies on that.
///
/// # References
/// - [cmsg(3)](https://man7.org/linux/man-pages/man3/cmsg.3.html)
#[inline]
fn read_control(control: &[u8]) -> (Option<Credentials>, Range<usize>) {
    // SAFETY: pure arithmetic on lengths.
    let (head, step) = unsafe { (libc::CMSG_LEN(0) as usize, libc::CMSG_SPACE(0) as usize) };
    let align = mem::align_of::<usize>();
    let (mut credentials, mut fds) = (None, 0..0);
    let mut at = 0;
    while control.len() - at >= step {
        // SAFETY: so many bytes are there.
        let header = unsafe {
            control
                .as_ptr()
                .add(at)
                .cast::<libc::cmsghdr>()
                .read_unaligned()
        };
        // A u32 with musl.
        #[allow(clippy::unnecessary_cast)]
        let len = header.cmsg_len as usize;
        if len < head || len > control.len() - at {
            break;
        }
        let data = at + head..at + len;
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
                if data.len() >= mem::size_of::<libc::ucred>() =>
            {
                // SAFETY: so many bytes are there.
                let sender = unsafe {
                    let at = control.as_ptr().add(data.start);
                    at.cast::<libc::ucred>().read_unaligned()
                };
                credentials = Some(Credentials {
                    pid: sender.pid as u32,
                    uid: sender.uid,
                    gid: sender.gid,
                });
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                let whole = data.len() / mem::size_of::<RawFd>() * mem::size_of::<RawFd>();
                fds = data.start..data.start + whole;
            }
            _ => {}
        }
        at = (at + len.next_multiple_of(align)).min(control.len());
    }
    (credentials, fds)
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(control: &[u8]) {
    let (_, fds) = read_control(control);
    assert!(fds.end <= control.len() && fds.len() % mem::size_of::<RawFd>() == 0);
}

/// The descriptors of a [`Record`].
pub(crate) struct ReceivedFds<'a> {
    control: &'a Control,
    at: Range<usize>,
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

/// Whether recvmmsg(2) is refused here.
static LACKING: AtomicBool = AtomicBool::new(false);

fn receive_one(socket: BorrowedFd<'_>, records: &mut [Record]) -> Result<usize, Errno> {
    match records.first_mut() {
        Some(record) => receive(socket, record, false).map(|()| 1),
        None => Ok(0),
    }
}

/// Takes as many records as there are at once, into the first so many of `records`. Never blocks.
///
/// # References
/// - [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html)
pub(crate) fn receive_many(socket: BorrowedFd<'_>, records: &mut [Record]) -> Result<usize, Errno> {
    if LACKING.load(Ordering::Relaxed) {
        return receive_one(socket, records);
    }
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
    } as i64);
    let received = match received {
        // The kernel never answers so, but a sandbox that does not know the call does.
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {
            LACKING.store(true, Ordering::Relaxed);
            return receive_one(socket, records);
        }
        received => received?,
    };
    let received = usize::try_from(received).unwrap_or(0);
    for (record, message) in records.iter_mut().zip(&messages).take(received) {
        record.store(&message.msg_hdr, message.msg_len as usize);
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8], len: usize) -> Vec<u8> {
        // SAFETY: all zero is a value of it.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_level = level;
        header.cmsg_type = kind;
        header.cmsg_len = len as _;
        // SAFETY: a struct of numbers, as bytes.
        let mut bytes = unsafe {
            let at = (&raw const header).cast::<u8>();
            slice::from_raw_parts(at, mem::size_of_val(&header)).to_vec()
        };
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn what_is_not_whole_is_not_read() {
        let head = mem::size_of::<libc::cmsghdr>();
        let rights = message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[7; 12], head + 12);
        assert_eq!(read_control(&rights).1, head..head + 12);
        // Behind another one, and cut short anywhere.
        let who = message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 12], head + 12);
        let both = [who.clone(), rights].concat();
        assert_eq!(read_control(&both).1.len(), 12);
        assert!(read_control(&both).0.is_some());
        for end in 0..both.len() {
            let (_, fds) = read_control(&both[..end]);
            assert!(fds.end <= end && fds.len() % 4 == 0);
        }
        // Lengths that say less than a header, or more than there is.
        for len in [0, 1, head - 1, 1 << 20, usize::MAX] {
            let wrong = message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[0; 4], len);
            assert_eq!(read_control(&wrong).1, 0..0);
        }
        let short = message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 8], head + 8);
        assert_eq!(read_control(&short).0, None);
        let odd = message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[0; 7], head + 7);
        assert_eq!(read_control(&odd).1, head..head + 4);
    }
}
