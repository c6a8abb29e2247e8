//! Records on their way out, with their control messages: descriptors and who sends them. By hand,
//! because this is what a send costs beside the kernel's part.

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use rustix::io::Errno;

use super::check;
use crate::credentials::Credentials;
use crate::limits::MAX_FDS;
use crate::wire::HEADER_LEN;

const MOST_FDS: usize = MAX_FDS * size_of::<RawFd>();

/// Room for the most descriptors that a record has, and the credentials.
const CONTROL_LEN: usize = space(MOST_FDS) + space(size_of::<libc::ucred>());

/// How much a control message of so many bytes takes.
const fn space(len: usize) -> usize {
    // SAFETY: pure arithmetic on a length.
    unsafe { libc::CMSG_SPACE(len as u32) as usize }
}

/// Aligned as control messages must be.
#[repr(C, align(8))]
struct Room([MaybeUninit<u8>; CONTROL_LEN]);

/// Control messages, one behind the other. Their room is apart: with the length in one structure, all of it
/// would be initialised.
struct Control<'a> {
    bytes: &'a mut Room,
    len: usize,
}

impl Control<'_> {
    /// Adds a message of so many numbers.
    #[inline]
    fn push<T: Copy>(&mut self, kind: i32, values: impl ExactSizeIterator<Item = T>) {
        let len = values.len() * size_of::<T>();
        let space = space(len);
        assert!(space <= CONTROL_LEN - self.len, "more than a record has");
        // SAFETY: there is room for `space` bytes, which hold a header and `len` bytes behind it, up to a
        // multiple of what headers are aligned to; `len` is a multiple of such multiples, so that the
        // next header is aligned, too. Zero is a value of all of a header.
        unsafe {
            let header = self
                .bytes
                .0
                .as_mut_ptr()
                .add(self.len)
                .cast::<libc::cmsghdr>();
            header.write(mem::zeroed());
            (*header).cmsg_len = libc::CMSG_LEN(len as u32) as _;
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = kind;
            let end = header.cast::<u8>().add(space);
            // What is left free before the end is read by the kernel, too.
            end.sub(size_of::<usize>())
                .cast::<usize>()
                .write_unaligned(0);
            let mut at = libc::CMSG_DATA(header).cast::<T>();
            for value in values {
                at.write_unaligned(value);
                at = at.add(1);
            }
        }
        self.len += space;
    }
}

/// Puts one record into the queue behind `socket`. Never blocks. The flags are per call because the
/// socket may be one open file with many users.
///
/// # References
/// - [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html)
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_RIGHTS`, `SCM_CREDENTIALS`
#[inline]
pub(crate) fn transmit(
    socket: BorrowedFd<'_>,
    header: &[u8; HEADER_LEN],
    data: &[u8],
    fds: &[BorrowedFd<'_>],
    sender: Option<Credentials>,
) -> Result<(), Errno> {
    let mut room = Room([MaybeUninit::uninit(); CONTROL_LEN]);
    let mut control = Control {
        bytes: &mut room,
        len: 0,
    };
    control.push(libc::SCM_RIGHTS, fds.iter().map(AsRawFd::as_raw_fd));
    if let Some(Credentials { pid, uid, gid }) = sender {
        control.push(libc::SCM_CREDENTIALS, [pid, uid, gid].into_iter());
    }
    let mut parts = [&header[..], data].map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: all fields of msghdr are numbers or pointers, for which zero is a value; musl has padding
    // there that cannot be named.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = if data.is_empty() { 1 } else { 2 };
    message.msg_control = control.bytes.0.as_mut_ptr().cast();
    message.msg_controllen = control.len as _;
    // A record goes whole or not at all, so the count that comes back says nothing. Not the libc
    // function, which is a cancellation point: a thread cancelled there would unwind through frames that
    // do not expect it.
    // SAFETY: `message` points at `parts`, which point at what is lent, and at the initialised beginning of
    // `control`, all alive during the call, in which the kernel only reads.
    check(unsafe {
        libc::syscall(
            libc::SYS_sendmsg,
            socket.as_raw_fd(),
            ptr::from_ref(&message),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    } as i64)
    .map(drop)
}
