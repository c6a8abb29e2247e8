//! Senders and receivers in several processes and languages, to which everything that can happen to
//! a process happens at random moments: killed, stopped, forked, executed anew, closed and opened,
//! retired, its table of descriptors made tight.
//!
//!     chaos [--secs N] [--seed N] [--senders N] [--receivers N] LANGUAGE=COMMAND…
//!
//! Peers do what tests/PEER.md says. A thread of this process drives each peer and keeps a journal:
//! what it was told to send and answered, what it received. At the end of each round of some
//! seconds, it is proven from the journals that
//!
//! - what was sent with success arrived, unless its receiver was killed, closed or executed another
//!   program after the send began: whoever lived and went on receiving, or retired and drained, has it;
//! - what failed did not arrive; nothing arrived twice, or at another process;
//! - from one sender to one process by one path, the order is the order sent;
//! - what arrived are the open files that were sent, vouched for by the sender's pid;
//! - each process that lived to the end has the descriptors and threads that it began with, and has no
//!   child left.
//!
//! The seed decides what each thread does; when the others do theirs is up to the kernel.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Resource;
use sendfd_tests::passengers::{self, Passenger};
use sendfd_tests::{Answer, Peer, set_soft_limit, signal, word};

/// How long processes do things to each other before the journals are compared.
const ROUND: Duration = Duration::from_secs(10);
/// Nobody needs so long for a single thing unless it is stuck.
const STUCK: Duration = Duration::from_secs(180);
/// A tag is the sender's number in the round, then what it has sent so far.
const SENT_BITS: u32 = 32;
/// How many targets a process keeps in its cache, see sendfd-core/src/cache.rs.
const CACHED: usize = 16;

struct Language {
    name: String,
    command: Vec<String>,
}

/// One command to send, and what came of it.
struct Sent {
    tags: Range<u64>,
    to: i32,
    /// From this moment on, until that.
    began: Instant,
    ended: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
    /// The sender was killed, or some of several failed.
    Unknown,
}

struct Received {
    tag: u64,
    path: String,
    by: i32,
    from: i32,
}

/// What all threads of a round know.
struct Round {
    seed: u64,
    languages: Vec<Language>,
    passengers: Vec<Passenger>,
    sig: i32,
    /// Whom to send to: pids, 0 for nobody.
    targets: Vec<AtomicI32>,
    senders_stop: AtomicBool,
    receivers_stop: AtomicBool,
    senders: AtomicU32,
    sent: Mutex<Vec<Sent>>,
    received: Mutex<Vec<Received>>,
    /// The pid of each sender, by its number in the tags.
    pids: Mutex<HashMap<u64, i32>>,
    /// When a process last lost what was in its queue: killed, closed, executed anew.
    lost: Mutex<HashMap<i32, Instant>>,
    faults: Mutex<Vec<String>>,
    /// What was done to each process, and when it was over.
    history: Mutex<Vec<(i32, Instant, String)>>,
    events: Mutex<HashMap<&'static str, usize>>,
    /// What each thread does, for when it is stuck.
    doing: Vec<Doing>,
}

#[derive(Default)]
struct Doing {
    steps: AtomicU64,
    done: AtomicBool,
    pid: AtomicI32,
}

impl Round {
    fn fault(&self, text: String) {
        self.faults.lock().expect("no panic").push(text);
    }

    /// For who reads of a fault.
    fn note(&self, pid: i32, text: impl Into<String>) {
        let mut history = self.history.lock().expect("no panic");
        history.push((pid, Instant::now(), text.into()));
    }

    fn event(&self, name: &'static str) {
        *self
            .events
            .lock()
            .expect("no panic")
            .entry(name)
            .or_default() += 1;
    }

    fn start(&self, language: &Language) -> Peer {
        let mut command = Command::new(&language.command[0]);
        command.args(&language.command[1..]);
        passengers::inherit(&mut command, &self.passengers);
        let mut peer = Peer::start_command(&mut command);
        peer.ok("self");
        peer
    }
}

/// A peer with its journal's thread.
struct Actor<'a> {
    round: &'a Round,
    language: &'a Language,
    doing: &'a Doing,
    rng: Rng,
    peer: Peer,
}

impl Actor<'_> {
    fn step(&self) {
        self.doing.pid.store(self.peer.pid(), Ordering::Relaxed);
        self.doing.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether an event of one in `n` happens now.
    fn once_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn pause(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_micros(self.rng.u64(..most_ms * 1000)));
    }

    /// Stopped for a while, as by a shell's Ctrl-Z.
    fn stop_and_continue(&mut self) {
        self.round.event("stopped and continued");
        self.note("stopped and continued");
        kill(self.peer.pid(), libc::SIGSTOP);
        self.pause(20);
        kill(self.peer.pid(), libc::SIGCONT);
    }

    fn fork(&mut self) {
        let ms = self.rng.u32(..200);
        if !self.lacks(format!("fork ms={ms}")) {
            self.round.event("forked");
            self.note("forked");
        }
    }

    /// Asks for what not every language has.
    fn lacks(&mut self, line: String) -> bool {
        match self.peer.ask(&line) {
            Answer::Ok(_) => false,
            Answer::Error(libc::ENOSYS, _) => true,
            Answer::Error(errno, text) => {
                self.fault(format!("{line}: errno {errno}: {text}"));
                false
            }
        }
    }

    /// Has it execute itself. False where the language cannot.
    fn exec(&mut self) -> bool {
        if self.lacks("exec".to_owned()) {
            return false;
        }
        self.peer.ok("self");
        self.round.event("executed anew");
        true
    }

    fn note(&self, text: impl Into<String>) {
        self.round.note(self.peer.pid(), text);
    }

    fn fault(&self, text: String) {
        let (language, pid) = (&self.language.name, self.peer.pid());
        self.round.fault(format!("{language} {pid}: {text}"));
    }

    fn resources(&self) -> (usize, usize) {
        let count = |folder| std::fs::read_dir(folder).map_or(0, |all| all.count());
        let pid = self.peer.pid();
        (
            count(format!("/proc/{pid}/fd")),
            count(format!("/proc/{pid}/task")),
        )
    }

    /// Whether it has no more than it began with, after some time for what is let go elsewhere.
    fn has_only(&self, (fds, threads): (usize, usize)) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.resources();
            if now.0 <= fds && now.1 <= threads {
                return;
            }
            if Instant::now() > until {
                let links =
                    std::fs::read_dir(format!("/proc/{}/fd", self.peer.pid())).expect("it lives");
                let links: Vec<_> = links
                    .flatten()
                    .filter_map(|entry| std::fs::read_link(entry.path()).ok())
                    .collect();
                self.fault(format!(
                    "descriptors {fds} before and {} at the end, threads {threads} and {}: {links:?}",
                    now.0, now.1
                ));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: numbers only; the process is a child that nobody has waited for.
    unsafe { libc::kill(pid, signal) };
}

/// How the next life of a receiver's slot begins.
enum Next {
    SameProcess,
    NewProcess,
}

struct Receiver<'a> {
    actor: Actor<'a>,
    slot: &'a AtomicI32,
    /// Its descriptors were few at some time: EMFILE is allowed.
    tight: bool,
}

impl Receiver<'_> {
    fn run(mut self) {
        let sig = self.actor.round.sig;
        loop {
            self.actor.step();
            // What a language allocates once and keeps is there from now on.
            self.actor.peer.ok(format!("open sig={sig}"));
            self.actor.peer.ok(format!("close sig={sig}"));
            let before = self.actor.resources();
            loop {
                match self.life() {
                    Some(Next::SameProcess) => {}
                    Some(Next::NewProcess) => break,
                    None => {
                        self.actor.peer.ok("forget");
                        self.actor.has_only(before);
                        return;
                    }
                }
            }
            self.actor.peer = self.actor.round.start(self.actor.language);
            self.tight = false;
        }
    }

    /// From open to close. None: the round is over.
    fn life(&mut self) -> Option<Next> {
        let round = self.actor.round;
        let sig = round.sig;
        let pid = self.actor.peer.pid();
        self.actor.peer.ok(format!("open sig={sig}"));
        self.actor.note("opened");
        self.slot.store(pid, Ordering::Release);
        loop {
            if round.receivers_stop.load(Ordering::Acquire) {
                self.slot.store(0, Ordering::Release);
                if !self.retire() {
                    // Nobody sends any more.
                    while self.receive(8, 100) {}
                    self.actor.peer.ok(format!("close sig={sig}"));
                }
                return None;
            }
            self.receive(8, 5);
            if self.actor.once_in(40) {
                self.actor.stop_and_continue();
            }
            if self.actor.once_in(60) {
                self.actor.fork();
            }
            if self.actor.once_in(100) {
                self.tighten();
            }
            if self.actor.once_in(100) {
                // The next one takes over the slot: senders see it before this one retires, or after.
                self.slot.store(0, Ordering::Release);
                if self.retire() {
                    round.event("retired");
                    return Some(self.go_on_or_exec());
                }
                self.slot.store(pid, Ordering::Release);
            }
            if self.actor.once_in(200) {
                round.event("closed and opened");
                self.actor.peer.ok(format!("close sig={sig}"));
                self.lost("closed");
                return Some(self.go_on_or_exec());
            }
            if self.actor.once_in(200) && self.actor.exec() {
                self.lost("executed anew");
                return Some(Next::SameProcess);
            }
            if self.actor.once_in(200) {
                round.event("receiver killed");
                for _ in 0..8 {
                    self.actor.peer.tell(format!("recv sig={sig} keep=yes"));
                }
                self.actor.pause(1);
                self.actor.peer.kill();
                self.lost("killed");
                while let Some(answer) = self.actor.peer.answer_if_alive() {
                    self.journal(answer);
                }
                return Some(Next::NewProcess);
            }
        }
    }

    fn go_on_or_exec(&mut self) -> Next {
        match self.actor.rng.u32(..4) {
            0 if self.actor.exec() => Next::SameProcess,
            1 => Next::NewProcess,
            _ => Next::SameProcess,
        }
    }

    /// What was in its queue is gone from now on.
    fn lost(&self, how: &str) {
        self.actor.note(how);
        let mut lost = self.actor.round.lost.lock().expect("no panic");
        lost.insert(self.actor.peer.pid(), Instant::now());
    }

    /// Retires, drains to the last message and closes. False where the language cannot.
    fn retire(&mut self) -> bool {
        let sig = self.actor.round.sig;
        self.actor.note("to be retired");
        if self.actor.lacks(format!("retire sig={sig}")) {
            return false;
        }
        self.actor.note("retired");
        loop {
            self.actor.step();
            let line = format!("recv sig={sig} keep=yes ms=10000");
            match self.actor.peer.ask(line) {
                Answer::Error(libc::ESHUTDOWN, _) => break,
                Answer::Error(libc::EMFILE, _) if self.tight => {
                    self.actor.peer.ok("forget");
                }
                Answer::Ok(words) => {
                    self.journal(Answer::Ok(words));
                    self.actor.peer.ok("forget");
                }
                Answer::Error(errno, text) => {
                    self.actor.fault(format!("draining: errno {errno}: {text}"));
                    break;
                }
            }
        }
        self.actor.note("drained");
        self.actor.peer.ok(format!("close sig={sig}"));
        true
    }

    /// Receives up to `n`, and waits for the first. Whether any came.
    fn receive(&mut self, n: u32, ms: u32) -> bool {
        self.actor.step();
        let sig = self.actor.round.sig;
        let first = self
            .actor
            .peer
            .ask(format!("recv sig={sig} keep=yes ms={ms}"));
        let mut any = self.journal(first);
        if any {
            for _ in 1..n {
                self.actor.peer.tell(format!("recv sig={sig} keep=yes"));
            }
            for _ in 1..n {
                let answer = self.actor.peer.answer();
                any |= self.journal(answer);
            }
        }
        self.actor.peer.ok("forget");
        any
    }

    /// Leaves its table hardly any room for a while.
    fn tighten(&mut self) {
        self.actor.round.event("descriptors made few");
        self.actor.note("descriptors made few");
        self.tight = true;
        let (fds, _) = self.actor.resources();
        let room = self.actor.rng.u64(..6);
        set_soft_limit(
            self.actor.peer.pid(),
            Resource::Nofile,
            Some(fds as u64 + room),
        );
        for _ in 0..self.actor.rng.u32(1..6) {
            self.receive(8, 5);
        }
        set_soft_limit(self.actor.peer.pid(), Resource::Nofile, None);
    }

    /// Writes down what came. Whether it was a message.
    fn journal(&mut self, answer: Answer) -> bool {
        let words = match answer {
            Answer::Ok(words) => words,
            Answer::Error(libc::EAGAIN | libc::ETIMEDOUT, _) => return false,
            // Several are received before they are closed.
            Answer::Error(libc::EMFILE, _) if self.tight => return false,
            Answer::Error(errno, text) => {
                self.actor.fault(format!("recv: errno {errno}: {text}"));
                return false;
            }
        };
        let sent = numbers(word(&words, "data"));
        let at = numbers(word(&words, "at"));
        if sent.len() != at.len() {
            self.actor.fault(format!("sent {sent:?}, came {at:?}"));
        }
        // In a killed process nothing can be compared any more.
        if self.actor.once_in(16) && self.actor.peer.lives() {
            for (number, at) in sent.iter().zip(&at) {
                let all = &self.actor.round.passengers;
                let passenger = all.iter().find(|passenger| passenger.number == *number);
                let passenger = passenger.expect("only these are sent");
                match passengers::is_same_file(&passenger.fd, self.actor.peer.pid(), *at) {
                    Ok(true) => {}
                    other => self
                        .actor
                        .fault(format!("{}: another file came: {other:?}", passenger.name)),
                }
            }
        }
        let parse = |name| word(&words, name).parse::<u64>().expect("a number");
        let received = Received {
            tag: parse("tag"),
            path: word(&words, "path").to_owned(),
            by: self.actor.peer.pid(),
            from: parse("pid") as i32,
        };
        self.actor
            .round
            .received
            .lock()
            .expect("no panic")
            .push(received);
        true
    }
}

fn numbers(list: &str) -> Vec<i32> {
    list.split(',')
        .filter_map(|number| number.parse().ok())
        .collect()
}

struct Sender<'a> {
    actor: Actor<'a>,
    id: u64,
    next: u64,
}

impl Sender<'_> {
    fn run(mut self) {
        self.actor.step();
        let mut before = self.actor.resources();
        self.begin();
        while !self.actor.round.senders_stop.load(Ordering::Acquire) {
            self.actor.step();
            let nth = self.actor.rng.usize(..self.actor.round.targets.len());
            let target = self.actor.round.targets[nth].load(Ordering::Acquire);
            if target == 0 {
                self.actor.pause(1);
            } else if self.actor.once_in(2) {
                self.send(target);
            } else {
                self.send_over_a_target(target);
            }
            if !self.actor.peer.lives() {
                self.actor.peer = self.actor.round.start(self.actor.language);
                before = self.actor.resources();
                self.begin();
            }
            if self.actor.once_in(200) {
                self.actor.fork();
            }
            if self.actor.once_in(1000) && self.actor.exec() {
                self.begin();
            }
        }
        // Python, Node and Rust open something of their own at the first send.
        self.actor.has_only((before.0 + CACHED + 4, before.1 + 4));
    }

    /// A sender of its own in the journals.
    fn begin(&mut self) {
        let round = self.actor.round;
        self.id = u64::from(round.senders.fetch_add(1, Ordering::Relaxed)) + 1;
        self.next = 0;
        let mut pids = round.pids.lock().expect("no panic");
        pids.insert(self.id, self.actor.peer.pid());
    }

    fn send(&mut self, to: i32) {
        let paths = ["", "", " paths=pidfd", " paths=name"][self.actor.rng.usize(..4)];
        let sig = self.actor.round.sig;
        self.tell_and_journal(format!("send pid={to} sig={sig}{paths}"), to);
    }

    fn send_over_a_target(&mut self, to: i32) {
        let paths = ["", " paths=pidfd", " paths=name"][self.actor.rng.usize(..3)];
        let sig = self.actor.round.sig;
        match self
            .actor
            .peer
            .ask(format!("target pid={to} sig={sig}{paths}"))
        {
            Answer::Ok(_) => {}
            Answer::Error(errno, text) => return self.refused(errno, &text),
        }
        for _ in 0..self.actor.rng.u32(1..8) {
            self.tell_and_journal("tsend".to_owned(), to);
            if !self.actor.peer.lives() {
                return;
            }
        }
        self.actor.peer.ok("untarget");
    }

    /// One command to send, with what may happen to its sender meanwhile.
    fn tell_and_journal(&mut self, line: String, to: i32) {
        let times = if self.actor.once_in(2) {
            1
        } else {
            self.actor.rng.u64(2..32)
        };
        let ms = if self.actor.once_in(10) {
            self.actor.rng.u32(..30)
        } else {
            0
        };
        let count = self.actor.rng.usize(1..4);
        let fds: Vec<_> = self.actor.round.passengers[..count]
            .iter()
            .map(|one| one.number.to_string())
            .collect();
        let fds = fds.join(",");
        let first = (self.id << SENT_BITS) + self.next;
        self.next += times;
        let began = Instant::now();
        self.actor.peer.tell(format!(
            "{line} fds={fds} data={fds} ms={ms} tag={first} times={times}"
        ));
        if self.actor.once_in(200) {
            self.actor.stop_and_continue();
        }
        if self.actor.once_in(400) {
            self.actor.round.event("sender killed");
            self.actor.pause(1);
            self.actor.peer.kill();
        }
        let outcome = match self.actor.peer.answer_if_alive() {
            Some(Answer::Ok(_)) => Outcome::Success,
            Some(Answer::Error(errno, text)) => {
                self.refused(errno, &text);
                if times == 1 {
                    Outcome::Failure
                } else {
                    Outcome::Unknown
                }
            }
            None => Outcome::Unknown,
        };
        let sent = Sent {
            tags: first..first + times,
            to,
            began,
            ended: Instant::now(),
            outcome,
        };
        self.actor.round.sent.lock().expect("no panic").push(sent);
    }

    /// Of the errors, those that something which happens here explains.
    fn refused(&self, errno: i32, text: &str) {
        let (event, known) = match errno {
            libc::ESRCH => ("ESRCH", true),
            libc::ECONNREFUSED => ("ECONNREFUSED", true),
            libc::EAGAIN => ("EAGAIN", true),
            libc::ETIMEDOUT => ("ETIMEDOUT", true),
            libc::ETOOMANYREFS => ("ETOOMANYREFS", true),
            // By name alone, where a child still holds the address.
            libc::EOPNOTSUPP => ("EOPNOTSUPP", text.contains("name")),
            _ => ("", false),
        };
        if known {
            self.actor.round.event(event);
        } else {
            self.actor.fault(format!("send: errno {errno}: {text}"));
        }
    }
}

/// What was done to a process about the time of something that went wrong.
fn tell(round: &Round, pid: i32, began: Instant, ended: Instant) {
    const AROUND: Duration = Duration::from_millis(500);
    eprintln!("process {pid}; sent within {:?}:", ended - began);
    for (of, when, text) in round.history.lock().expect("no panic").iter() {
        if *of == pid && *when + AROUND > began && *when < ended + AROUND {
            let ms = 1000.0
                * (when.duration_since(began).as_secs_f64()
                    - began.duration_since(*when).as_secs_f64());
            eprintln!("  {ms:9.3} ms: {text}");
        }
    }
}

/// What the journals prove.
fn compare(round: &Round) {
    let sent = round.sent.lock().expect("no panic");
    let received = round.received.lock().expect("no panic");
    let lost = round.lost.lock().expect("no panic");
    let pids = round.pids.lock().expect("no panic");
    let mut arrived: HashMap<u64, i32> = HashMap::with_capacity(received.len());
    let mut last: HashMap<(u64, i32, &str), u64> = HashMap::new();
    let mut told = HashSet::new();
    for Received {
        tag,
        path,
        by,
        from,
    } in received.iter()
    {
        let id = tag >> SENT_BITS;
        if arrived.insert(*tag, *by).is_some() {
            round.fault(format!("{tag:x} arrived twice"));
        }
        if pids.get(&id) != Some(from) {
            round.fault(format!(
                "{tag:x} came from {from}, not from {:?}",
                pids.get(&id)
            ));
        }
        let before = last.insert((id, *by, path), *tag);
        if before.is_some_and(|before| before > *tag) {
            round.fault(format!(
                "{tag:x} by {path} to {by} arrived after {before:x?}"
            ));
        }
    }
    for Sent {
        tags,
        to,
        began,
        ended,
        outcome,
    } in sent.iter()
    {
        for tag in tags.clone() {
            match (arrived.get(&tag), outcome) {
                (Some(by), _) if by != to => {
                    round.fault(format!("{tag:x} for {to} arrived at {by}"))
                }
                (Some(_), Outcome::Failure) => round.fault(format!("{tag:x} failed and arrived")),
                (None, Outcome::Success) if lost.get(to).is_none_or(|when| when < began) => {
                    round.fault(format!(
                        "{tag:x} for {to}, sent with success, did not arrive"
                    ));
                    if told.insert(*to) {
                        tell(round, *to, *began, *ended);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Says who is stuck, and where, and gives up.
fn watch(round: &Round) {
    let mut seen: Vec<(u64, Instant)> = round.doing.iter().map(|_| (0, Instant::now())).collect();
    while !round
        .doing
        .iter()
        .all(|doing| doing.done.load(Ordering::Acquire))
    {
        std::thread::sleep(Duration::from_millis(50));
        for (doing, seen) in round.doing.iter().zip(&mut seen) {
            let steps = doing.steps.load(Ordering::Relaxed);
            if steps != seen.0 || doing.done.load(Ordering::Acquire) {
                *seen = (steps, Instant::now());
            } else if seen.1.elapsed() > STUCK {
                let pid = doing.pid.load(Ordering::Relaxed);
                eprintln!("chaos: process {pid} is stuck (seed {})", round.seed);
                for task in std::fs::read_dir(format!("/proc/{pid}/task"))
                    .into_iter()
                    .flatten()
                    .flatten()
                {
                    for file in ["comm", "wchan", "syscall"] {
                        let text =
                            std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
                        eprintln!("  {}: {file} {}", task.path().display(), text.trim());
                    }
                }
                std::process::exit(1);
            }
        }
    }
}

fn children() -> usize {
    let own = format!("PPid:\t{}", std::process::id());
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    all.filter(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line == own)
    })
    .count()
}

fn run(round: &Round, senders: usize) {
    let actor = |nth: usize| {
        let language = &round.languages[nth % round.languages.len()];
        let doing = &round.doing[nth];
        let rng = Rng::with_seed(round.seed.wrapping_mul(1_000_003).wrapping_add(nth as u64));
        Actor {
            round,
            language,
            doing,
            rng,
            peer: round.start(language),
        }
    };
    std::thread::scope(|scope| {
        let receivers: Vec<_> = round
            .targets
            .iter()
            .enumerate()
            .map(|(nth, slot)| {
                let receiver = Receiver {
                    actor: actor(senders + nth),
                    slot,
                    tight: false,
                };
                scope.spawn(move || {
                    let doing = receiver.actor.doing;
                    receiver.run();
                    doing.done.store(true, Ordering::Release);
                })
            })
            .collect();
        let senders: Vec<_> = (0..senders)
            .map(|nth| {
                let sender = Sender {
                    actor: actor(nth),
                    id: 0,
                    next: 0,
                };
                scope.spawn(move || {
                    let doing = sender.actor.doing;
                    sender.run();
                    doing.done.store(true, Ordering::Release);
                })
            })
            .collect();
        scope.spawn(|| watch(round));
        std::thread::sleep(ROUND);
        round.senders_stop.store(true, Ordering::Release);
        for sender in senders {
            sender.join().expect("a thread of ours");
        }
        round.receivers_stop.store(true, Ordering::Release);
        for receiver in receivers {
            receiver.join().expect("a thread of ours");
        }
    });
    let left = children();
    if left > 0 {
        round.fault(format!("{left} children are left"));
    }
}

/// The other threads would wait for whoever panicked.
fn end_at_first_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(1);
    }));
}

fn main() -> ExitCode {
    end_at_first_panic();
    let (mut secs, mut seed, mut senders, mut receivers) = (20, None, 5, 5);
    let mut languages = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(argument) = words.next() {
        let mut value = || words.next().and_then(|text| text.parse::<u64>().ok());
        match argument.as_str() {
            "--secs" => secs = value().expect("seconds"),
            "--seed" => seed = Some(value().expect("a number")),
            "--senders" => senders = value().expect("a number") as usize,
            "--receivers" => receivers = value().expect("a number") as usize,
            _ => {
                let (name, command) = argument.split_once('=').expect("LANGUAGE=COMMAND");
                languages.push((
                    name.to_owned(),
                    command.split(' ').map(str::to_owned).collect::<Vec<_>>(),
                ));
            }
        }
    }
    let first = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("== chaos: {senders} senders, {receivers} receivers, {secs} s, seed {first}");
    let began = Instant::now();
    let (mut handed_over, mut lost, mut events) = (0, 0, HashMap::<&str, usize>::new());
    for seed in first.. {
        let round = Arc::new(Round {
            seed,
            languages: languages
                .iter()
                .map(|(name, command)| Language {
                    name: name.clone(),
                    command: command.clone(),
                })
                .collect(),
            passengers: passengers::passengers().into_iter().take(4).collect(),
            sig: signal(4),
            targets: (0..receivers).map(|_| AtomicI32::new(0)).collect(),
            senders_stop: AtomicBool::new(false),
            receivers_stop: AtomicBool::new(false),
            senders: AtomicU32::new(0),
            sent: Mutex::default(),
            received: Mutex::default(),
            pids: Mutex::default(),
            lost: Mutex::default(),
            faults: Mutex::default(),
            history: Mutex::default(),
            events: Mutex::default(),
            doing: (0..senders + receivers).map(|_| Doing::default()).collect(),
        });
        run(&round, senders);
        compare(&round);
        handed_over += round.received.lock().expect("no panic").len();
        lost += round.lost.lock().expect("no panic").len();
        for (name, times) in round.events.lock().expect("no panic").iter() {
            *events.entry(name).or_default() += times;
        }
        let faults = round.faults.lock().expect("no panic");
        if !faults.is_empty() {
            for fault in faults.iter().take(20) {
                eprintln!("  {fault}");
            }
            eprintln!("chaos: {} faults; again with --seed {seed}", faults.len());
            return ExitCode::FAILURE;
        }
        if began.elapsed() + ROUND / 2 > Duration::from_secs(secs) {
            break;
        }
    }
    let mut events: Vec<_> = events.into_iter().collect();
    events.sort_unstable();
    for (name, times) in events {
        println!("{times:9}  {name}");
    }
    println!("{handed_over:9}  messages received; {lost} processes lost their queue");
    println!(
        "no loss, none twice, none out of order, nothing left: {:.0} s",
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
