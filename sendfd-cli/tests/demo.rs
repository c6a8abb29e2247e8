//! The demo, whole: a load, a kill, a reload, and nothing lost.
#![allow(missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sendfd_tests::has;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pool/demo.py");

/// The worker of the demo in Rust; nothing, and the test skipped, where the demo cannot run.
fn worker() -> Option<String> {
    let runs = |program: &str, flag: &str| Command::new(program).arg(flag).output().is_ok();
    let command = Path::new(env!("CARGO_BIN_EXE_sendfd"));
    let worker = command.parent().expect("a folder").join("pool-worker");
    let there = has("python3", runs("python3", "-V"))
        && has("curl", runs("ab", "-V") || runs("curl", "-V"))
        && has("pool-worker", worker.exists());
    there.then(|| worker.display().to_string())
}

/// The demo with two workers that work, run by what `command` says.
fn demo<'a>(command: &'a mut Command, worker: &str, words: &[&str]) -> &'a mut Command {
    command
        .arg(DEMO)
        .args(["--sendfd", env!("CARGO_BIN_EXE_sendfd")])
        .args(words)
        .args(["one", "two"].map(|name| format!("{name}={worker}")))
        .stdin(Stdio::null())
}

/// What it writes, to the end of the pipe, and whether it succeeded.
fn run(worker: &str, words: &[&str]) -> (String, bool) {
    let output = demo(&mut Command::new("python3"), worker, words)
        .output()
        .expect("python3 runs");
    let text = common::stdout(&output) + &common::stderr(&output);
    (text, output.status.success())
}

#[test]
fn the_demo_loses_nothing() {
    let Some(worker) = worker() else { return };
    let (text, success) = run(&worker, &["--requests", "1500", "--kill", "two"]);
    assert!(success, "{text}");
    assert!(text.contains("\n0 lost\n"), "{text}");
    assert!(text.contains("reload: 2 of 2 workers are new"), "{text}");
    // Piped, it is plain lines.
    assert!(!text.contains('\x1b'), "{text}");
}

/// Each comes back, so that nothing that was started holds the pipe open.
#[test]
fn what_is_wrong_is_said() {
    let Some(worker) = worker() else { return };
    for (words, expected) in [
        (
            ["--kill", "two", "three=/nonexistent/worker"],
            "cannot start worker three (/nonexistent/worker)",
        ),
        (
            ["--kill", "two", "three=sh -c 'echo no module >&2; exit 3'"],
            "\ndemo: worker three: process ",
        ),
        (
            ["--kill", "four", "three=/nonexistent/worker"],
            "demo: there is no worker 'four' to be killed",
        ),
    ] {
        let (text, success) = run(&worker, &words);
        assert!(!success && text.contains(expected), "{text}");
        assert!(!text.contains("Traceback"), "{text}");
    }
}

/// A demo that serves, with everything that it started marked in the environment.
struct Serving {
    child: Child,
    marker: String,
    output: BufReader<std::process::ChildStdout>,
    pool: String,
}

impl Serving {
    fn start(command: &mut Command, name: &str) -> Self {
        let marker = format!("SENDFD_TEST_{name}_{}", std::process::id());
        let mut child = command
            .env(&marker, "")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let (mut seen, mut pool) = (String::new(), String::new());
        while !seen.ends_with("Ctrl-C ends it.\n") {
            let start = seen.len();
            let length = output.read_line(&mut seen).expect("its output");
            assert!(length > 0, "{seen}");
            if let Some(rest) = seen[start..].strip_prefix("pool: process ") {
                pool = rest.split(',').next().unwrap_or_default().to_owned();
            }
        }
        Serving {
            child,
            marker,
            output,
            pool,
        }
    }

    /// The processes that were started by it, in whatever way.
    fn left(&self) -> Vec<String> {
        common::marked(&self.marker)
    }

    /// What it still writes. Ends when nobody is left who could write.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.output
            .read_to_string(&mut rest)
            .expect("its output ends");
        let end = Instant::now() + Duration::from_secs(60);
        while !self.left().is_empty() {
            assert!(Instant::now() < end, "{:?} are left", self.left());
            std::thread::sleep(Duration::from_millis(5));
        }
        rest
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_outlives_a_demo_that_is_killed() {
    let Some(worker) = worker() else { return };
    let mut command = Command::new("python3");
    let mut serving = Serving::start(demo(&mut command, &worker, &["--serve"]), "KILLED");
    assert!(serving.left().len() >= 4, "{:?}", serving.left());
    serving.child.kill().expect("ours");
    serving.child.wait().expect("ours");
    serving.rest();
}

/// As when `make demo` is killed: the shell stands for make.
#[test]
fn nothing_outlives_who_started_the_demo() {
    let Some(worker) = worker() else { return };
    let mut command = Command::new("sh");
    command.args(["-c", "python3 \"$@\" --with $$; exit 9", "sh"]);
    let mut serving = Serving::start(demo(&mut command, &worker, &["--serve"]), "ORPHANED");
    serving.child.kill().expect("ours");
    serving.child.wait().expect("ours");
    serving.rest();
}

#[test]
fn a_pool_that_is_killed_is_said() {
    let Some(worker) = worker() else { return };
    let mut command = Command::new("python3");
    let command = demo(&mut command, &worker, &["--serve"]).stderr(Stdio::piped());
    let mut serving = Serving::start(command, "POOL");
    let pool = serving
        .pool
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pool.expect("its pid"), rustix::process::Signal::KILL)
        .expect("it lives");
    serving.rest();
    let mut text = String::new();
    let mut errors = serving.child.stderr.take().expect("piped");
    errors.read_to_string(&mut text).expect("its errors end");
    assert_eq!(text, "demo: the pool was killed by SIGKILL\n");
    assert_eq!(serving.child.wait().expect("ours").code(), Some(1));
}
