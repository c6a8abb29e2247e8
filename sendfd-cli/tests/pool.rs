//! The pool, with workers that behave and workers that do not.
#![allow(missing_docs, unsafe_code)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::pool::{
    ANY, LIMIT, Pool, ask, ends, http, kill, lives, read, status, try_to_ask, worker,
};
use common::{PATIENCE, fails, ok, sendfd};
use rustix::process::Signal;
use sendfd_tests::has_root;

fn config(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pool.toml");
    std::fs::write(&path, text).expect("written");
    (folder, path.display().to_string())
}

/// Clients that ask until told to stop; how many asked, and what went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(address: &str) -> Self {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let client = || {
            let (stop, asked, address) =
                (Arc::clone(&stop), Arc::clone(&asked), address.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    try_to_ask(&address).map_err(|error| error.to_string())?;
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let threads = (0..4).map(|_| client()).collect();
        Load {
            stop,
            asked,
            threads,
        }
    }

    /// Until some more requests were answered.
    fn go_on(&self) {
        let (goal, end) = (
            self.asked.load(Ordering::Relaxed) + 50,
            Instant::now() + LIMIT,
        );
        while self.asked.load(Ordering::Relaxed) < goal && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn nothing_failed(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            assert_eq!(thread.join().expect("no panic"), Ok(()));
        }
    }
}

#[test]
fn each_in_turn_and_the_form_of_the_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket").display().to_string();
    let two = format!("two=2*{}", worker(""));
    let mut pool = Pool::start(&[
        "--describe",
        "--listen",
        ANY,
        "--listen",
        &path,
        "--worker",
        &worker(""),
        "--worker",
        &two,
    ]);
    for name in ["worker worker:", "worker two-1:", "worker two-2:"] {
        pool.line(&format!("{name} process "));
    }
    pool.ready(3);
    let address = pool.address(0);
    let pids: Vec<String> = (0..9).map(|_| ask(&address)[0].clone()).collect();
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 3, "{pids:?}");
    assert_eq!((&pids[..3], &pids[..3]), (&pids[3..6], &pids[6..]));
    let words = ask(&address);
    assert_eq!(words[3..5], ["tag=0", "listener=0"]);
    assert!(words[5].starts_with("peer=127.0.0.1:"), "{words:?}");
    assert_eq!(ask(&path)[3..], ["tag=1", "listener=1", "peer=unix"]);
    // What workers write has their names in front.
    pool.line("worker: says ");
    pool.line("two-2: complains ");
    pool.ends_with("11 accepted, 11 handed over, 0 lost, 0 killed");
}

#[test]
fn a_killed_worker_is_replaced_while_the_other_serves() {
    let mut pool = Pool::start(&["--listen", ANY, "--worker", &format!("w=2*{}", worker(""))]);
    let address = pool.address(0);
    let victim: u32 = ask(&address)[0].parse().expect("a pid");
    pool.line("w-1: process ");
    kill(victim, Signal::KILL);
    pool.line(&format!("process {victim} ended: signal: 9"));
    for _ in 0..10 {
        assert_ne!(ask(&address)[0], victim.to_string());
    }
    pool.ready(3);
    pool.end();
}

/// The descriptors wait in a queue that ends with its process: the pool holds it, too.
#[test]
fn what_a_killed_worker_had_not_taken_goes_to_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let mut pool = Pool::start(&[
        "--listen",
        ANY,
        "--listen",
        ANY,
        "--status",
        ANY,
        "--describe",
        "--worker",
        &format!("closed={}", worker(&format!("gate {}", gate.display()))),
        "--worker",
        &format!("open={}", worker("")),
    ]);
    let addresses = [pool.address(0), pool.address(1)];
    if !pool.has_pidfd(2) {
        return;
    }
    let line = pool.line("worker closed: process ");
    let victim = line.split(' ').nth(4).and_then(|pid| pid.parse().ok());
    // Every other one waits in the queue of the one that takes nothing.
    let clients: Vec<(usize, TcpStream)> = (0..12)
        .map(|nth| {
            (
                nth / 6,
                TcpStream::connect(&addresses[nth / 6]).expect("it listens"),
            )
        })
        .collect();
    let end = Instant::now() + LIMIT;
    loop {
        let status = status(&mut pool);
        if status["workers"][0]["handed"] == 6 && status["workers"][1]["handed"] == 6 {
            break;
        }
        assert!(Instant::now() < end, "{status}");
    }
    kill(victim.unwrap_or_else(|| panic!("{line}")), Signal::KILL);
    pool.line("worker closed: 6 connections that process ");
    std::fs::write(&gate, "").expect("written");
    for (listener, client) in clients {
        let peer = client.local_addr().expect("connected");
        let words = read(client);
        assert_eq!(
            words[3..],
            [
                format!("tag={listener}"),
                format!("listener={listener}"),
                format!("peer={peer}")
            ]
        );
    }
    pool.ends_with("12 accepted, 12 handed over, 0 lost, 0 killed unfinished");
}

#[test]
fn what_a_worker_leaves_behind_by_exec_goes_to_others() {
    let mut pool = Pool::start(&[
        "--listen",
        ANY,
        "--drain",
        "100ms",
        "--worker",
        &format!("away={}", worker("exec")),
        "--worker",
        &format!("here={}", worker("")),
    ]);
    let address = pool.address(0);
    if !pool.has_pidfd(2) {
        return;
    }
    for _ in 0..6 {
        ask(&address);
    }
    pool.end();
}

#[test]
fn reloads_and_a_take_over_under_load_lose_nothing() {
    let worker = format!("w=2*{}", worker(""));
    let words = ["--listen", ANY, "--worker", &worker];
    let mut old = Pool::start(&words);
    let address = old.address(0);
    let before = ask(&address)[0].clone();
    let load = Load::start(&address);
    for _ in 0..2 {
        load.go_on();
        let seen = old.seen.len();
        old.signal(Signal::HUP);
        old.line_from(seen, "reload: 2 of 2 workers are new");
    }
    load.go_on();
    assert_ne!(ask(&address)[0], before);

    let pid = old.pid().to_string();
    let mut new = Pool::start(&["--listen", ANY, "--worker", &worker, "--take-over", &pid]);
    assert_eq!(new.address(0), address);
    new.line("is relieved");
    old.line("0 lost, 0 killed unfinished");
    assert!(old.child.wait().expect("ours").success());
    load.go_on();
    load.nothing_failed();
    new.ends_with(" 0 lost, 0 killed");
}

#[test]
fn draining_lets_workers_finish() {
    let mut pool = Pool::start(&["--listen", ANY, "--worker", &worker("slow")]);
    let address = pool.address(0);
    pool.line("is ready");
    // It is being served: the second one waits in the worker's queue.
    let clients: Vec<TcpStream> = (0..2)
        .map(|_| TcpStream::connect(&address).expect("it listens"))
        .collect();
    pool.signal(Signal::TERM);
    pool.line("draining");
    for mut client in clients {
        client.write_all(b"?").expect("sent");
        assert_eq!(read(client)[3], "tag=0");
    }
    pool.line("2 accepted, 2 handed over, 0 lost, 0 killed unfinished");
    assert!(pool.child.wait().expect("ours").success());
}

#[test]
fn what_is_not_finished_in_time_is_counted() {
    let mut pool = Pool::start(&[
        "--listen",
        ANY,
        "--worker",
        &worker("stuck"),
        "--drain",
        "300ms",
    ]);
    let address = pool.address(0);
    pool.line("is ready");
    let mut client = TcpStream::connect(&address).expect("it listens");
    client.write_all(b"?").expect("sent");
    let worker: u32 = read(client)[0].parse().expect("a pid");
    // Held by the worker, which waits for a byte.
    let _held = TcpStream::connect(&address).expect("it listens");
    let end = Instant::now() + LIMIT;
    while Instant::now() < end && !serving(worker, &address) {
        std::thread::sleep(Duration::from_millis(2));
    }
    pool.signal(Signal::TERM);
    pool.line("has not finished within 0.3 s: killed with 1 connections open");
    pool.line("1 killed unfinished");
    assert!(pool.child.wait().expect("ours").success());
    assert!(!lives(worker));
}

/// Whether process `pid` holds a connection of the listener at `address`.
fn serving(pid: u32, address: &str) -> bool {
    let port: u16 = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    let links = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("ours")
        .flatten();
    let sockets: BTreeSet<String> = links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|link| {
            link.to_string_lossy()
                .replace("socket:[", "")
                .replace(']', "")
        })
        .collect();
    let own = format!("0100007F:{port:04X}");
    table
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .any(|words| {
            words.len() > 9 && words[1] == own && words[3] == "01" && sockets.contains(words[9])
        })
}

#[test]
fn a_worker_that_never_listens_and_one_that_dies_leave_the_others_alone() {
    let mut pool = Pool::start(&[
        "--listen",
        ANY,
        "--boot",
        "200ms",
        "--worker",
        &format!("never={}", worker("never")),
        "--worker",
        &format!("exit={}", worker("exit")),
        "--worker",
        &format!("good={}", worker("")),
    ]);
    let address = pool.address(0);
    pool.line("worker never: process ");
    pool.line("has opened no receiver on port 1 within 0.2 s");
    pool.line("ended before it opened a receiver on port 1: exit status: 3");
    pool.line("worker exit: has died 5 times in a row");
    for _ in 0..5 {
        ask(&address);
    }
    pool.end();
}

#[test]
fn nothing_outlives_a_pool_that_is_killed() {
    let mut pool = Pool::start(&["--listen", ANY, "--worker", &worker("parent")]);
    let address = pool.address(0);
    let worker: u32 = ask(&address)[0].parse().expect("a pid");
    let child = pool.child_of_worker();
    assert!(lives(worker) && lives(child));
    pool.child.kill().expect("ours");
    pool.child.wait().expect("ours");
    ends(worker);
    ends(child);
    // And nothing holds its output open: the threads that read it come to its end.
    while pool.lines.recv_timeout(LIMIT).is_ok() {}
    assert_eq!(
        pool.lines.recv_timeout(Duration::ZERO),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}

#[test]
fn a_pool_that_loses_its_terminal_ends() {
    use rustix::process::{ioctl_tiocsctty, setsid};
    use std::os::unix::process::CommandExt;

    let Some((master, slave)) = common::terminal() else {
        return;
    };
    let worker = worker("parent");
    let mut command = sendfd(&["pool", "--listen", ANY, "--worker", &worker]);
    // SAFETY: two system calls.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            Ok(ioctl_tiocsctty(&slave)?)
        })
    };
    let mut pool = Pool::of(&mut command);
    drop(command);
    let child = pool.child_of_worker();
    pool.ready(1);
    // As long as it has one, SIGHUP is for a reload.
    pool.signal(Signal::HUP);
    pool.line("reload: 1 of 1 workers are new");
    drop(master);
    pool.line("the terminal is gone");
    pool.line(" lost, ");
    assert!(pool.child.wait().expect("ours").success());
    ends(child);
}

#[test]
fn a_drained_pool_takes_what_its_workers_started_along() {
    let mut pool = Pool::start(&["--listen", ANY, "--worker", &worker("parent")]);
    let child = pool.child_of_worker();
    pool.line("is ready");
    pool.end();
    ends(child);
}

#[test]
fn a_pool_that_fails_at_its_start_leaves_nothing() {
    let marker = format!("SENDFD_TEST_{}", std::process::id());
    let (_folder, path) = config(&format!(
        "listen = ['{ANY}']\n[[worker]]\nname = 'good'\ncommand = '{}'\nenvironment = {{ {marker} = 'x' }}\n\
         [[worker]]\ncommand = '/nonexistent/worker'\n",
        worker("parent")
    ));
    let output = sendfd(&["pool", "--config", &path])
        .output()
        .expect("it ends, and so does its output");
    assert_eq!(output.status.code(), Some(64));
    let text = common::stderr(&output);
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.contains("cannot start worker worker (/nonexistent/worker): No such file"),
        "{text}"
    );
    let end = Instant::now() + LIMIT;
    while !common::marked(&marker).is_empty() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn when_all_are_full_clients_wait_and_none_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate: PathBuf = folder.path().join("gate");
    let mut pool = Pool::start(&[
        "--listen",
        ANY,
        "--waiting",
        "3",
        "--status",
        ANY,
        "--worker",
        &worker(&format!("gate {}", gate.display())),
    ]);
    let address = pool.address(0);
    pool.line("is ready");
    let clients: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(&address).expect("the kernel accepts"))
        .collect();
    let end = Instant::now() + LIMIT;
    let full = loop {
        let status = status(&mut pool);
        if status["waiting"] == 3 {
            break status;
        }
        assert!(Instant::now() < end, "{status}");
        std::thread::sleep(Duration::from_millis(2));
    };
    let accepted = full["accepted"].as_u64().expect("a number");
    assert!(accepted < 40, "{full}");
    assert_eq!(full["workers"][0]["handed"].as_u64(), Some(accepted - 3));
    std::fs::write(&gate, "").expect("written");
    for client in clients {
        assert_eq!(read(client)[3], "tag=0");
    }
    pool.ends_with("40 accepted, 40 handed over, 0 lost");
}

#[test]
fn the_shortest_queue_is_served_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let closed = format!("closed={}", worker(&format!("gate {}", gate.display())));
    let open = format!("open={}", worker(""));
    let words = [
        "--listen",
        ANY,
        "--policy",
        "shortest-queue",
        "--worker",
        &closed,
        "--worker",
        &open,
    ];
    let mut pool = Pool::start(&words);
    let address = pool.address(0);
    pool.ready(2);
    // The first has its turn, and does not receive; the next ones see that something waits there.
    let first = TcpStream::connect(&address).expect("it listens");
    let served: BTreeSet<String> = (0..8).map(|_| ask(&address)[0].clone()).collect();
    assert_eq!(served.len(), 1);
    std::fs::write(&gate, "").expect("written");
    assert!(!served.contains(&read(first)[0]));
    pool.end();
}

#[test]
fn the_same_client_has_the_same_worker() {
    let mut pool = Pool::start(&[
        "--listen",
        ANY,
        "--policy",
        "source",
        "--worker",
        &format!("w=4*{}", worker("")),
    ]);
    let address = pool.address(0);
    pool.ready(4);
    let first = ask(&address)[0].clone();
    for _ in 0..8 {
        assert_eq!(ask(&address)[0], first);
    }
    // Also after a reload, in the same place.
    pool.signal(Signal::HUP);
    pool.line("reload: 4 of 4 workers are new");
    let second = ask(&address)[0].clone();
    assert_ne!(second, first);
    let place = |lines: &[String], pid: &str| {
        let line = lines
            .iter()
            .find(|line| line.contains(&format!("process {pid} is ready")));
        line.and_then(|line| Some(line.split("worker ").nth(1)?.split(':').next()?.to_owned()))
    };
    assert_eq!(place(&pool.seen, &first), place(&pool.seen, &second));
    pool.end();
}

#[test]
fn listeners_with_workers_of_their_own() {
    let (_folder, path) = config(&format!(
        "listen = ['{ANY}', {{ address = '{ANY}', workers = ['second'] }}]\nwaiting = 16\ndrain = '20s'\nboot = 30\nport = 'RTMIN+4'\n\
         [[worker]]\nname = 'first'\ncommand = '{0}'\n[[worker]]\nname = 'second'\ncommand = '{0}'\ncount = 1\n",
        worker("")
    ));
    let mut pool = Pool::start(&["--config", &path]);
    let (all, own) = (pool.address(0), pool.address(1));
    let second = pool.line("worker second: process ");
    pool.ready(2);
    let own: BTreeSet<String> = (0..4).map(|_| ask(&own)[0].clone()).collect();
    assert_eq!(own.len(), 1);
    assert!(second.contains(own.first().expect("one")), "{second}");
    let both: BTreeSet<String> = (0..4).map(|_| ask(&all)[0].clone()).collect();
    assert_eq!(both.len(), 2);
    pool.end();
}

#[test]
fn sockets_of_systemd() {
    let worker = worker("");
    let recv = [
        "recv",
        "20",
        "--timeout",
        PATIENCE,
        "--",
        env!("CARGO_BIN_EXE_sendfd"),
        "pool",
        "--worker",
        &worker,
    ];
    let mut pool = Pool::of(&mut sendfd(&recv));
    ok(&[
        "send",
        &pool.pid().to_string(),
        "20",
        "--listen",
        ANY,
        "--timeout",
        PATIENCE,
    ]);
    let address = pool.address(0);
    ask(&address);
    pool.end();
}

#[test]
fn the_limit_of_descriptors_is_raised_for_the_pool_alone() {
    let worker = worker("");
    let script = "ulimit -Sn 256; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args([
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_sendfd"),
        "pool",
        "--listen",
        ANY,
        "--worker",
        &worker,
    ]);
    let mut pool = Pool::of(&mut command);
    pool.line("RLIMIT_NOFILE raised from 256 to ");
    let address = pool.address(0);
    assert_eq!(ask(&address)[2], "256");
    pool.end();
}

#[test]
fn users() {
    if !has_root() {
        return;
    }
    // The build folder may be closed to others.
    let folder = tempfile::tempdir().expect("a folder");
    let open: fn(u32) -> std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(folder.path(), open(0o755)).expect("open to all");
    let copy = folder.path().join("worker");
    std::fs::copy(worker("").trim(), &copy).expect("a copy");
    let copy = copy.display().to_string();
    let mut pool = Pool::start(&["--listen", ANY, "--user", "65534", "--worker", &copy]);
    let address = pool.address(0);
    assert_eq!(ask(&address)[1], "65534");
    pool.end();

    let (_folder, path) = config(&format!(
        "listen = ['{ANY}']\n[[worker]]\ncommand = '{copy}'\nuser = '65534'\n"
    ));
    let mut pool = Pool::start(&["--config", &path]);
    let address = pool.address(0);
    assert_eq!(ask(&address)[1], "65534");
    pool.end();
    fails(&["pool", "--config", &path, "--user", "65534"], 64);
}

#[test]
fn the_status_page() {
    let mut pool = Pool::start(&["--listen", ANY, "--status", ANY, "--worker", &worker("")]);
    let address = pool.address(0);
    ask(&address);
    let json = status(&mut pool);
    assert_eq!((&json["accepted"], &json["lost"]), (&1.into(), &0.into()));
    let own = &json["workers"][0];
    assert_eq!(
        (&own["state"], &own["handed"]),
        (&"ready".into(), &1.into())
    );
    let address = pool.status_address();
    let get = |path: &str| http(&address, &format!("GET {path} HTTP/1.1\r\n\r\n"));
    let page = get("/");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("new EventSource('events')"));
    // No other place is asked for anything.
    assert!(!page.contains("src=") && !page.contains("href="), "{page}");
    let metrics = get("/metrics");
    assert!(
        metrics.contains("\nsendfd_pool_handed_total{worker=\"worker\"} 1\n"),
        "{metrics}"
    );
    assert!(get("/other").starts_with("HTTP/1.1 404 "));
    assert!(http(&address, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    // Events go on.
    let mut events = TcpStream::connect(&address).expect("it listens");
    events
        .write_all(b"GET /events HTTP/1.1\r\n\r\n")
        .expect("sent");
    events.set_read_timeout(Some(LIMIT)).expect("set");
    let lines = BufReader::new(events).lines().map_while(Result::ok);
    let two: Vec<String> = lines
        .filter(|line| line.starts_with("data: {"))
        .take(2)
        .collect();
    assert_eq!(two.len(), 2);
    pool.end();
}

#[test]
fn what_is_wrong_is_said_with_line_and_key() {
    let good = "listen = ['127.0.0.1:0']\n[[worker]]\ncommand = 'x'\n";
    for (text, expected) in [
        (
            "listen = ['nowhere']\n",
            "line 1 (listen = ['nowhere']): \"nowhere\" is no address",
        ),
        (
            "\npolicy = 'fair'\n",
            "line 2 (policy = 'fair'): unknown variant `fair`",
        ),
        (
            "waitnig = 3\n",
            "line 1 (waitnig = 3): unknown field `waitnig`",
        ),
        (
            "drain = 'soon'\n",
            "line 1 (drain = 'soon'): a time is a number",
        ),
        ("port = 31\n", "line 1 (port = 31): not a port"),
        (
            "waiting = 'x'\n",
            "line 1 (waiting = 'x'): invalid type: string \"x\"",
        ),
        (
            "[[worker]]\ncommand = ''\n",
            "line 2 (command = ''): the command is empty",
        ),
        ("[[worker]]\ncount = 2\n", "missing field `command`"),
        (
            "[[worker]]\ncommand = 'x'\ncount = 0\n",
            "line 3 (count = 0): a worker is started from 1",
        ),
        ("[[worker\n", "line 1 ([[worker)"),
    ] {
        let (_folder, path) = config(text);
        let error = fails(&["pool", "--config", &path], 64);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let (_folder, path) = config(&good.replace(
        "['127.0.0.1:0']",
        "[{ address = '127.0.0.1:0', workers = ['y'] }]",
    ));
    assert!(fails(&["pool", "--config", &path], 64).contains("there is no worker \"y\""));
    assert!(fails(&["pool", "--listen", ANY], 64).contains("no workers"));
    assert!(fails(&["pool", "--worker", "x"], 64).contains("no address to listen on"));
    assert!(fails(&["pool", "--config", "/nonexistent"], 64).contains("cannot read /nonexistent"));
    fails(&["pool", "--listen", ANY, "--worker", "0*x"], 64);
    fails(&["pool", "--listen", ANY, "--worker", "'x"], 64);
    fails(
        &[
            "pool",
            "--listen",
            ANY,
            "--worker",
            "x",
            "--user",
            "no such user",
        ],
        64,
    );
    let taken = std::net::TcpListener::bind(ANY).expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    assert!(
        fails(&["pool", "--listen", &address, "--worker", "x"], 71)
            .contains("another program listens there")
    );
    let own = std::process::id().to_string();
    fails(
        &[
            "pool",
            "--listen",
            ANY,
            "--worker",
            "x",
            "--take-over",
            &own,
        ],
        69,
    );
}
