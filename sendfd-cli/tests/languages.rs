//! One pool with workers in every language: reloads under load lose nothing.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::pool::{ANY, LIMIT, Pool, status};
use rustix::process::Signal;
use sendfd_tests::has;

/// `NAME=COMMAND` of each worker, one a line, from the Makefile, which builds them.
const WORKERS: &str = "SENDFD_TEST_WORKERS";

/// Asks until told to stop. How often each process answered, and what went wrong.
fn ask_again(address: &str, stop: &AtomicBool) -> (BTreeMap<String, u32>, Vec<String>) {
    let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match ask(address) {
            Ok(who) => *answers.entry(who).or_default() += 1,
            Err(error) => failures.push(error.to_string()),
        }
    }
    (answers, failures)
}

/// `LANGUAGE PID`.
fn ask(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, who)) if head.starts_with("HTTP/1.1 200") && !who.is_empty() => {
            Ok(who.trim_end().to_owned())
        }
        _ => Err(std::io::Error::other(format!("answered {answer:?}"))),
    }
}

#[test]
fn workers_in_every_language_are_reloaded_under_load_and_nothing_is_lost() {
    let workers = std::env::var(WORKERS).unwrap_or_default();
    let workers: Vec<&str> = workers.lines().filter(|line| !line.is_empty()).collect();
    if !has("languages", !workers.is_empty()) {
        return;
    }
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("a folder");
    let mut words = vec!["--listen", ANY, "--status", ANY];
    for worker in &workers {
        words.extend(["--worker", worker]);
    }
    let mut pool = Pool::start(&words);
    let address = pool.address(0);
    pool.ready(workers.len());
    let stop = AtomicBool::new(false);
    let results: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| ask_again(&address, &stop)))
            .collect();
        for generation in 0..3 {
            let seen = pool.seen.len();
            pool.signal(Signal::HUP);
            // One after the other, each in its own time.
            for nth in 1..=workers.len() {
                pool.lines_with(" retires", generation * workers.len() + nth);
            }
            pool.line_from(seen, &format!("{0} of {0} workers are new", workers.len()));
        }
        // The last generation has served, too.
        let end = Instant::now() + LIMIT;
        let handed = |worker: &serde_json::Value| worker["handed"].as_u64().unwrap_or_default();
        let before: Vec<u64> = each(&mut pool, handed);
        while each(&mut pool, handed)
            .iter()
            .zip(&before)
            .any(|(now, then)| now < &(then + 10))
        {
            assert!(Instant::now() < end, "somebody is not given anything");
        }
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|client| client.join().expect("no panic"))
            .collect()
    });
    let failures: Vec<&String> = results.iter().flat_map(|(_, failures)| failures).collect();
    assert!(failures.is_empty(), "{failures:?}");
    let mut processes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for who in results.iter().flat_map(|(answers, _)| answers.keys()) {
        let (language, pid) = who.rsplit_once(' ').expect("a language and a pid");
        let pids = processes.entry(language).or_default();
        if !pids.contains(&pid) {
            pids.push(pid);
        }
    }
    assert_eq!(processes.len(), workers.len(), "{processes:?}");
    // Each of the three reloads put another process into each place.
    assert!(
        processes.values().all(|pids| pids.len() >= 2),
        "{processes:?}"
    );
    pool.ends_with(" 0 lost, 0 killed unfinished");
}

fn each<T>(pool: &mut Pool, what: impl Fn(&serde_json::Value) -> T) -> Vec<T> {
    let status = status(pool);
    let workers = status["workers"].as_array().expect("a list");
    workers.iter().map(what).collect()
}
