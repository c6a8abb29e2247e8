//! A pool under test, and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sendfd_tests::has;

use super::sendfd;

pub(crate) const ANY: &str = "127.0.0.1:0";

/// How long anything may take on a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The worker of `examples/worker.rs`, which `cargo test` builds.
pub(crate) fn worker(how: &str) -> String {
    let command = Path::new(env!("CARGO_BIN_EXE_sendfd"));
    let path = command.parent().expect("a folder").join("examples/worker");
    assert!(path.exists(), "cargo build -p sendfd-cli --example worker");
    format!("{} {how}", path.display())
}

pub(crate) struct Pool {
    pub(crate) child: Child,
    pub(crate) lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Pool {
    pub(crate) fn start(words: &[&str]) -> Self {
        let mut all = vec!["pool"];
        all.extend(words);
        Self::of(&mut sendfd(&all))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Pool {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `text`, or finds one that was there already.
    #[track_caller]
    pub(crate) fn line(&mut self, text: &str) -> String {
        self.line_from(0, text)
    }

    /// As `line`, without the first `from` lines.
    #[track_caller]
    pub(crate) fn line_from(&mut self, from: usize, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        let mut next = from;
        loop {
            if let Some(line) = self.seen[next..].iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            next = self.seen.len();
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no line with {text:?} in {:#?}", self.seen),
            }
        }
    }

    /// Waits until workers have become ready so many times.
    #[track_caller]
    pub(crate) fn ready(&mut self, times: usize) {
        self.lines_with("is ready, by", times);
    }

    /// As `ready`; whether all are reached by pidfd, which the pool needs to hold their queues.
    #[track_caller]
    pub(crate) fn has_pidfd(&mut self, times: usize) -> bool {
        let lines = self.lines_with("is ready, by", times);
        let is_pidfd = |line: &String| line.contains("by pidfd,");
        has("pidfd", lines.iter().all(is_pidfd))
    }

    /// Waits until so many lines contain `text`; they come back.
    #[track_caller]
    pub(crate) fn lines_with(&mut self, text: &str, times: usize) -> Vec<String> {
        loop {
            let found: Vec<String> = self
                .seen
                .iter()
                .filter(|line| line.contains(text))
                .cloned()
                .collect();
            if found.len() >= times {
                return found;
            }
            self.line_from(self.seen.len(), text);
        }
    }

    /// The address of the nth listener.
    #[track_caller]
    pub(crate) fn address(&mut self, nth: usize) -> String {
        let lines = self.lines_with("listening on ", nth + 1);
        lines[nth].rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// What a worker that is a parent says of its child.
    #[track_caller]
    pub(crate) fn child_of_worker(&mut self) -> u32 {
        let line = self.line("worker: child ");
        let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok());
        pid.unwrap_or_else(|| panic!("{line}"))
    }

    /// Where the status page is.
    #[track_caller]
    pub(crate) fn status_address(&mut self) -> String {
        let line = self.line("status on http://");
        let address = line.rsplit("http://").next().unwrap_or_default();
        address.trim_end_matches('/').to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Has it drain, and waits for its end.
    #[track_caller]
    pub(crate) fn end(self) {
        self.ends_with(" lost, ");
    }

    /// As `end`; its last line says `what`.
    #[track_caller]
    pub(crate) fn ends_with(mut self, what: &str) {
        self.signal(Signal::TERM);
        self.line(what);
        assert!(self.child.wait().expect("ours").success());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects and reads to the end: `PID UID LIMIT tag=TAG DATA`.
pub(crate) fn ask(address: &str) -> Vec<String> {
    try_to_ask(address).unwrap_or_else(|error| panic!("{address}: {error}"))
}

pub(crate) fn try_to_ask(address: &str) -> std::io::Result<Vec<String>> {
    if address.contains('/') {
        let stream = std::os::unix::net::UnixStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        words(stream)
    } else {
        try_to_read(TcpStream::connect(address)?)
    }
}

/// What a client gets that has connected already.
#[track_caller]
pub(crate) fn read(client: TcpStream) -> Vec<String> {
    try_to_read(client).unwrap_or_else(|error| panic!("no answer: {error}"))
}

pub(crate) fn try_to_read(client: TcpStream) -> std::io::Result<Vec<String>> {
    client.set_read_timeout(Some(LIMIT))?;
    words(client)
}

pub(crate) fn words(mut stream: impl Read) -> std::io::Result<Vec<String>> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    if words.len() < 4 {
        return Err(std::io::Error::other(format!("{text:?}")));
    }
    Ok(words)
}

pub(crate) fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

pub(crate) fn status(pool: &mut Pool) -> serde_json::Value {
    let address = pool.status_address();
    let text = http(&address, "GET /status.json HTTP/1.1\r\n\r\n");
    serde_json::from_str(text.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON")
}

#[track_caller]
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a pid");
    kill_process(pid, signal).expect("it lives");
}

pub(crate) fn lives(pid: u32) -> bool {
    // A zombie that nobody has waited for yet does not live.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'))
}

#[track_caller]
pub(crate) fn ends(pid: u32) {
    let end = Instant::now() + LIMIT;
    while lives(pid) {
        assert!(Instant::now() < end, "process {pid} lives");
        std::thread::sleep(Duration::from_millis(2));
    }
}
