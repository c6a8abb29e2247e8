//! Another process: held by pidfd, so that its pid cannot come to mean somebody else meanwhile.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayString;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use crate::error::Cause;
use crate::wait::timespec;

/// A process that lived when it was opened.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    /// Absent on kernels before 5.3 and where a sandbox refuses pidfd_open.
    pidfd: Option<OwnedFd>,
}

/// What tells a process from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The inode of its pidfd, unique for as long as the machine runs, since Linux 6.9; before,
    /// the start time in clock ticks.
    unique: u64,
}

pub(crate) fn check(pid: u32) -> Result<Pid, Cause> {
    match i32::try_from(pid) {
        // 0 names a group in kill(2), which has no descriptor table.
        Ok(pid) => Pid::from_raw(pid).ok_or(Cause::PidNotPositive),
        // Above the highest pid_max there can be.
        Err(_) => Err(Cause::NoSuchProcess),
    }
}

pub(crate) fn own_pid() -> u32 {
    std::process::id()
}

/// The inode of this process's pid namespace, or 0 where /proc does not tell: two processes
/// without /proc still find each other.
pub(crate) fn own_namespace() -> u64 {
    rustix::fs::stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

impl Process {
    /// # References
    /// - [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)
    pub(crate) fn open(pid: u32) -> Result<Self, Cause> {
        let number = check(pid)?;
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            // EINVAL and ENOENT: a thread that leads no process, or one that is just exiting.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Err(Cause::NoSuchProcess),
            Err(Errno::NOSYS | Errno::PERM) => match test_kill_process(number) {
                Err(Errno::SRCH) => return Err(Cause::NoSuchProcess),
                _ => None,
            },
            Err(errno) => return Err(errno.into()),
        };
        let process = Process { pid, pidfd };
        // A zombie can still be opened.
        if process.has_exited() {
            return Err(Cause::NoSuchProcess);
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn try_clone_pidfd(&self) -> Result<Option<OwnedFd>, Errno> {
        self.pidfd
            .as_ref()
            .map(|pidfd| rustix::io::fcntl_dupfd_cloexec(pidfd, 0))
            .transpose()
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exits_within(Duration::ZERO).unwrap_or(false)
    }

    /// Sleeps until the process has exited, for `time` at most.
    pub(crate) fn exits_within(&self, time: Duration) -> Result<bool, Cause> {
        let Some(pidfd) = &self.pidfd else {
            if !time.is_zero() {
                std::thread::sleep(time);
            }
            let alive = check(self.pid).map(test_kill_process)?;
            return Ok(alive == Err(Errno::SRCH));
        };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        Ok(poll(&mut fds, timespec(time).as_ref())? > 0)
    }

    pub(crate) fn identity(&self) -> Identity {
        let inode = self.pidfd().and_then(pidfs_inode);
        Identity {
            unique: inode.or_else(|| self.start_time()).unwrap_or(0),
        }
    }

    /// Field 22 of /proc/PID/stat.
    fn start_time(&self) -> Option<u64> {
        let mut buffer = [0; 1024];
        let bytes = self.read_proc("stat", &mut buffer)?;
        // The name of the program, in parentheses, may itself contain anything.
        let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
        let fields = std::str::from_utf8(bytes.get(name_end + 1..)?).ok()?;
        fields.split_ascii_whitespace().nth(19)?.parse().ok()
    }

    /// The real and the saved user, in this process's user namespace: those that kill(2) compares
    /// with.
    pub(crate) fn users(&self) -> Option<[u32; 2]> {
        let mut buffer = [0; 4096];
        let status = self.read_proc("status", &mut buffer)?;
        let mut words = field(status, "Uid:")?.split_ascii_whitespace();
        let real = words.next()?.parse().ok()?;
        let saved = words.nth(1)?.parse().ok()?;
        Some([real, saved])
    }

    /// How the process is addressed from inside a pid namespace below this one, if it is in one:
    /// the inode of that and the pid there.
    pub(crate) fn in_inner_namespace(&self) -> Option<(u64, u32)> {
        let mut buffer = [0; 4096];
        let status = self.read_proc("status", &mut buffer)?;
        // One number for each namespace from this one to the process's own.
        let pids = field(status, "NSpid:")?.split_ascii_whitespace().skip(1);
        let pid = pids.last()?.parse().ok()?;
        let mut path = ArrayString::<32>::new();
        write!(path, "/proc/{}/ns/pid", self.pid).ok()?;
        let namespace = rustix::fs::stat(path.as_str()).ok()?.st_ino;
        Some((namespace, pid))
    }

    fn read_proc<'a>(&self, file: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let mut path = ArrayString::<32>::new();
        write!(path, "/proc/{}/{file}", self.pid).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
        let length = rustix::io::read(&opened, &mut *buffer).ok()?;
        buffer.get(..length)
    }
}

/// A line of /proc/PID/status. The name of the program, on a line of its own, need not be UTF-8.
fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(value).ok()
}

/// `None` on kernels where all pidfds share one inode (before 6.9).
fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Option<u64> {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    let on_pidfs = rustix::fs::fstatfs(pidfd).is_ok_and(|stat| stat.f_type as u64 == PID_FS_MAGIC);
    on_pidfs
        .then(|| rustix::fs::fstat(pidfd).ok())?
        .map(|stat| stat.st_ino)
}

/// Whether the process that a pidfd refers to has exited.
pub(crate) fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut fds, timespec(Duration::ZERO).as_ref()) != Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let own = Process::open(own_pid()).expect("this process");
        assert!(!own.has_exited());
        assert_ne!(own.identity(), Identity { unique: 0 });
        assert_ne!(own.start_time(), None);
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(own.users(), Some([uid, uid]));
        assert_eq!(own.in_inner_namespace(), None);
        assert_ne!(own_namespace(), 0);
    }

    #[test]
    fn no_process() {
        assert_eq!(Process::open(0).map(drop), Err(Cause::PidNotPositive));
        // Above the highest pid_max there can be.
        for pid in [1 << 30, 1 << 31, u32::MAX] {
            assert_eq!(Process::open(pid).map(drop), Err(Cause::NoSuchProcess));
        }
    }

    #[test]
    fn status_fields_beside_a_strange_program_name() {
        let status = b"Name:\t\xff\nUid:\t1\t2\t3\t4\n";
        assert_eq!(field(status, "Uid:"), Some("\t1\t2\t3\t4"));
        assert_eq!(field(status, "NSpid:"), None);
    }
}
