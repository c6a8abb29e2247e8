//! Another process: held by pidfd, so that its pid cannot come to mean somebody else meanwhile.

use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrayvec::ArrayString;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use crate::error::Cause;
use crate::sys::{self, Namespace};
use crate::wait::timespec;

/// A process that lived when it was opened.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    /// Absent on kernels before 5.3 and where a sandbox refuses pidfd_open.
    pidfd: Option<OwnedFd>,
    /// Its number in /proc, with the generation that asked; see [`Process::in_proc`].
    number: AtomicU64,
}

/// A process and its users, as they were when /proc was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    process: &'a Process,
    /// `None` where /proc does not tell.
    pub(crate) users: Option<Users>,
}

impl Deref for Seen<'_> {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.process
    }
}

/// The users of a process, as numbered in this process's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Users {
    pub(crate) real: u32,
    pub(crate) effective: u32,
    pub(crate) saved: u32,
}

/// How far a process has come with its exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Not at all, as far as can be seen.
    No,
    /// Its main thread has, and others live on.
    OfMainThread,
    /// All of it.
    Whole,
}

/// What tells a process from every other, also from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pid: u32,
    /// The inode of its pidfd, unique for as long as the machine runs, since Linux 6.9; before,
    /// the start time in clock ticks, which processes that are started together share.
    unique: u64,
}

impl Identity {
    /// Whether the kernel told anything to know the process by.
    pub(crate) fn is_known(self) -> bool {
        self.unique != 0
    }
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
    sys::own_pid()
}

/// The inode of this process's pid namespace, or 0 where neither /proc nor the kernel tells: two
/// processes on such a machine still find each other.
pub(crate) fn own_namespace() -> u64 {
    if let Ok(stat) = rustix::fs::stat(c"/proc/self/ns/pid") {
        return stat.st_ino;
    }
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let namespace = own.and_then(|own| sys::namespace(own.as_fd(), Namespace::Pid));
    let stat = namespace.and_then(rustix::fs::fstat);
    stat.map_or(0, |stat| stat.st_ino)
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
        let process = Process {
            pid,
            pidfd,
            number: AtomicU64::new(0),
        };
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
        match &self.pidfd {
            Some(pidfd) => has_exited(pidfd.as_fd()),
            None => check(self.pid).map(test_kill_process) == Ok(Err(Errno::SRCH)),
        }
    }

    /// Sleeps until the process has exited, for `time` at most.
    pub(crate) fn exits_within(&self, time: Duration) -> Result<bool, Cause> {
        match &self.pidfd {
            Some(pidfd) => {
                let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                Ok(poll(&mut fds, timespec(time).as_ref())? > 0)
            }
            None => {
                poll(&mut [], timespec(time).as_ref())?;
                Ok(self.has_exited())
            }
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        let inode = self.pidfd().and_then(pidfs_inode);
        Identity {
            pid: self.pid(),
            unique: inode.or_else(|| self.start_time()).unwrap_or(0),
        }
    }

    /// Reads in /proc which users it is.
    pub(crate) fn look(&self) -> Result<Seen<'_>, Cause> {
        Ok(Seen {
            process: self,
            users: told(self.users())?.flatten(),
        })
    }

    /// Whether it is exiting, as far as can be told shortly: it may still be found, but its memory and its
    /// descriptors are gone, and the kernel refuses to look into it with all kinds of errors.
    pub(crate) fn is_leaving(&self) -> bool {
        match self.exit() {
            Exit::No => self.has_exited(),
            Exit::Whole => true,
            // The others may be about to exit, and not show it yet.
            Exit::OfMainThread => {
                self.exits_within(Duration::from_millis(10))
                    .unwrap_or(false)
                    || self.exit() == Exit::Whole
            }
        }
    }

    /// Whether its main thread has exited while others live on. Nothing can be fetched from it then.
    pub(crate) fn lost_its_main_thread(&self) -> bool {
        self.exit() == Exit::OfMainThread
    }

    /// Whether it is in the midst of execve(2): it has left its memory and not begun with the new one, so that
    /// there is no code in it. Until there is, whoever looks at its descriptors waits (with pidfd_getfd(2), on
    /// newer kernels also in /proc, where its stat and its namespaces make wait, too), and it can make that last.
    pub(crate) fn is_executing(&self) -> bool {
        let mut buffer = [0; 128];
        let sizes = self.read_proc("statm", &mut buffer).ok();
        sizes.and_then(lacks_code) == Some(true)
    }

    fn exit(&self) -> Exit {
        if self.is_executing() {
            return Exit::No;
        }
        let mut buffer = [0; 512];
        let main = self.read_proc("stat", &mut buffer).ok();
        let main = main.and_then(is_exiting);
        if main != Some(true) {
            return Exit::No;
        }
        let mut path = ArrayString::<32>::new();
        let Ok(number) = self.in_proc() else {
            return Exit::No;
        };
        let _ = write!(path, "/proc/{number}/task");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(tasks) = rustix::fs::open(path.as_str(), flags, Mode::empty()) else {
            return Exit::Whole;
        };
        let mut entries = [MaybeUninit::uninit(); 1024];
        let mut entries = RawDir::new(&tasks, &mut entries);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if name.starts_with(b".") {
                continue;
            }
            let mut file = ArrayString::<32>::new();
            let _ = write!(file, "task/{}/stat", name.escape_ascii());
            // A thread that is gone meanwhile has exited.
            let stat = self.read_proc(&file, &mut buffer).ok();
            if stat.and_then(is_exiting) == Some(false) {
                return Exit::OfMainThread;
            }
        }
        Exit::Whole
    }

    /// Field 22 of /proc/PID/stat.
    fn start_time(&self) -> Option<u64> {
        let mut buffer = [0; 512];
        stat_field(self.read_proc("stat", &mut buffer).ok()?, 22)
    }

    /// The users, in this process's user namespace.
    fn users(&self) -> Result<Option<Users>, Errno> {
        let mut buffer = [0; 1024];
        let status = self.read_proc("status", &mut buffer)?;
        let mut words = field(status, "Uid:")
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(|word| word.parse().ok());
        let mut next = || words.next().flatten();
        Ok(match (next(), next(), next()) {
            (Some(real), Some(effective), Some(saved)) => Some(Users {
                real,
                effective,
                saved,
            }),
            _ => None,
        })
    }

    /// How the process is addressed from inside a pid namespace below this one, if it is in one:
    /// the inode of that and the pid there.
    pub(crate) fn in_inner_namespace(&self) -> Option<(u64, u32)> {
        let mut buffer = [0; 1024];
        let status = self.read_proc("status", &mut buffer).ok()?;
        // One number for each namespace from this one to the process's own.
        let pids = field(status, "NSpid:")?.split_ascii_whitespace().skip(1);
        let pid = pids.last()?.parse().ok()?;
        let namespace = self.namespace(Namespace::Pid)?;
        (namespace != own_namespace()).then_some((namespace, pid))
    }

    /// The inode of one of its namespaces. Told only to those who could trace it.
    ///
    /// By the pidfd if the kernel can: its folder in /proc makes whoever asks wait while the process is
    /// in execve(2), which may last as long as the process likes.
    pub(crate) fn namespace(&self, kind: Namespace) -> Option<u64> {
        let pidfd = self.pidfd().ok_or(Errno::NOTTY);
        match pidfd.and_then(|pidfd| sys::namespace(pidfd, kind)) {
            Ok(namespace) => return Some(rustix::fs::fstat(namespace).ok()?.st_ino),
            Err(Errno::ACCESS | Errno::PERM | Errno::SRCH) => return None,
            Err(_) => {}
        }
        let kind = match kind {
            Namespace::Net => "net",
            Namespace::Pid => "pid",
            Namespace::User => "user",
        };
        let mut path = ArrayString::<32>::new();
        write!(path, "/proc/{}/ns/{kind}", self.in_proc().ok()?).ok()?;
        Some(rustix::fs::stat(path.as_str()).ok()?.st_ino)
    }

    /// By which number it is found in /proc. That may be mounted for another pid namespace than this
    /// process's, where the pid is somebody else's: then the pidfd tells. ENOENT without /proc, and where
    /// the process cannot be seen there.
    pub(crate) fn in_proc(&self) -> Result<u32, Errno> {
        let generation = u64::from(sys::generation());
        let known = self.number.load(Ordering::Relaxed);
        if known >> 32 == generation {
            return Ok(known as u32);
        }
        let found = self.find_in_proc()?;
        let known = generation << 32 | u64::from(found);
        self.number.store(known, Ordering::Relaxed);
        Ok(found)
    }

    fn find_in_proc(&self) -> Result<u32, Errno> {
        let mut path = ArrayString::<40>::new();
        let Some(pidfd) = &self.pidfd else {
            let mut link = [MaybeUninit::uninit(); 16];
            let cwd = rustix::fs::CWD;
            let (own, _) = rustix::fs::readlinkat_raw(cwd, c"/proc/self", &mut link)?;
            let mut wanted = ArrayString::<16>::new();
            let _ = write!(wanted, "{}", own_pid());
            return if own == wanted.as_bytes() {
                Ok(self.pid)
            } else {
                Err(Errno::NOENT)
            };
        };
        let _ = write!(path, "/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let mut buffer = [0; 512];
        let info = read_file(path.as_str(), &mut buffer)?;
        // -1 once it has exited and was waited for, 0 where it cannot be seen.
        field(info, "Pid:")
            .and_then(|number| number.trim().parse().ok())
            .filter(|number| *number != 0)
            .ok_or(Errno::NOENT)
    }

    pub(crate) fn read_proc<'a>(
        &self,
        file: &str,
        buffer: &'a mut [u8],
    ) -> Result<&'a [u8], Errno> {
        let mut path = ArrayString::<64>::new();
        let _ = write!(path, "/proc/{}/{file}", self.in_proc()?);
        read_file(path.as_str(), buffer)
    }
}

impl Seen<'_> {
    /// Whether one of its users (real, effective, saved) is not this process's effective user.
    pub(crate) fn is_of_another_user(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.users
            .is_some_and(|users| [users.real, users.effective, users.saved] != [own; 3])
    }

    /// Whether an inbox that this user made is the process's own. Whoever starts a set-user-ID program can
    /// leave it an inbox to inherit and keep a copy of the receiving end.
    pub(crate) fn may_have_made(&self, maker: u32) -> bool {
        self.users
            .is_none_or(|users| maker == users.effective || maker == 0)
    }
}

/// Reads the beginning of a small file.
pub(crate) fn read_file<'a>(path: &str, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    let length = rustix::io::read(&opened, &mut *buffer)?;
    Ok(&buffer[..length])
}

/// What the kernel said about a target: `None` where it does not say, which is about this target; an error
/// where this process or the machine has no descriptor or memory left to ask with.
pub(crate) fn told<T>(answer: Result<T, Errno>) -> Result<Option<T>, Cause> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(errno.into()),
        Err(_) => Ok(None),
    }
}

/// A field of /proc/PID/stat, counted from 1 as proc_pid_stat(5) does.
fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    // The name of the program, in parentheses, may itself contain anything.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    fields
        .split_ascii_whitespace()
        .nth(number - 3)?
        .parse()
        .ok()
}

/// Whether a process's statm says that it has memory, and no code there.
fn lacks_code(sizes: &[u8]) -> Option<bool> {
    let mut sizes = std::str::from_utf8(sizes).ok()?.split_ascii_whitespace();
    let (all, code) = (sizes.next()?, sizes.nth(2)?);
    Some(all != "0" && code == "0")
}

/// Whether a thread's stat says that it is exiting, or has to as soon as it runs: when a process exits, the
/// kernel kills each of its threads, which on a busy machine may not run for long.
fn is_exiting(stat: &[u8]) -> Option<bool> {
    const PF_EXITING: u64 = 4;
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    // Among what is pending for this thread alone.
    Some(stat_field(stat, 9)? & PF_EXITING != 0 || stat_field(stat, 31)? & SIGKILL != 0)
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
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, timespec(Duration::ZERO).as_ref()) {
            Ok(ready) => return ready > 0,
            // A signal says nothing about the process.
            Err(Errno::INTR) => {}
            // No memory, which says nothing about it either.
            Err(_) => return false,
        }
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(file: &[u8]) {
    stat_field(file, 22);
    is_exiting(file);
    lacks_code(file);
    for name in ["Uid:", "NSpid:", "Pid:"] {
        assert!(field(file, name).is_none_or(|value| !value.contains('\n')));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let own = Process::open(own_pid()).expect("this process");
        assert!(!own.has_exited());
        assert!(own.identity().is_known());
        assert_ne!(own.start_time(), None);
        let uid = rustix::process::getuid().as_raw();
        let users = own.look().expect("seen").users.expect("/proc");
        assert_eq!([users.real, users.effective, users.saved], [uid; 3]);
        assert_eq!(own.in_proc(), Ok(own_pid()));
        assert!(!own.is_leaving() && !own.lost_its_main_thread() && !own.is_executing());
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

    #[test]
    fn a_child_that_has_exited_is_gone() {
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let process = Process::open(child.id());
        child.wait().expect("waited for");
        if let Ok(process) = process {
            assert!(process.has_exited() && process.is_leaving());
        }
    }

    #[test]
    fn memory_without_code() {
        assert_eq!(lacks_code(b"36 0 0 0 0 36 0\n"), Some(true));
        assert_eq!(lacks_code(b"693 420 380 5 0 90 0\n"), Some(false));
        // It has exited.
        assert_eq!(lacks_code(b"0 0 0 0 0 0 0\n"), Some(false));
        assert_eq!(lacks_code(b"1 2"), None);
    }

    #[test]
    fn stat_fields_behind_a_strange_program_name() {
        // The flags are the 9th field, what is pending the 31st.
        let stat = |flags: u32, pending: u32| {
            let zeros = " 0".repeat(21);
            format!("12 (a) 9 (b) R 1 12 12 0 -1 {flags}{zeros} {pending} 0").into_bytes()
        };
        assert_eq!(stat_field(&stat(4194308, 0), 4), Some(1));
        assert_eq!(is_exiting(&stat(4194308, 0)), Some(true));
        assert_eq!(is_exiting(&stat(4194304, 0)), Some(false));
        assert_eq!(is_exiting(&stat(4194304, 1 << 8)), Some(true));
        assert_eq!(is_exiting(b"12 (a) R 1"), None);
    }
}
