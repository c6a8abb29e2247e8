//! Numbers of descriptors that other programs chose: the one file here that may say unsafe.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::fcntl_getfl;
use rustix::io::fcntl_dupfd_cloexec;

fn borrow<'a>(number: RawFd) -> io::Result<BorrowedFd<'a>> {
    if number < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: not -1. Nothing is assumed of it but that the kernel may be asked about it, and the
    // kernel answers EBADF where it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfl(fd)?;
    Ok(fd)
}

/// A duplicate of what this process was started with at `number`.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(borrow(number)?, 3)?)
}

/// Puts duplicates of `fds` at the numbers that the next program expects, open across exec. What was
/// at these numbers is closed, so that nothing of this process may own them any more.
pub(crate) fn place(fds: Vec<OwnedFd>, numbers: &[RawFd]) -> io::Result<()> {
    // First out of each other's way.
    let above = numbers.iter().max().map_or(3, |number| number + 1);
    let moved: Vec<OwnedFd> = fds
        .iter()
        .map(|fd| fcntl_dupfd_cloexec(fd, above))
        .collect::<Result<_, _>>()?;
    drop(fds);
    for (fd, number) in moved.iter().zip(numbers) {
        // SAFETY: dup2 touches no memory. The caller promises that nobody owns the number.
        if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
