//! The brokers: who asks gets its file, and whoever has the pid of one that asked and died gets nothing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sendfd_core::{Port, SendOptions, Wait, send_with};
use sendfd_tests::{has_pids_again, with_pid};

const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: &str = "asked by nobody that lives\n";
const WANTED: &str = "what is wanted\n";

/// A broker that serves or asks, and what it says on standard error.
struct Broker {
    child: Child,
    said: Receiver<String>,
}

impl Broker {
    fn start(command: &[String], words: &[&str]) -> Self {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, said) = channel();
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let _ = say.send(line);
            }
        });
        Broker { child, said }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn says(&self, line: &str) {
        assert_eq!(self.said.recv_timeout(PATIENCE).as_deref(), Ok(line));
    }

    /// What one that asks has written, once it has ended.
    fn wrote(mut self) -> String {
        let mut text = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The brokers of all languages that were built: NAME=COMMAND, a line each.
fn brokers() -> Vec<Vec<String>> {
    let others = std::env::var("SENDFD_TEST_BROKERS").unwrap_or_default();
    let others = others.lines().filter_map(|line| line.split_once('='));
    let others = others.map(|(_, command)| command.split(' ').map(str::to_owned).collect());
    std::iter::once(vec![env!("CARGO_BIN_EXE_broker").to_owned()])
        .chain(others)
        .collect()
}

/// Two files, to be handed out.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("0"), NOBODY).unwrap();
        fs::write(folder.path().join("1"), WANTED).unwrap();
        Files(folder)
    }

    fn serve(&self, command: &[String], port: Port) -> Broker {
        let sig = port.signal().to_string();
        let files = ["0", "1"].map(|name| self.0.path().join(name).display().to_string());
        Broker::start(command, &["serve", &sig, &files[0], &files[1]])
    }
}

fn ask(command: &[String], pid: u32, port: Port, nth: u32) -> Broker {
    let (pid, sig, nth) = (pid.to_string(), port.signal().to_string(), nth.to_string());
    Broker::start(command, &["ask", &pid, &sig, &nth])
}

#[test]
fn who_asks_gets_its_file_in_every_language() {
    let (files, port) = (Files::new(), Port::new(20).unwrap());
    for serving in brokers() {
        let broker = files.serve(&serving, port);
        for asking in brokers() {
            assert_eq!(ask(&asking, broker.pid(), port, 1).wrote(), WANTED);
            let none = ask(&asking, broker.pid(), port, 2);
            none.says(&format!("asked process {}", broker.pid()));
            assert!(
                none.said
                    .recv_timeout(PATIENCE)
                    .unwrap()
                    .contains("no such file")
            );
        }
    }
}

#[test]
fn an_answer_reaches_nobody_who_has_the_pid_by_then() {
    if !has_pids_again() {
        return;
    }
    let (files, port) = (Files::new(), Port::new(21).unwrap());
    for command in brokers() {
        let broker = files.serve(&command, port);
        assert_eq!(ask(&command, broker.pid(), port, 1).wrote(), WANTED);
        // One asks, and dies before the broker comes to its request.
        broker.signal(Signal::STOP);
        let mut asking = ask(&command, broker.pid(), port, 0);
        let pid = asking.pid();
        asking.says(&format!("asked process {}", broker.pid()));
        asking.child.kill().unwrap();
        asking.child.wait().unwrap();
        // Another program has its pid and listens where the broker does.
        let heir = with_pid(pid as i32, || {
            let heir = files.serve(&command, port);
            (heir.pid() as i32, heir)
        });
        broker.signal(Signal::CONT);
        broker.says(&format!(
            "broker: process {pid} is gone, and gets no answer"
        ));
        // The broker goes on, and so is done with that request.
        assert_eq!(ask(&command, broker.pid(), port, 1).wrote(), WANTED);
        // What an answer to the pid would have been, the heir takes; this is the first that it gets.
        let options = SendOptions::new().wait(Wait::For(PATIENCE));
        let file = fs::File::open("/dev/null").unwrap();
        send_with(pid, port, &[file.as_fd()], &options).unwrap();
        let own = std::process::id();
        heir.says(&format!("broker: process {own} sent what is no request"));
    }
}
