//! The command under test.
#![allow(dead_code)]

pub(crate) mod pool;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use sendfd_tests::has;

/// How long anything here may take on a machine that is busy: it fails then instead of hanging.
pub(crate) const PATIENCE: &str = "30";

pub(crate) fn sendfd(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendfd"));
    command
        .args(words)
        .stdin(Stdio::null())
        .env_remove("SENDFD_PATHS")
        .env_remove("LISTEN_PID");
    command
}

/// Runs it to its end.
pub(crate) fn run(words: &[&str]) -> Output {
    sendfd(words).output().expect("the command starts")
}

#[track_caller]
pub(crate) fn ok(words: &[&str]) -> String {
    let output = run(words);
    let text = stderr(&output);
    assert!(output.status.success(), "{words:?}: {text}");
    stdout(&output)
}

/// Runs what must fail with `code` and one line, which comes back.
#[track_caller]
pub(crate) fn fails(words: &[&str], code: i32) -> String {
    let output = run(words);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("sendfd: "), "{text}");
    text
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The pids of processes with `marker` in the environment that they were started with.
pub(crate) fn marked(marker: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("readable").flatten();
    let is_marked = |entry: &std::fs::DirEntry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let mut parts = environment.windows(marker.len());
        parts.any(|part| part == marker.as_bytes())
    };
    processes
        .filter(is_marked)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// A child that is killed, at the latest, with the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Running { child, stdout }
    }

    /// `sendfd recv PORT` with more words. Whoever sends to it waits until it listens.
    pub(crate) fn recv(words: &[&str]) -> Self {
        let mut all = vec!["recv", "--timeout", PATIENCE];
        all.extend(words);
        Running::start(&mut sendfd(&all))
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("its output");
        line.trim_end().to_owned()
    }

    /// The rest of its output, and how it ended.
    pub(crate) fn end(mut self) -> (String, ExitStatus) {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("its output");
        (text, self.child.wait().expect("ours"))
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A terminal: the side that a test holds, and the side for a program. Nothing, and the test skipped, where
/// there are none.
pub(crate) fn terminal() -> Option<(File, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).ok();
    has("pty", master.is_some()).then_some(())?;
    let master = master?;
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let slave = ioctl_tiocgptpeer(&master, flags).expect("its other side");
    Some((master.into(), slave))
}

/// Sends to a command that may still be starting.
#[track_caller]
pub(crate) fn send(target: &Running, port: &str, words: &[&str]) {
    let pid = target.pid();
    let mut all = vec!["send", &pid, port, "--timeout", PATIENCE];
    all.extend(words);
    ok(&all);
}
