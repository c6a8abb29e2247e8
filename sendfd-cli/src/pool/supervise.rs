//! What goes on in a worker's place: start, wait until it listens, watch over it, replace it.

use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sendfd_core::{Path, Target};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::listener::Connection;
use super::log::{note, trouble};
use super::queue::Queue;
use super::slot::{Slot, State};
use super::user::User;
use super::{Pool, leftover};
use crate::sys;

/// What a place is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// A send found that nobody receives there any more.
    Lost {
        ended: bool,
        words: String,
    },
    /// A new process, and then the old one may go. Answered when the new one is ready or has failed.
    Reload(oneshot::Sender<bool>),
    Stop,
}

/// The first pause before a restart, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often the pool looks whether a worker still has what it receives from.
const LOOK: Duration = Duration::from_secs(1);

/// A process that lived so long did not die at once.
const LIVED: Duration = Duration::from_secs(10);

/// After so many deaths in a row the pool says that something is wrong.
const WORTH_SAYING: u32 = 5;

/// A process of the pool, in a process group of its own.
struct Process {
    child: Child,
    pid: u32,
    started: Instant,
    /// How many connections its place had been handed when it became ready; nothing before.
    ready_at: Option<u64>,
    /// What it receives from, where that can be held here, too.
    queue: Option<Queue>,
}

/// How a process's time in its place ended.
enum End {
    /// The place was told to stop.
    Stopped,
    /// It has served, and ended as if it had been told to.
    Done,
    /// It has served, takes no more, and lives.
    Retired,
    Died,
}

/// How waiting for a process to listen ended.
enum Boot {
    Ready(Target),
    Ended(ExitStatus),
    /// It took too long.
    Late,
    Stop,
}

/// Keeps a process in the place until told to stop. The first was started by the pool itself.
pub(crate) async fn keep(
    pool: Rc<Pool>,
    index: usize,
    first: Child,
    mut orders: UnboundedReceiver<Order>,
) {
    let slot = &pool.slots[index];
    let mut next = Some(first);
    let mut deaths = 0;
    loop {
        let mut process = match next.take() {
            Some(child) => Process::of(slot, child),
            None => match start(&pool, slot) {
                Ok(child) => Process::of(slot, child),
                Err(error) => {
                    trouble(format!("worker {}: cannot start it: {error}", slot.name));
                    deaths += 1;
                    if pause(slot, deaths, &mut orders).await {
                        return;
                    }
                    continue;
                }
            },
        };
        let end = live(&pool, index, &mut process, &mut orders).await;
        slot.target.replace(None);
        slot.state.set(State::Down);
        slot.pid.set(0);
        match end {
            End::Stopped => return,
            // Its own policy, such as so many requests for each process: the next one is due at once.
            End::Done | End::Retired => {
                slot.reloads.set(slot.reloads.get() + 1);
                deaths = 0;
                if matches!(end, End::Retired) {
                    leave(&pool, index, process, Told::Nothing);
                }
                continue;
            }
            End::Died => {}
        }
        deaths = if process.started.elapsed() < LIVED {
            deaths + 1
        } else {
            1
        };
        slot.restarts.set(slot.restarts.get() + 1);
        if pause(slot, deaths, &mut orders).await {
            return;
        }
    }
}

/// Waits before a restart, longer each time. True if told to stop meanwhile.
async fn pause(slot: &Slot, deaths: u32, orders: &mut UnboundedReceiver<Order>) -> bool {
    let factor = 1_u32
        .checked_shl(deaths.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let pause = PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
    if deaths >= WORTH_SAYING {
        trouble(format!(
            "worker {}: has died {deaths} times in a row within {} s of its start; the next try is in {:.1} s, the others go on",
            slot.name,
            LIVED.as_secs(),
            pause.as_secs_f32()
        ));
    }
    let end = tokio::time::Instant::now() + pause;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => return false,
            order = orders.recv() => match order {
                Some(Order::Stop) | None => return true,
                Some(Order::Reload(done)) => {
                    // A new one is about to start anyway.
                    let _ = done.send(true);
                    return false;
                }
                Some(Order::Lost { .. }) => {}
            },
        }
    }
}

/// From a process's start to its end; a reload puts the next one into its place.
async fn live(
    pool: &Rc<Pool>,
    index: usize,
    process: &mut Process,
    orders: &mut UnboundedReceiver<Order>,
) -> End {
    let slot = &pool.slots[index];
    loop {
        // Also when it has closed its receiver without having served, and lives: it may open another.
        if !slot.is_ready() {
            slot.state.set(State::Booting);
            match boot(pool, slot, process, orders).await {
                Boot::Ready(target) => admit(pool, slot, process, target),
                Boot::Ended(status) => {
                    process.buried(pool, slot).await;
                    let when = match process.ready_at {
                        Some(_) => "ended".to_owned(),
                        None => format!("ended before it opened a receiver on port {}", pool.port),
                    };
                    trouble(format!(
                        "worker {}: process {} {when}: {status}",
                        slot.name, process.pid
                    ));
                    return End::Died;
                }
                Boot::Late => {
                    trouble(format!(
                        "worker {}: process {} has opened no receiver on port {} within {} s (it is to take the signal from SENDFD_PORT); it is killed",
                        slot.name,
                        process.pid,
                        pool.port,
                        pool.config.boot.as_secs_f32()
                    ));
                    process.kill(pool, slot).await;
                    return End::Died;
                }
                Boot::Stop => {
                    stop(pool, slot, process).await;
                    return End::Stopped;
                }
            }
        }
        tokio::select! {
            status = process.child.wait() => {
                slot.target.replace(None);
                let is_done = status.as_ref().is_ok_and(ExitStatus::success) && process.has_served(slot);
                let words = format!("worker {}: process {} ended: {}", slot.name, process.pid, words(&status));
                if is_done { note(words) } else { trouble(words) }
                process.buried(pool, slot).await;
                return if is_done { End::Done } else { End::Died };
            }
            order = orders.recv() => match order {
                Some(Order::Stop) | None => {
                    stop(pool, slot, process).await;
                    return End::Stopped;
                }
                // What ended is about to be waited for.
                Some(Order::Lost { ended: true, .. }) => {}
                Some(Order::Lost { words, .. }) => {
                    note(format!("worker {}: {words}", slot.name));
                    if !process.holds_its_queue() {
                        process.give_back(pool, slot).await;
                    }
                    if process.has_served(slot) {
                        return End::Retired;
                    }
                }
                Some(Order::Reload(done)) => {
                    let _ = done.send(reload(pool, index, process, orders).await);
                }
            },
            () = sleep(LOOK), if process.queue.is_some() => {
                if slot.queued() > 0 && !process.holds_its_queue() {
                    slot.target.replace(None);
                    note(format!("worker {}: process {} has left its receiver behind", slot.name, process.pid));
                    process.give_back(pool, slot).await;
                }
            }
        }
    }
}

fn admit(pool: &Pool, slot: &Slot, process: &mut Process, target: Target) {
    process.ready_at = Some(slot.handed.get());
    process.queue = match target.path() {
        Path::Pidfd => Queue::of(process.pid, pool.port),
        _ => None,
    };
    note(format!(
        "worker {}: process {} is ready, by {}, after {:.2} s",
        slot.name,
        process.pid,
        target.path(),
        process.started.elapsed().as_secs_f32()
    ));
    slot.path.set(target.path().as_str());
    slot.pid.set(process.pid);
    slot.target.replace(Some(target));
    slot.state.set(State::Ready);
    pool.work.notify_one();
}

/// Waits until the process listens. It is a child that nobody has waited for, so that its pid is its own.
async fn boot(
    pool: &Pool,
    slot: &Slot,
    process: &mut Process,
    orders: &mut UnboundedReceiver<Order>,
) -> Boot {
    let end = tokio::time::Instant::now() + pool.config.boot;
    let mut pause = Duration::from_millis(1);
    let mut postponed = Vec::new();
    let mut by_name = false;
    let boot = loop {
        match Target::open(process.pid, pool.port) {
            // A receiver that is just being opened can be reached by name before it can by pidfd, which
            // costs it no descriptor: it is asked once more.
            Ok(target) if target.path() == Path::Name && !by_name => by_name = true,
            Ok(target) => break Boot::Ready(target),
            Err(error) if error.raw_os_error() == libc::ECONNREFUSED => {}
            Err(error) if error.raw_os_error() == libc::ESRCH => {}
            // It listens but cannot be reached, which a person has to hear now.
            Err(error) if pause >= Duration::from_millis(100) => {
                note(format!("worker {}: {error}", slot.name));
            }
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = tokio::time::sleep_until(end) => break Boot::Late,
            status = process.child.wait() => {
                break Boot::Ended(status.unwrap_or_default());
            }
            order = orders.recv() => match order {
                Some(Order::Stop) | None => break Boot::Stop,
                Some(Order::Lost { .. }) => {}
                // What boots is new.
                Some(Order::Reload(done)) => postponed.push(done),
            },
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    };
    for done in postponed {
        let _ = done.send(matches!(boot, Boot::Ready(_)));
    }
    boot
}

/// Puts a new process in the place of the old one, which goes on until the new one listens. If that fails,
/// the old one stays.
async fn reload(
    pool: &Rc<Pool>,
    index: usize,
    process: &mut Process,
    orders: &mut UnboundedReceiver<Order>,
) -> bool {
    let slot = &pool.slots[index];
    let failed = |why: &str| {
        trouble(format!(
            "worker {}: reload: {why}; the old one stays",
            slot.name
        ));
        false
    };
    let mut new = match start(pool, slot) {
        Ok(child) => Process::of(slot, child),
        Err(error) => return failed(&format!("cannot start the new one: {error}")),
    };
    match boot(pool, slot, &mut new, orders).await {
        Boot::Ready(target) => {
            let old = std::mem::replace(process, new);
            admit(pool, slot, process, target);
            slot.reloads.set(slot.reloads.get() + 1);
            note(format!("worker {}: process {} retires", slot.name, old.pid));
            leave(pool, index, old, Told::ToStop);
            true
        }
        Boot::Ended(status) => {
            new.buried(pool, slot).await;
            failed(&format!("the new one ended: {status}"))
        }
        Boot::Late => {
            new.kill(pool, slot).await;
            failed("the new one did not open its receiver in time")
        }
        Boot::Stop => {
            new.kill(pool, slot).await;
            // Found again by the caller.
            let _ = slot.orders.send(Order::Stop);
            false
        }
    }
}

/// Whether a process that is to end knows.
enum Told {
    ToStop,
    /// It has retired on its own.
    Nothing,
}

/// A process that is in no place any more finishes what it has.
fn leave(pool: &Rc<Pool>, index: usize, mut old: Process, told: Told) {
    let task = tokio::task::spawn_local({
        let pool = Rc::clone(pool);
        async move { finish(&pool, &pool.slots[index], &mut old, told).await }
    });
    let mut retiring = pool.retiring.borrow_mut();
    retiring.retain(|task| !task.is_finished());
    retiring.push(task);
}

async fn stop(pool: &Pool, slot: &Slot, process: &mut Process) {
    slot.state.set(State::Stopping);
    slot.target.replace(None);
    finish(pool, slot, process, Told::ToStop).await;
}

/// SIGTERM, time to finish, and then the end. What was not finished is counted and said.
async fn finish(pool: &Pool, slot: &Slot, process: &mut Process, told: Told) {
    if matches!(told, Told::ToStop) {
        process.signal(Signal::TERM);
    }
    if timeout(pool.config.drain, process.child.wait())
        .await
        .is_ok()
    {
        // What it started goes with it.
        process.buried(pool, slot).await;
        return;
    }
    let open = leftover::connections(process.pid, &pool.listeners);
    pool.unfinished.set(pool.unfinished.get() + open as u64);
    trouble(format!(
        "worker {}: process {} has not finished within {} s: killed with {open} connections open",
        slot.name,
        process.pid,
        pool.config.drain.as_secs_f32()
    ));
    process.kill(pool, slot).await;
}

impl Process {
    fn of(slot: &Slot, mut child: Child) -> Self {
        let pid = child.id().unwrap_or(0);
        slot.pid.set(pid);
        pass_on(&slot.name, child.stdout.take(), false);
        pass_on(&slot.name, child.stderr.take(), true);
        Process {
            child,
            pid,
            started: Instant::now(),
            ready_at: None,
            queue: None,
        }
    }

    fn as_pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid as i32)
    }

    /// To the process alone: what it has started is its own to tell.
    fn signal(&self, signal: Signal) {
        // Not yet waited for, so that the number is its own.
        if let (Some(_), Some(pid)) = (self.child.id(), self.as_pid()) {
            let _ = kill_process(pid, signal);
        }
    }

    async fn kill(&mut self, pool: &Pool, slot: &Slot) {
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
        self.buried(pool, slot).await;
    }

    /// It has ended: what is left of its group goes with it, and what it had not taken to others.
    async fn buried(&mut self, pool: &Pool, slot: &Slot) {
        if let Some(pid) = self.as_pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        pool.guard.forget(self.pid);
        self.give_back(pool, slot).await;
    }

    /// Whether it was handed anything.
    fn has_served(&self, slot: &Slot) -> bool {
        self.ready_at
            .is_some_and(|before| before < slot.handed.get())
    }

    fn holds_its_queue(&self) -> bool {
        self.queue.as_ref().is_none_or(Queue::is_held)
    }

    /// What it was sent and has not taken, and will not, has others to serve it.
    async fn give_back(&mut self, pool: &Pool, slot: &Slot) {
        let Some(queue) = self.queue.take() else {
            return;
        };
        let (mut left, mut count) = (Vec::new(), 0);
        loop {
            match queue.next() {
                Ok(Some((socket, tag))) => {
                    let listener = usize::try_from(tag).unwrap_or(usize::MAX);
                    if listener < pool.listeners.len() {
                        left.push(Connection::again(socket, listener));
                        slot.returned.set(slot.returned.get() + 1);
                        count += 1;
                    }
                }
                Ok(None) => break,
                // There is no room for another descriptor: those that wait leave first.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                    pool.wait_again(&mut left);
                    sleep(PAUSE).await;
                }
                Err(errno) => {
                    trouble(format!("worker {}: its queue: {errno}", slot.name));
                    break;
                }
            }
        }
        pool.wait_again(&mut left);
        if count > 0 {
            note(format!(
                "worker {}: {count} connections that process {} had not taken go to others",
                slot.name, self.pid
            ));
        }
    }
}

/// Starts a process for the place.
pub(crate) fn start(pool: &Pool, slot: &Slot) -> std::io::Result<Child> {
    let config = &slot.config;
    let mut command = std::process::Command::new(&config.command[0]);
    command
        .args(&config.command[1..])
        .envs(&config.environment)
        .env("SENDFD_PORT", pool.port.signal().to_string())
        .env("SENDFD_WORKER", &slot.name)
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDNAMES")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(directory) = &config.directory {
        command.current_dir(directory);
    }
    let user = config.user.as_deref().map(User::find).transpose();
    let user = user.map_err(|failure| std::io::Error::other(failure.to_string()))?;
    sys::before_exec(&mut command, pool.worker_limit, user);
    let mut command = Command::from(command);
    let child = command.kill_on_drop(true).spawn()?;
    if let Some(pid) = child.id() {
        pool.guard.watch(pid);
    }
    Ok(child)
}

/// Passes on what a worker says, with its name in front.
fn pass_on(name: &str, stream: Option<impl AsyncRead + Unpin + 'static>, is_error: bool) {
    use std::io::Write as _;
    let Some(stream) = stream else { return };
    let name = name.to_owned();
    tokio::task::spawn_local(async move {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line without an end must not grow without one.
            let mut limited = tokio::io::AsyncReadExt::take(&mut reader, 16 * 1024);
            match limited.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            let _ = if is_error {
                writeln!(std::io::stderr(), "{name}: {text}")
            } else {
                writeln!(std::io::stdout(), "{name}: {text}")
            };
        }
    });
}

fn words(status: &std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
