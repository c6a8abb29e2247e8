//! Every language to every language, over every path, in both ways to receive, with every kind of
//! descriptor; then the same with something taken from the sender or the receiver.
//!
//!     conformance [--scene NAME]… LANGUAGE=COMMAND…
//!
//! Peers do what tests/PEER.md says. What arrives is compared with what was sent by kcmp(2). A table
//! comes at the end; a skip is named and counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Resource;
use sendfd_tests::passengers::{self, Passenger};
use sendfd_tests::{Answer, Peer, child_of, set_soft_limit, signal, word};

/// A way to ask for a path.
const WAYS: [&str; 3] = ["", "pidfd", "name"];

/// What is to come of it.
#[derive(Clone, Copy)]
enum Outcome {
    /// It arrives by one of these paths.
    By(&'static [&'static str]),
    /// It is refused with one of these.
    Refused(&'static [i32]),
}
use Outcome::{By, Refused};

/// A restriction: of the sender, of the receiver or of both, each in a sandbox of its own.
struct Scene {
    name: &'static str,
    sender: &'static [&'static str],
    receiver: &'static [&'static str],
    /// The environment's SENDFD_PATHS of the sender.
    environment: Option<&'static str>,
    /// For each of [`WAYS`].
    outcomes: [Outcome; 3],
}

const ANY: Outcome = By(&["syscall", "pidfd", "name"]);
const PIDFD: Outcome = By(&["pidfd"]);
const NAME: Outcome = By(&["name"]);
const FREE: [Outcome; 3] = [ANY, PIDFD, NAME];

const fn scene(
    name: &'static str,
    sender: &'static [&'static str],
    receiver: &'static [&'static str],
    outcomes: [Outcome; 3],
) -> Scene {
    Scene {
        name,
        sender,
        receiver,
        environment: None,
        outcomes,
    }
}

fn scenes() -> Vec<Scene> {
    use libc::{EOPNOTSUPP, EPERM, ESRCH};
    const BY_NAME: Outcome = By(&["syscall", "name"]);
    let eperm = [BY_NAME, Refused(&[EPERM]), NAME];
    let enosys = [BY_NAME, Refused(&[EOPNOTSUPP]), NAME];
    vec![
        scene("nothing", &[], &[], FREE),
        scene("pidfd_getfd: EPERM", &["getfd-eperm"], &[], eperm),
        scene("pidfd_getfd: ENOSYS", &["getfd-enosys"], &[], enosys),
        Scene {
            environment: Some("syscall,name"),
            ..scene(
                "pidfd_getfd: killed, SENDFD_PATHS",
                &["getfd-kill"],
                &[],
                enosys,
            )
        },
        // As before Linux 5.1.
        scene("no pidfds, sender", &["pidfd-enosys"], &[], enosys),
        scene("no pidfds, receiver", &[], &["pidfd-enosys"], FREE),
        scene("Docker's filter, sender", &["docker"], &[], eperm),
        scene("Docker's filter, receiver", &[], &["docker"], FREE),
        scene("Docker's filter, both", &["docker"], &["docker"], eperm),
        scene("recvmmsg: ENOSYS, receiver", &[], &["no-recvmmsg"], FREE),
        scene(
            "network namespace",
            &[],
            &["netns"],
            [By(&["syscall", "pidfd"]), PIDFD, Refused(&[EOPNOTSUPP])],
        ),
        scene("pid namespace, receiver", &[], &["pidns"], FREE),
        scene(
            "pid namespace, sender",
            &["pidns"],
            &[],
            [Refused(&[ESRCH]), Refused(&[ESRCH]), Refused(&[ESRCH])],
        ),
        scene("user namespace, receiver", &[], &["userns"], FREE),
        // The rights over a process do not reach out of a user namespace.
        scene("user namespace, sender", &["userns"], &[], eperm),
        scene(
            "Landlock's scopes, sender",
            &["landlock"],
            &[],
            [Refused(&[EPERM]), Refused(&[EPERM]), Refused(&[EPERM])],
        ),
        scene("Landlock's scopes, receiver", &[], &["landlock"], FREE),
        scene("no /proc, sender", &["no-proc"], &[], enosys),
        scene("no /proc, receiver", &[], &["no-proc"], FREE),
        // It has fewer rights than its target, whose folder in /proc it does not see.
        scene(
            "hidepid=2, root without capabilities",
            &["hidepid", "no-caps"],
            &[],
            eperm,
        ),
    ]
}

struct Language {
    name: String,
    command: Vec<String>,
}

impl Language {
    /// Why it cannot be run behind `words`, where that is known.
    fn lacks(&self, words: &[&str]) -> Option<&'static str> {
        let emulated = self.command[0].contains("qemu-");
        (emulated && words.contains(&"no-proc")).then_some(
            "without /proc, qemu-user lacks the ioctl(2) that tells a process's pid namespace",
        )
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failures: Vec<String>,
    skips: BTreeMap<String, usize>,
    /// Passed and tried, by scene and languages.
    cells: BTreeMap<(usize, usize, usize), (usize, usize)>,
}

impl Tally {
    fn skip(&mut self, why: String) {
        *self.skips.entry(why).or_default() += 1;
    }

    fn check(
        &mut self,
        cell: (usize, usize, usize),
        what: impl Fn() -> String,
        result: Result<(), String>,
    ) {
        let (passed, tried) = self.cells.entry(cell).or_default();
        *tried += 1;
        match result {
            Ok(()) => {
                *passed += 1;
                self.passed += 1;
            }
            Err(error) => self.failures.push(format!("{}: {error}", what())),
        }
    }
}

/// A peer, and what it is known by.
struct Running {
    peer: Peer,
    /// As this process sees it, which may be the child of what was started.
    pid: i32,
    takes_signals: bool,
}

/// Starts a peer behind `words` of restricted. None: the system does not allow them.
fn start(
    language: &Language,
    words: &[&str],
    environment: Option<&str>,
    passengers: &[Passenger],
) -> Option<Running> {
    let mut command = if words.is_empty() {
        Command::new(&language.command[0])
    } else {
        let own = std::env::current_exe().expect("/proc");
        let mut command = Command::new(own.with_file_name("restricted"));
        command.args(words).arg("--").arg(&language.command[0]);
        command
    };
    command.args(&language.command[1..]);
    if let Some(paths) = environment {
        command.env("SENDFD_PATHS", paths);
    }
    passengers::inherit(&mut command, passengers);
    let mut peer = Peer::start_command(&mut command);
    let Some(Answer::Ok(answer)) = peer.ask_if_alive("self") else {
        return None;
    };
    let pid = if words.contains(&"pidns") {
        child_of(peer.pid())
    } else {
        peer.pid()
    };
    Some(Running {
        peer,
        pid,
        takes_signals: word(&answer, "signals") == "yes",
    })
}

fn ask(running: &mut Running, line: &str) -> Result<String, String> {
    progress();
    match running.peer.ask(line) {
        Answer::Ok(words) => Ok(words),
        Answer::Error(errno, text) => Err(format!("{line}: errno {errno}, {text}")),
    }
}

fn must(running: &mut Running, line: &str) -> String {
    ask(running, line).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(running: &mut Running, line: &str, errnos: &[i32]) -> Result<(), String> {
    progress();
    match running.peer.ask(line) {
        Answer::Error(errno, text) if errnos.contains(&errno) => match text.trim() {
            "" => Err(format!("{line}: no words")),
            _ => Ok(()),
        },
        other => Err(format!("{line}: {other:?} instead of {errnos:?}")),
    }
}

/// Where messages are received: a receiver at one signal, signal mode at another.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Receiver,
    Signals,
}

impl Mode {
    fn sig(self) -> i32 {
        match self {
            Mode::Receiver => signal(3),
            Mode::Signals => signal(4),
        }
    }

    fn take(self) -> String {
        let verb = match self {
            Mode::Receiver => "recv",
            Mode::Signals => "take",
        };
        format!("{verb} sig={} ms=20000 keep=yes", self.sig())
    }
}

/// Whether signal mode is the kernel's call, which is then the only path to it.
fn kernel_has_the_call() -> bool {
    Path::new("/proc/sys/kernel/pidfd_sendfd_nr").exists()
}

/// What is to come of a message to signal mode, where one to a receiver arrives.
fn outcome_for_signals(scene: &Scene, way: &str, by: &'static [&'static str]) -> Outcome {
    // The kernel's call is not allowed there, or its number cannot be read.
    let without = |words: &[&str]| words.contains(&"docker") || words.contains(&"no-proc");
    let by_the_call = kernel_has_the_call() && !scene.receiver.contains(&"no-proc");
    if by_the_call && (without(scene.sender) || !way.is_empty()) {
        Refused(&[libc::ECONNREFUSED])
    } else {
        By(by)
    }
}

/// What a receiver is to be told of the sender.
struct Seen {
    pid: i32,
    uid: u32,
}

fn numbers(list: &str) -> Vec<i32> {
    list.split(',')
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Whether the descriptor at `number` of `pid` is the passenger, and closes at exec.
fn is_the_passenger(passenger: &Passenger, pid: i32, number: i32) -> Result<(), String> {
    match passengers::is_same_file(&passenger.fd, pid, number) {
        Ok(true) => {}
        Ok(false) => return Err("another open file arrived".to_owned()),
        Err(error) => return Err(format!("kcmp: {error}")),
    }
    let flags = passengers::flags_of(pid, number).ok_or("no such descriptor")?;
    if flags & libc::O_CLOEXEC == 0 {
        return Err("it is not close-on-exec".to_owned());
    }
    Ok(())
}

fn hand_over(
    sender: &mut Running,
    receiver: &mut Running,
    passenger: &Passenger,
    way: &str,
    by: &[&str],
    mode: Mode,
    seen: &Seen,
) -> Result<(), String> {
    let paths = if way.is_empty() {
        String::new()
    } else {
        format!(" paths={way}")
    };
    let (pid, sig, number) = (receiver.pid, mode.sig(), passenger.number);
    ask(
        sender,
        &format!("send pid={pid} sig={sig} fds={number}{paths}"),
    )?;
    let answer = ask(receiver, &mode.take())?;
    let at = numbers(word(&answer, "at"));
    let &[at] = &at[..] else {
        return Err(format!("not one descriptor: {answer}"));
    };
    is_the_passenger(passenger, pid, at)?;
    let (seen_pid, seen_uid) = (word(&answer, "pid"), word(&answer, "uid"));
    if seen_pid != seen.pid.to_string() || seen_uid != seen.uid.to_string() {
        return Err(format!("from {} of {}: {answer}", seen.pid, seen.uid));
    }
    if mode == Mode::Receiver && !by.contains(&word(&answer, "path")) {
        return Err(format!("not by {by:?}: {answer}"));
    }
    must(receiver, "forget");
    Ok(())
}

/// Around what a record has room for, and the most that a message carries.
const SIZES: [usize; 5] = [0, 4096, 4097, 65_536, 1 << 20];

/// Data of every size arrives as it was sent, beside one descriptor and beside as many as there may be.
fn sizes(
    sender: &mut Running,
    receiver: &mut Running,
    passenger: &Passenger,
    way: &str,
) -> Result<(), String> {
    let (pid, sig, number) = (receiver.pid, Mode::Receiver.sig(), passenger.number);
    let open = |pid: i32| {
        let table = std::fs::read_dir(format!("/proc/{pid}/fd"));
        table.map_or(0, Iterator::count)
    };
    let mut before = None;
    for size in SIZES {
        let data: String = (0..size)
            .map(|nth| char::from(b'a' + (nth % 25 + nth / 4096) as u8 % 26))
            .collect();
        let most = if size > 4096 { 252 } else { 253 };
        for count in [1, most] {
            let list = vec![number.to_string(); count].join(",");
            let line = format!("send pid={pid} sig={sig} fds={list} paths={way} data={data}");
            ask(sender, &line).map_err(|error| error.replace(&data, "…"))?;
            let answer = ask(receiver, &Mode::Receiver.take())?;
            let came = word(&answer, "data");
            if came != data {
                return Err(format!("{} bytes of {size}, or others", came.len()));
            }
            let at = numbers(word(&answer, "at"));
            if at.len() != count {
                return Err(format!("{} descriptors of {count}", at.len()));
            }
            is_the_passenger(passenger, pid, at[0])?;
            must(receiver, "forget");
            // What carried the data is open nowhere. A receiver that has nothing to do has not seen yet who
            // connected and is gone.
            let mut now = (open(sender.pid), open(receiver.pid));
            let (most, more) = *before.get_or_insert(now);
            for _ in 0..100 {
                if now.0 <= most && now.1 <= more {
                    break;
                }
                let _ = ask(receiver, &format!("recv sig={sig} ms=10"));
                now = (open(sender.pid), open(receiver.pid));
            }
            if now.0 > most || now.1 > more {
                return Err(format!("{size} bytes: {now:?} open, {before:?} before"));
            }
            before = Some(now);
        }
    }
    let data = "x".repeat((1 << 20) + 1);
    let line = format!("send pid={pid} sig={sig} fds={number} paths={way} data={data}");
    refused(sender, &line, &[libc::EMSGSIZE]).map_err(|error| error.replace(&data, "…"))
}

/// What a message carries beside one descriptor, and the order of messages.
fn cargo(
    sender: &mut Running,
    receiver: &mut Running,
    all: &[Passenger],
    way: &str,
) -> Result<(), String> {
    let (pid, sig) = (receiver.pid, Mode::Receiver.sig());
    let recv = Mode::Receiver.take();
    let list: Vec<String> = all
        .iter()
        .map(|passenger| passenger.number.to_string())
        .collect();
    let list = list.join(",");
    let data = "0123456789abcdef".repeat(240);
    let tag = u64::MAX - 7;
    let to = format!("pid={pid} sig={sig} paths={way}");
    ask(
        sender,
        &format!("send {to} fds={list} tag={tag} data={data}"),
    )?;
    let answer = ask(receiver, &recv)?;
    let at = numbers(word(&answer, "at"));
    if at.len() != all.len() {
        return Err(format!("{} descriptors of {}", at.len(), all.len()));
    }
    for (passenger, at) in all.iter().zip(at) {
        is_the_passenger(passenger, pid, at)
            .map_err(|error| format!("{}: {error}", passenger.name))?;
    }
    if word(&answer, "tag") != tag.to_string() || word(&answer, "data") != data {
        return Err(format!("another tag or other data: {answer}"));
    }
    must(receiver, "forget");
    // As many as one message can carry.
    let most = vec![all[0].number.to_string(); 253].join(",");
    ask(sender, &format!("send {to} fds={most}"))?;
    let at = numbers(word(&ask(receiver, &recv)?, "at")).len();
    if at != 253 {
        return Err(format!("{at} descriptors of 253"));
    }
    must(receiver, "forget");
    // In order, over a target and over what sendfd() keeps open.
    must(sender, &format!("target {to}"));
    let number = all[0].number;
    ask(sender, &format!("tsend fds={number} tag=1000 times=40"))?;
    must(sender, "untarget");
    ask(sender, &format!("send {to} fds={number} tag=2000 times=40"))?;
    let mut tags = (1000..1040).chain(2000..2040).collect::<Vec<u64>>();
    // Two connections by name have no order between each other.
    let mut came = Vec::new();
    for _ in 0..80 {
        let answer = ask(receiver, &recv)?;
        came.push(
            word(&answer, "tag")
                .parse::<u64>()
                .map_err(|error| error.to_string())?,
        );
    }
    must(receiver, "forget");
    let sorted = |tags: &[u64], first: u64| -> Vec<u64> {
        tags.iter()
            .copied()
            .filter(|tag| (first..first + 1000).contains(tag))
            .collect()
    };
    if sorted(&came, 1000) != sorted(&tags, 1000) || sorted(&came, 2000) != sorted(&tags, 2000) {
        tags.clear();
        return Err(format!("out of order: {came:?}"));
    }
    Ok(())
}

/// What every sender answers in the same way.
fn errors(
    sender: &mut Running,
    listening: i32,
    all: &[Passenger],
) -> Vec<(&'static str, Result<(), String>)> {
    let number = all[0].number;
    let sig = Mode::Receiver.sig();
    let gone = {
        let mut child = Command::new("true").spawn().expect("true");
        let pid = child.id();
        child.wait().expect("ours");
        pid
    };
    let many = vec![number.to_string(); 254].join(",");
    let mut cases: Vec<(&str, String, &[i32])> = vec![
        (
            "no such process",
            format!("send pid={gone} sig={sig} fds={number}"),
            &[libc::ESRCH],
        ),
        (
            "not listening",
            format!("send pid={listening} sig={} fds={number}", signal(9)),
            &[libc::ECONNREFUSED],
        ),
        (
            "not a real-time signal",
            format!("send pid={listening} sig=10 fds={number}"),
            &[libc::EINVAL],
        ),
        (
            "pid 0",
            format!("send pid=0 sig={sig} fds={number}"),
            &[libc::EINVAL],
        ),
        (
            "too many",
            format!("send pid={listening} sig={sig} fds={many}"),
            &[libc::EINVAL],
        ),
        (
            "none",
            format!("send pid={listening} sig={sig} fds="),
            &[libc::EINVAL],
        ),
        (
            "not open",
            format!("send pid={listening} sig={sig} fds=90"),
            &[libc::EBADF],
        ),
        (
            "waits in vain",
            format!("send pid={listening} sig={} fds={number} ms=30", signal(9)),
            &[libc::ETIMEDOUT],
        ),
    ];
    if !kernel_has_the_call() {
        let line = format!("send pid={listening} sig={sig} fds={number} paths=syscall");
        cases.push(("no such path", line, &[libc::EOPNOTSUPP]));
    }
    cases
        .into_iter()
        .map(|(what, line, errnos)| (what, refused(sender, &line, errnos)))
        .collect()
}

/// A table that gets full: EMFILE is said, and nothing is lost.
fn full_table(
    sender: &mut Running,
    receiver: &mut Running,
    number: i32,
    way: &str,
) -> Result<(), String> {
    let (pid, sig) = (receiver.pid, Mode::Receiver.sig());
    // The kernel's own number for the connection, where there is one, is given first.
    ask(
        sender,
        &format!("send pid={pid} sig={sig} fds={number} tag=1 paths={way}"),
    )?;
    ask(receiver, &Mode::Receiver.take())?;
    let open = || -> Vec<i32> {
        let all = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("it lives")
            .flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    };
    // So that five numbers are free. What is above the limit, such as the marker, does not count.
    let used = open();
    let free = (0..).filter(|number| !used.contains(number));
    let limit = free.take(6).last().unwrap_or(0);
    set_soft_limit(pid, Resource::Nofile, Some(limit as u64));
    let send = format!("send pid={pid} sig={sig} fds={number} tag=100 times=30 paths={way}");
    let sent = ask(sender, &send);
    let mut tags = Vec::new();
    let mut full = 0;
    let mut result = sent.map(drop);
    while result.is_ok() && tags.len() < 30 {
        progress();
        match receiver
            .peer
            .ask(format!("recv sig={sig} ms=5000 keep=yes"))
        {
            Answer::Ok(answer) => tags.push(word(&answer, "tag").parse::<u64>().unwrap_or(0)),
            Answer::Error(libc::EMFILE, _) if full < 100 => {
                full += 1;
                must(receiver, "forget");
            }
            Answer::Error(errno, text) => {
                result = Err(format!("errno {errno}, {text}, after {tags:?}"))
            }
        }
    }
    set_soft_limit(pid, Resource::Nofile, None);
    must(receiver, "forget");
    result?;
    if tags != (100..130).collect::<Vec<u64>>() {
        return Err(format!("{tags:?}"));
    }
    if full == 0 {
        return Err("EMFILE was never said".to_owned());
    }
    Ok(())
}

/// A queue of signals without room: nothing is lost.
fn no_room_for_signals(
    sender: &mut Running,
    receiver: &mut Running,
    number: i32,
) -> Result<(), String> {
    let (pid, sig) = (receiver.pid, Mode::Signals.sig());
    // Without a tag, which the kernel's call does not carry.
    let send = format!("send pid={pid} sig={sig} fds={number}");
    set_soft_limit(pid, Resource::Sigpending, Some(0));
    let sent = if kernel_has_the_call() {
        // There is no inbox: the sender is told.
        refused(sender, &send, &[libc::EAGAIN])
    } else {
        (0..5).try_for_each(|_| ask(sender, &send).map(drop))
    };
    let early = receiver.peer.ask(format!("take sig={sig} ms=50"));
    set_soft_limit(pid, Resource::Sigpending, None);
    sent?;
    if !matches!(early, Answer::Error(libc::EAGAIN, _)) {
        return Err(format!("with room for none: {early:?}"));
    }
    if kernel_has_the_call() {
        (0..5).try_for_each(|_| ask(sender, &send).map(drop))?;
    }
    for _ in 0..5 {
        ask(receiver, &Mode::Signals.take())?;
    }
    must(receiver, "forget");
    Ok(())
}

fn run(nth: usize, scene: &Scene, languages: &[Language], all: &[Passenger], tally: &mut Tally) {
    let open = |language: &Language, words: &[&str], environment, passengers: &[Passenger]| {
        start(language, words, environment, passengers)
    };
    let mut receivers = Vec::new();
    for (at, language) in languages.iter().enumerate() {
        if let Some(why) = language.lacks(scene.receiver) {
            tally.skip(format!("{}: {}: {why}", scene.name, language.name));
            continue;
        }
        match open(language, scene.receiver, None, &[]) {
            Some(mut running) => {
                must(&mut running, &format!("open sig={}", Mode::Receiver.sig()));
                if running.takes_signals {
                    must(
                        &mut running,
                        &format!("listen sig={} how=blocked", Mode::Signals.sig()),
                    );
                }
                receivers.push((at, running));
            }
            None => tally.skip(format!(
                "{}: {} is not allowed here",
                scene.name,
                scene.receiver.join(" ")
            )),
        }
    }
    for (from, language) in languages.iter().enumerate() {
        if receivers.is_empty() {
            return;
        }
        if let Some(why) = language.lacks(scene.sender) {
            tally.skip(format!("{}: {}: {why}", scene.name, language.name));
            continue;
        }
        let Some(mut sender) = open(language, scene.sender, scene.environment, all) else {
            tally.skip(format!(
                "{}: {} is not allowed here",
                scene.name,
                scene.sender.join(" ")
            ));
            continue;
        };
        let elsewhere = scene.receiver.contains(&"pidns");
        // SAFETY: a plain call.
        let own = unsafe { libc::geteuid() };
        let seen = Seen {
            pid: if elsewhere { 0 } else { sender.pid },
            uid: if scene.receiver.contains(&"userns") {
                0
            } else {
                own
            },
        };
        for (to, receiver) in &mut receivers {
            let cell = (nth, from, *to);
            let name = |what: &str| {
                format!(
                    "{}: {} to {}, {what}",
                    scene.name, language.name, languages[*to].name
                )
            };
            for (way, outcome) in WAYS.into_iter().zip(scene.outcomes) {
                let by = match outcome {
                    By(paths) => paths,
                    Refused(errnos) => {
                        let paths = if way.is_empty() {
                            String::new()
                        } else {
                            format!(" paths={way}")
                        };
                        let sig = Mode::Receiver.sig();
                        let line = format!(
                            "send pid={} sig={sig} fds={}{paths}",
                            receiver.pid, all[0].number
                        );
                        let result = refused(&mut sender, &line, errnos);
                        tally.check(cell, || name(&format!("refused by {way:?}")), result);
                        continue;
                    }
                };
                for mode in [Mode::Receiver, Mode::Signals] {
                    if mode == Mode::Signals && !receiver.takes_signals {
                        tally.skip(format!(
                            "signal mode of {}, which cannot take a signal's value",
                            languages[*to].name
                        ));
                        continue;
                    }
                    if mode == Mode::Signals
                        && let Refused(errnos) = outcome_for_signals(scene, way, by)
                    {
                        let line = format!(
                            "send pid={} sig={} fds={} paths={}",
                            receiver.pid,
                            mode.sig(),
                            all[0].number,
                            if way.is_empty() {
                                "syscall,pidfd,name"
                            } else {
                                way
                            }
                        );
                        let result = refused(&mut sender, &line, errnos);
                        tally.check(
                            cell,
                            || name(&format!("signals refused by {way:?}")),
                            result,
                        );
                        continue;
                    }
                    for passenger in all {
                        let result =
                            hand_over(&mut sender, receiver, passenger, way, by, mode, &seen);
                        let what = format!("{} by {way:?}", passenger.name);
                        tally.check(cell, || name(&what), result);
                    }
                }
                if !way.is_empty() {
                    let result = cargo(&mut sender, receiver, all, way);
                    tally.check(cell, || name(&format!("cargo by {way}")), result);
                }
                // A filter that lets nobody make or ask memfds would show here.
                if !way.is_empty() && (nth == 0 || scene.sender == ["docker"]) {
                    let result = sizes(&mut sender, receiver, &all[0], way);
                    tally.check(
                        cell,
                        || name(&format!("data of all sizes by {way}")),
                        result,
                    );
                }
            }
            if nth != 0 {
                continue;
            }
            // Without restrictions: what is asked of each pair once.
            for way in ["pidfd", "name"] {
                let result = full_table(&mut sender, receiver, all[0].number, way);
                tally.check(cell, || name(&format!("a full table by {way}")), result);
            }
            if receiver.takes_signals {
                let result = no_room_for_signals(&mut sender, receiver, all[0].number);
                tally.check(cell, || name("no room for signals"), result);
            }
            for (what, result) in errors(&mut sender, receiver.pid, all) {
                tally.check(cell, || name(what), result);
            }
        }
    }
}

/// An io_uring, which the kernel does not let anybody send: refused, in words.
fn io_uring(languages: &[Language], tally: &mut Tally) {
    let Some(ring) = passengers::io_uring() else {
        tally.skip("io_uring: not allowed here".to_owned());
        return;
    };
    let rust = &languages[0];
    let mut receiver = start(rust, &[], None, &[]).expect("it starts");
    let sig = Mode::Receiver.sig();
    must(&mut receiver, &format!("open sig={sig}"));
    let ring = [ring];
    for (from, language) in languages.iter().enumerate() {
        let mut sender = start(language, &[], None, &ring).expect("it starts");
        let line = format!("send pid={} sig={sig} fds={}", receiver.pid, ring[0].number);
        let result = refused(&mut sender, &line, &[libc::EINVAL]);
        tally.check(
            (0, from, 0),
            || format!("{}: io_uring", language.name),
            result,
        );
    }
}

/// Two processes with equal pids in two pid namespaces, which share one network namespace.
fn equal_pids(languages: &[Language], all: &[Passenger], tally: &mut Tally) {
    let rust = &languages[0];
    let both = [
        start(rust, &["pidns"], None, &[]),
        start(rust, &["pidns"], None, &[]),
    ];
    let [Some(mut one), Some(mut other)] = both else {
        tally.skip("equal pids: pidns is not allowed here".to_owned());
        return;
    };
    let sig = Mode::Receiver.sig();
    must(&mut one, &format!("open sig={sig}"));
    must(&mut other, &format!("open sig={sig}"));
    for (from, language) in languages.iter().enumerate() {
        let mut sender = start(language, &[], None, all).expect("it starts");
        let seen = Seen {
            pid: 0,
            uid: rustix::process::geteuid().as_raw(),
        };
        for way in ["pidfd", "name"] {
            for receiver in [&mut one, &mut other] {
                let result = hand_over(
                    &mut sender,
                    receiver,
                    &all[0],
                    way,
                    &[way],
                    Mode::Receiver,
                    &seen,
                );
                tally.check(
                    (0, from, 0),
                    || format!("{}: equal pids, {way}", language.name),
                    result,
                );
            }
        }
    }
}

static PROGRESS: AtomicU64 = AtomicU64::new(0);

fn progress() {
    PROGRESS.fetch_add(1, Ordering::Relaxed);
}

/// Ends the run where a peer does not answer for a minute.
fn watch() {
    std::thread::spawn(|| {
        let mut last = 0;
        loop {
            std::thread::sleep(Duration::from_secs(60));
            let now = PROGRESS.load(Ordering::Relaxed);
            if now == last {
                eprintln!("conformance: a peer has not answered for a minute");
                std::process::exit(1);
            }
            last = now;
        }
    });
}

fn main() {
    let mut only = Vec::new();
    let mut languages = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.split_once('=') {
            _ if word == "--scene" => only.extend(words.next()),
            Some((name, command)) => languages.push(Language {
                name: name.to_owned(),
                command: command.split(' ').map(str::to_owned).collect(),
            }),
            None => panic!("usage: conformance [--scene NAME]… LANGUAGE=COMMAND…"),
        }
    }
    assert!(!languages.is_empty(), "no languages");
    watch();
    let all = passengers::passengers();
    let mut tally = Tally::default();
    match passengers::is_same_file(&all[0].fd, std::process::id() as i32, 0) {
        Ok(_) => {}
        Err(error) => {
            eprintln!("conformance: kcmp(2), by which descriptors are compared: {error}");
            std::process::exit(77);
        }
    }
    let scenes = scenes();
    for (nth, scene) in scenes.iter().enumerate() {
        if only.is_empty() || only.iter().any(|name| scene.name.contains(name.as_str())) {
            let before = tally.failures.len();
            run(nth, scene, &languages, &all, &mut tally);
            if nth == 0 {
                io_uring(&languages, &mut tally);
                equal_pids(&languages, &all, &mut tally);
            }
            table(nth, scene.name, &languages, &tally);
            for failure in &tally.failures[before..] {
                println!("FAILED {failure}");
            }
        }
    }
    println!();
    for (why, count) in &tally.skips {
        println!("skipped {count} times: {why}");
    }
    let skipped: usize = tally.skips.values().sum();
    println!(
        "{} kinds of descriptors, {} languages",
        all.len() + 1,
        languages.len()
    );
    println!(
        "{} passed, {} failed, {skipped} skipped",
        tally.passed,
        tally.failures.len()
    );
    std::process::exit(i32::from(!tally.failures.is_empty()));
}

fn table(nth: usize, name: &str, languages: &[Language], tally: &Tally) {
    println!("\n{name} (senders down, receivers across)");
    print!("{:10}", "");
    languages
        .iter()
        .for_each(|language| print!("{:>12}", language.name));
    println!();
    for (from, language) in languages.iter().enumerate() {
        print!("{:10}", language.name);
        for to in 0..languages.len() {
            match tally.cells.get(&(nth, from, to)) {
                Some((passed, tried)) => print!("{:>12}", format!("{passed}/{tried}")),
                None => print!("{:>12}", "-"),
            }
        }
        println!();
    }
}
