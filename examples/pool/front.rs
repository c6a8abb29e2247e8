//! The front of the pool: accepts TCP connections and hands each to a worker, by pid.
//!
//! ```text
//! pool-front [--requests N | --serve] [--kill NAME] NAME=COMMAND...
//! ```
//!
//! It starts the workers, sends itself N requests with curl and says who served what, by which path
//! and how fast. With `--kill`, that worker is killed in the middle. With `--serve`, it stays up
//! until Ctrl-C instead.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sendfd_core::{Port, SendOptions, Target, TargetOptions, Wait};

type Failure = Box<dyn std::error::Error>;

/// How long a worker may take to boot.
const BOOT: Wait = Wait::For(Duration::from_secs(20));

/// How many requests one run of curl makes, and how many at the same time.
const ROUND: usize = 200;
const PARALLEL: &str = "16";

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let port = std::env::var("PORT").map_or(Ok(0), |port| port.parse())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    println!("front: process {}, http://{address}/", std::process::id());

    let mut workers = Vec::new();
    for (name, command) in &arguments.workers {
        workers.push(Worker::start(name, command)?);
    }
    for worker in &mut workers {
        worker.open()?;
    }

    let victim = arguments.victim(&workers)?;

    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;
    listener.set_nonblocking(true)?;

    let accepted = AtomicUsize::new(0);
    let answers = std::thread::scope(|scope| {
        let (workers, stop, accepted) = (&mut workers, &stop, &accepted);
        let front = scope.spawn(move || serve(&listener, workers, stop, accepted));
        let answers = if arguments.serve {
            println!("Try `curl http://{address}/`; Ctrl-C ends it.");
            Ok(HashMap::new())
        } else {
            let answers = load(address, arguments.requests, victim);
            stop.store(true, Ordering::Relaxed);
            answers
        };
        front.join().map_err(|_| "the front panicked")??;
        answers
    })?;

    let complete = report(&workers, &answers, &arguments, accepted.into_inner());
    workers.iter_mut().for_each(Worker::end);
    if complete {
        Ok(())
    } else {
        Err("connections were lost".into())
    }
}

#[derive(Default)]
struct Arguments {
    requests: usize,
    serve: bool,
    victim: Option<String>,
    workers: Vec<(String, String)>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments = Arguments {
            requests: 2000,
            ..Arguments::default()
        };
        while let Some(word) = words.next() {
            match (word.as_str(), word.split_once('=')) {
                ("--serve", _) => arguments.serve = true,
                ("--requests", _) => {
                    arguments.requests = words.next().ok_or("--requests N")?.parse()?
                }
                ("--kill", _) => arguments.victim = Some(words.next().ok_or("--kill NAME")?),
                (_, Some((name, command))) => {
                    arguments
                        .workers
                        .push((name.to_owned(), command.to_owned()));
                }
                _ => return Err(format!("{word:?} is not NAME=COMMAND").into()),
            }
        }
        if arguments.workers.is_empty() {
            return Err(
                "usage: pool-front [--requests N | --serve] [--kill NAME] NAME=COMMAND...".into(),
            );
        }
        Ok(arguments)
    }

    /// The worker that is to be killed.
    fn victim(&self, workers: &[Worker]) -> Result<Option<Pid>, Failure> {
        let Some(name) = &self.victim else {
            return Ok(None);
        };
        let worker = workers.iter().find(|worker| worker.name == *name);
        let worker = worker.ok_or_else(|| format!("--kill {name}: there is no such worker"))?;
        Ok(Pid::from_raw(worker.pid().cast_signed()))
    }
}

struct Worker {
    name: String,
    child: Child,
    target: Option<Target>,
    path: &'static str,
    /// How long each hand-off took.
    times: Vec<Duration>,
    failures: usize,
}

impl Worker {
    fn start(name: &str, command: &str) -> Result<Self, Failure> {
        let mut words = command.split_ascii_whitespace();
        let program = words
            .next()
            .ok_or_else(|| format!("worker {name} has no command"))?;
        let child = Command::new(program)
            .args(words)
            .arg(Port::new(0)?.signal().to_string())
            .env("SENDFD_PORT", Port::new(0)?.signal().to_string())
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start worker {name} ({command}): {error}"))?;
        Ok(Worker {
            name: name.to_owned(),
            child,
            target: None,
            path: "-",
            times: Vec::new(),
            failures: 0,
        })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the worker has booted. Nothing else tells that it has.
    fn open(&mut self) -> Result<(), Failure> {
        let target = Target::open_with(self.pid(), Port::new(0)?, &TargetOptions::new().wait(BOOT))
            .map_err(|error| format!("worker {}: {error}", self.name))?;
        println!(
            "worker {}: process {}, by {}",
            self.name,
            self.pid(),
            target.path()
        );
        self.path = target.path().as_str();
        self.target = Some(target);
        Ok(())
    }

    /// Hands the connection over. On an error it is still ours.
    fn hand(&mut self, connection: &TcpStream) -> bool {
        let Some(target) = &self.target else {
            return false;
        };
        let start = Instant::now();
        match target.send(&[connection.as_fd()], &SendOptions::default()) {
            Ok(()) => {
                self.times.push(start.elapsed());
                true
            }
            Err(error) => {
                self.failures += 1;
                // A full queue passes, a process that is gone does not.
                if error.raw_os_error() != rustix::io::Errno::AGAIN.raw_os_error() {
                    println!("worker {}: {error}", self.name);
                    self.target = None;
                }
                false
            }
        }
    }

    fn end(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let last = times.len().saturating_sub(1) as f64;
        let time = times.get((last * share).round() as usize);
        time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }
}

/// Accepts connections and hands them round.
fn serve(
    listener: &TcpListener,
    workers: &mut [Worker],
    stop: &AtomicBool,
    accepted: &AtomicUsize,
) -> Result<(), String> {
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok((connection, _)) = listener.accept() else {
            let mut fds = [rustix::event::PollFd::new(
                listener,
                rustix::event::PollFlags::IN,
            )];
            let pause = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            };
            let _ = rustix::event::poll(&mut fds, Some(&pause));
            continue;
        };
        accepted.fetch_add(1, Ordering::Relaxed);
        // As long as the front holds the connection, some worker can still get it.
        while !(0..workers.len()).any(|_| {
            next = (next + 1) % workers.len();
            workers[next].hand(&connection)
        }) {
            if workers.iter().all(|worker| worker.target.is_none()) {
                return Err("no worker is left".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Makes `requests` real requests with curl and counts who answered: `LANGUAGE PID`. In the middle
/// of them, `victim` is killed.
fn load(
    address: SocketAddr,
    requests: usize,
    mut victim: Option<Pid>,
) -> Result<HashMap<String, usize>, String> {
    let mut answers = HashMap::new();
    let mut done = 0;
    while done < requests {
        let round = ROUND.min(requests - done);
        let curl = Command::new("curl")
            .args(["--silent", "--max-time", "30"])
            .args(["--parallel", "--parallel-immediate"])
            .args(["--parallel-max", PARALLEL])
            .arg(format!("http://{address}/[1-{round}]"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // With --parallel it shows its progress whatever it is told. What fails is counted.
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run curl, which makes the requests: {error}"))?;
        if done >= requests / 2
            && let Some(pid) = victim.take()
        {
            println!("killing process {pid:?}");
            kill_process(pid, Signal::KILL).map_err(|error| error.to_string())?;
        }
        let output = curl.wait_with_output().map_err(|error| error.to_string())?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            *answers.entry(line.to_owned()).or_default() += 1;
        }
        done += round;
        println!("{done} of {requests} requests made");
    }
    Ok(answers)
}

/// Prints the table. True if no connection was lost: every one that was accepted was handed over,
/// and every worker that lives answered all that it was handed.
fn report(
    workers: &[Worker],
    answers: &HashMap<String, usize>,
    arguments: &Arguments,
    accepted: usize,
) -> bool {
    println!();
    println!("worker                pid  path     served  handed  median us  99th us  failures");
    let (mut served, mut handed, mut complete) = (0, 0, true);
    for worker in workers {
        let pid = worker.pid().to_string();
        let own = answers
            .iter()
            .filter(|(who, _)| who.split(' ').nth(1) == Some(&pid));
        let count: usize = own.map(|(_, count)| *count).sum();
        served += count;
        handed += worker.times.len();
        complete &= count == worker.times.len() || arguments.victim.as_ref() == Some(&worker.name);
        println!(
            "{:<16} {:>8}  {:<7} {:>7} {:>7}  {:>9.1} {:>8.1}  {:>8}",
            worker.name,
            pid,
            worker.path,
            count,
            worker.times.len(),
            worker.quantile(0.5),
            worker.quantile(0.99),
            worker.failures,
        );
    }
    println!();
    println!("{accepted} connections accepted, {handed} handed over, {served} answered");
    arguments.serve || (complete && handed == accepted && accepted == arguments.requests)
}
