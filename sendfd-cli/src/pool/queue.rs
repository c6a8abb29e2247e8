//! The queue of a worker, held here as well, so that what a dead worker had not taken is not lost with it.
//!
//! The pool fetches a duplicate of the end that the worker receives from and leaves it alone as long as the
//! worker lives. What is left there when the worker has ended goes to the others.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::{
    ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open,
};
use sendfd_core::protocol::{MOST, is_receiving_end, tag_of_one};
use sendfd_core::{MAX_FDS, Port};

#[derive(Debug)]
pub(crate) struct Queue {
    rx: OwnedFd,
    /// Its number in the worker's table, and what /proc says is there.
    path: String,
    link: String,
}

/// A connection that was sent and not received, and its tag.
pub(crate) type Left = (OwnedFd, u64);

impl Queue {
    /// That of the inbox which process `pid`, a child that nobody has waited for, has open at `port`.
    /// Nothing where it may not be fetched.
    pub(crate) fn of(pid: u32, port: Port) -> Option<Self> {
        let process = Pid::from_raw(pid as i32)?;
        let pidfd = pidfd_open(process, PidfdFlags::empty()).ok()?;
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        entries.flatten().find_map(|entry| {
            let path = entry.path();
            let link = std::fs::read_link(&path).ok()?;
            let link = link.to_str().filter(|link| link.starts_with("socket:["))?;
            let number: ForeignRawFd = entry.file_name().to_str()?.parse().ok()?;
            let rx = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok()?;
            let is_its = is_receiving_end(&rx, port)
                && sockopt::socket_peercred(&rx).is_ok_and(|maker| maker.pid == process);
            is_its.then(|| Queue {
                rx,
                path: path.display().to_string(),
                link: link.to_owned(),
            })
        })
    }

    /// Whether the worker still has it open. One that executes another program has not, without having
    /// ended.
    pub(crate) fn is_held(&self) -> bool {
        std::fs::read_link(&self.path).is_ok_and(|link| link.as_os_str() == self.link.as_str())
    }

    /// The next of what is left; `Ok(None)` is the end. EMFILE: not now, and it stays where it is.
    pub(crate) fn next(&self) -> Result<Option<Left>, Errno> {
        // Nothing else here opens anything meanwhile: it is one thread.
        drop(fcntl_dupfd_cloexec(&self.rx, 3)?);
        loop {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut record = [0; MOST];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let got = recvmsg(
                &self.rx,
                &mut [IoSliceMut::new(&mut record)],
                &mut control,
                flags,
            );
            let length = match got {
                Ok(got) if got.bytes > 0 => got.bytes,
                Ok(_) | Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let mut fds = Vec::new();
            let mut is_own = false;
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
                    RecvAncillaryMessage::ScmCredentials(sender) => is_own = sender.pid == getpid(),
                    _ => {}
                }
            }
            // What others sent is theirs to send again.
            let tag = tag_of_one(&record[..length]).filter(|_| is_own);
            if let (Some(tag), Ok([connection])) = (tag, <[OwnedFd; 1]>::try_from(fds)) {
                return Ok(Some((connection, tag)));
            }
        }
    }
}
