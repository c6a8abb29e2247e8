//! Processes under test, seen from the test that drives them.
//!
//! A test never sends or receives itself: it starts peers (`src/bin/peer.rs`, one process each) and
//! tells them what to do, a line at a time. So tests can run at the same time, each process's
//! descriptors can be counted, and a peer may change its user, fill its table or be killed.

pub mod passengers;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::Resource;

/// A process that does what it is told.
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// What a peer answered: `ok` with words, or `error` with the errno and the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Ok(String),
    Error(i32, String),
}

impl Peer {
    /// Starts `program`, by default the peer of this crate.
    pub fn start(program: &Path) -> Self {
        Self::start_command(&mut Command::new(program))
    }

    pub fn start_command(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = loop {
            match command.spawn() {
                // Another test forked while the copy of the program was open for writing, and its
                // child has not executed anything yet.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                result => break result.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            }
        };
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Peer {
            child,
            stdin,
            stdout,
        }
    }

    /// Starts a peer that runs as `uid` from the beginning, so that it is dumpable. For root only.
    pub fn start_as(program: &Path, uid: u32) -> Self {
        let copy = readable_by_all(program);
        Self::start_command(Command::new(copy).uid(uid).gid(uid))
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Has the peer do something and waits for its answer.
    pub fn ask(&mut self, line: impl AsRef<str>) -> Answer {
        self.tell(line.as_ref());
        self.answer()
    }

    /// Has the peer do something; the answer is fetched later.
    pub fn tell(&mut self, line: impl AsRef<str>) {
        let stdin = self.stdin.as_mut().expect("not ended yet");
        writeln!(stdin, "{}", line.as_ref()).expect("the peer lives");
    }

    pub fn answer(&mut self) -> Answer {
        let pid = self.pid();
        let answer = self.answer_if_alive();
        answer.unwrap_or_else(|| panic!("peer {pid} is gone"))
    }

    /// Has a peer do something that may have ended before it is told or before it answers.
    pub fn ask_if_alive(&mut self, line: &str) -> Option<Answer> {
        let stdin = self.stdin.as_mut().expect("not ended yet");
        match writeln!(stdin, "{line}") {
            Ok(()) => self.answer_if_alive(),
            Err(_) => None,
        }
    }

    /// The answer of a peer that may have ended instead.
    pub fn answer_if_alive(&mut self) -> Option<Answer> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a pipe");
        // What was killed while it answered has not answered.
        if !line.ends_with('\n') {
            return None;
        }
        let line = line.trim_end();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("", _) => None,
            ("ok", words) => Some(Answer::Ok(words.to_owned())),
            ("error", rest) => {
                let (errno, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let errno = errno.parse().expect("an errno");
                Some(Answer::Error(errno, text.to_owned()))
            }
            _ => panic!("peer {} answered {line:?}", self.pid()),
        }
    }

    /// Asks for what must go well.
    #[track_caller]
    pub fn ok(&mut self, line: impl AsRef<str>) -> String {
        match self.ask(&line) {
            Answer::Ok(words) => words,
            Answer::Error(errno, text) => panic!("{}: errno {errno}: {text}", line.as_ref()),
        }
    }

    /// Asks for what must fail with `errno`; returns the text of the error.
    #[track_caller]
    pub fn fails(&mut self, line: impl AsRef<str>, errno: i32) -> String {
        match self.ask(&line) {
            Answer::Error(other, text) if other == errno => text,
            other => panic!("{}: {other:?} instead of errno {errno}", line.as_ref()),
        }
    }

    /// How many descriptors it has open.
    pub fn count(&mut self) -> usize {
        self.ok("count").parse().expect("a number")
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("ours to kill");
        self.child.wait().expect("ours to wait for");
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("ours to wait for").is_none()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One word of an answer such as `tag=7 path=pidfd`.
#[track_caller]
pub fn word<'a>(answer: &'a str, name: &str) -> &'a str {
    let mut words = answer.split(' ');
    words
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name} in {answer:?}"))
}

/// A signal of its own for each test, and for each of its ports: `nth` from 0.
pub fn signal(nth: i32) -> i32 {
    sendfd_core::rtmin() + nth
}

/// Whether a test that needs something can run. If not, it is skipped by name, which is a failure
/// where `SENDFD_TEST_REQUIRE` lists the need.
pub fn has(need: &str, present: bool) -> bool {
    if present {
        return true;
    }
    let required = std::env::var("SENDFD_TEST_REQUIRE").unwrap_or_default();
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(
        !required.split(',').any(|word| word.trim() == need),
        "{test} needs {need}, which SENDFD_TEST_REQUIRE asks for"
    );
    // Not captured by the test harness, so that nobody overlooks it.
    let mut note = String::new();
    let _ = writeln!(note, "SKIPPED {test}: needs {need}");
    let _ = std::io::stderr().write_all(note.as_bytes());
    false
}

pub fn has_root() -> bool {
    has("root", rustix::process::geteuid().is_root())
}

/// The pid that was given out last, on kernels that let it be set.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Whether a process can be given the pid of one that is gone.
pub fn has_pids_again() -> bool {
    has_root() && has("ns_last_pid", Path::new(LAST_PID).exists())
}

/// Starts processes until one of them, which `start` answers with its pid, has this pid, which is free.
pub fn with_pid<T>(pid: i32, mut start: impl FnMut() -> (i32, T)) -> T {
    for _ in 0..1000 {
        std::fs::write(LAST_PID, (pid - 1).to_string()).expect("root may");
        let (own, process) = start();
        if own == pid {
            return process;
        }
    }
    panic!("no process got pid {pid} again");
}

/// The one process whose parent is `pid`. (Not all kernels have /proc/PID/task/TID/children.)
pub fn child_of(pid: i32) -> i32 {
    let parent = format!("PPid:\t{pid}");
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| status.lines().any(|line| line == parent))
    };
    pids.find(is_child).expect("a child")
}

/// Sets the soft limit of another process. None: as high as its hard limit.
pub fn set_soft_limit(pid: i32, resource: Resource, soft: Option<u64>) {
    // Of another type in each C library.
    let resource = resource as u32 as _;
    // SAFETY: valid places for the old and the new limit. A process that has ended has none.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::prlimit(pid, resource, std::ptr::null(), &mut limit);
        limit.rlim_cur = soft.unwrap_or(limit.rlim_max).min(limit.rlim_max);
        libc::prlimit(pid, resource, &limit, std::ptr::null_mut());
    }
}

/// A copy of a program where every user can execute it: the build folder may be closed to others.
fn readable_by_all(program: &Path) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("sendfd-tests-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for programs");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("open to all");
        folder
    });
    let copy = folder.join(program.file_name().expect("a program"));
    // Written under another name first: another test may be executing the copy.
    if !copy.exists() {
        let fresh = folder.join(format!("{:?}", std::thread::current().id()));
        std::fs::copy(program, &fresh).expect("a copy");
        std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).expect("executable");
        std::fs::rename(&fresh, &copy).expect("the copy in its place");
    }
    copy
}
