//! The restart: requests all the time, and none that fails.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn no_connection_is_dropped() {
    let mut first = Command::new(env!("CARGO_BIN_EXE_restart"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Each process inherits the pipe and says in it who it is.
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    let mut serving = || {
        let line = lines.next().unwrap().unwrap();
        let mut words = line.split(' ');
        let pid = Pid::from_raw(words.nth(1).unwrap().parse().unwrap()).unwrap();
        let url = words.nth(1).unwrap().to_owned();
        (pid, url)
    };
    let (mut pid, url) = serving();
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();

    let stop = AtomicBool::new(false);
    let pids = std::thread::scope(|scope| {
        let client = || {
            let mut pids = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let mut connection = TcpStream::connect(&address).unwrap();
                connection
                    .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    .unwrap();
                let mut answer = String::new();
                connection.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
                pids.insert(answer.rsplit("process ").next().unwrap().trim().to_owned());
            }
            pids
        };
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(client)).collect();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            kill_process(pid, Signal::HUP).unwrap();
            let (next, same) = serving();
            assert_ne!(next, pid);
            assert_eq!(same, url);
            pid = next;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect::<BTreeSet<_>>()
    });
    assert!(pids.len() >= 4, "{pids:?}");
    kill_process(pid, Signal::TERM).unwrap();
    assert!(first.wait().unwrap().success());
}
