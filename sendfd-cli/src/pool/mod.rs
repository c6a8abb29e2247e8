//! `sendfd pool`: accepts connections and hands each, by pid, to a worker in any language.
//!
//! One thread. Each worker has a place ([`slot::Slot`]) with a task that keeps a process in it
//! ([`supervise::keep`]); each listener has a task that accepts; what finds no worker at once waits in one
//! bounded queue.

pub(crate) mod args;
pub(crate) mod config;
pub(crate) mod guard;
mod histogram;
mod leftover;
mod listener;
mod log;
mod policy;
mod queue;
mod slot;
mod status;
mod supervise;
mod take_over;
pub(crate) mod user;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use crate::activation;
use crate::exit::{Failure, Result};
use crate::sys;
use args::PoolArgs;
use config::Config;
use guard::Guard;
use listener::{Connection, Listener};
use log::{note, trouble};
use sendfd_core::Port;
use slot::{Handed, Slot};
use supervise::Order;

/// How many connections one listener accepts before other things have a turn.
const TURN: usize = 64;

/// Everything that the pool's tasks share.
#[derive(Debug)]
pub(crate) struct Pool {
    config: Config,
    port: Port,
    listeners: Vec<Listener>,
    slots: Vec<Slot>,
    guard: Guard,
    /// The limit of descriptors that this process was started with, which the workers get.
    worker_limit: Option<Rlimit>,
    waiting: RefCell<VecDeque<Connection>>,
    /// Something waits, or somebody may have room for it.
    work: Notify,
    /// There is room among what waits.
    room: Notify,
    turn: Cell<usize>,
    order: RefCell<Vec<(u64, usize)>>,
    accepted: Cell<u64>,
    lost: Cell<u64>,
    unfinished: Cell<u64>,
    /// Processes that have a successor and are finishing.
    retiring: RefCell<Vec<JoinHandle<()>>>,
    draining: watch::Sender<bool>,
    started: Instant,
}

pub(crate) fn run(args: PoolArgs) -> Result<()> {
    // Before anything else is opened, which could take their numbers.
    let inherited = activation::inherited()?;
    let config = Config::of(args)?;
    let worker_limit = raise_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system(format!("cannot start: {error}")))?;
    let result = LocalSet::new().block_on(&runtime, serve(config, inherited, worker_limit));
    // Nothing waits for what a stranger may still hold open, such as a worker's output.
    runtime.shutdown_background();
    result
}

/// Many connections are many descriptors, and what is in flight counts against the limit, too. Answers the
/// limit there was, where it was lower.
fn raise_limit() -> Result<Option<Rlimit>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(None);
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|errno| Failure::system(format!("cannot raise RLIMIT_NOFILE: {errno}")))?;
    Ok(Some(limit))
}

async fn serve(
    config: Config,
    inherited: Vec<(String, OwnedFd)>,
    worker_limit: Option<Rlimit>,
) -> Result<()> {
    let mut signals = Signals::new()?;
    let had_terminal = has_terminal();
    let (listeners, predecessor) = listeners(&config, inherited).await?;
    let status = status::bind(config.status)?;
    if let Some(user) = &config.user {
        let user = user::User::find(user)?;
        sys::change_user(&user).map_err(|error| {
            Failure::system(format!(
                "cannot become user {}: {error} (only root can)",
                user.uid
            ))
        })?;
    }
    let (slots, orders): (Vec<_>, Vec<_>) = slots(&config).into_iter().unzip();
    let pool = Rc::new(Pool {
        port: config.port,
        config,
        listeners,
        slots,
        guard: Guard::start()?,
        worker_limit,
        waiting: RefCell::default(),
        work: Notify::new(),
        room: Notify::new(),
        turn: Cell::new(0),
        order: RefCell::default(),
        accepted: Cell::new(0),
        lost: Cell::new(0),
        unfinished: Cell::new(0),
        retiring: RefCell::default(),
        draining: watch::channel(false).0,
        started: Instant::now(),
    });
    pool.announce(status.as_ref());

    // A command that cannot be executed is wrong from the start. (Those started before it end with us.)
    let mut first = Vec::new();
    for slot in &pool.slots {
        let child = supervise::start(&pool, slot).map_err(|error| {
            Failure::usage(format!(
                "cannot start worker {} ({}): {error}",
                slot.name, slot.config.command[0]
            ))
        })?;
        first.push(child);
    }
    let mut places = Vec::new();
    for ((index, child), orders) in first.into_iter().enumerate().zip(orders) {
        let keep = supervise::keep(Rc::clone(&pool), index, child, orders);
        places.push(spawn_local(keep));
    }
    let mut acceptors = Vec::new();
    for (index, listener) in pool.listeners.iter().enumerate() {
        let socket = listener.polled()?;
        acceptors.push(spawn_local(Rc::clone(&pool).accept(socket, index)));
    }
    spawn_local(Rc::clone(&pool).hand_over_what_waits());
    if let Some(status) = status {
        spawn_local(status::serve(Rc::clone(&pool), status)?);
    }
    if let Some(predecessor) = predecessor {
        spawn_local(predecessor.relieve(Rc::clone(&pool)));
    }
    let successor = Notify::new();
    let successor = Rc::new(successor);
    take_over::offer(&pool, Rc::clone(&successor));

    loop {
        tokio::select! {
            _ = signals.hangup.recv() => {
                if had_terminal && !has_terminal() {
                    note("the terminal is gone");
                    break;
                }
                spawn_local(Rc::clone(&pool).reload());
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            () = successor.notified() => break,
        }
    }
    let end = pool.drain(acceptors, places);
    tokio::select! {
        () = end => {}
        // Who asks twice does not want to wait.
        _ = signals.interrupt.recv() => trouble("interrupted again: what is left is killed"),
    }
    pool.report();
    Ok(())
}

/// Whether there is a controlling terminal. When it goes, the kernel sends SIGHUP, too.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let catch = |kind| {
            signal(kind).map_err(|error| Failure::system(format!("cannot handle signals: {error}")))
        };
        Ok(Signals {
            hangup: catch(SignalKind::hangup())?,
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }
}

/// Those of a predecessor, those of systemd, and those that are bound here.
async fn listeners(
    config: &Config,
    inherited: Vec<(String, OwnedFd)>,
) -> Result<(Vec<Listener>, Option<take_over::Predecessor>)> {
    let mut listeners = Vec::new();
    let mut predecessor = None;
    let mut taken = Vec::new();
    if let Some(pid) = config.take_over {
        let (sockets, who) = take_over::ask(pid, config.port).await?;
        taken = sockets
            .into_iter()
            .map(|socket| Listener::of(socket, Vec::new()))
            .collect();
        predecessor = Some(who);
    }
    for listen in &config.listen {
        // A port that the predecessor chose freely is found again by 0.
        let same = |listener: &Listener| match (&listener.address, &listen.address) {
            (crate::address::Address::Tcp(one), crate::address::Address::Tcp(other)) => {
                one.ip() == other.ip() && (other.port() == 0 || one.port() == other.port())
            }
            (one, other) => one == other,
        };
        match taken.iter().position(same) {
            Some(index) => {
                let mut listener = taken.remove(index);
                listener.workers.clone_from(&listen.workers);
                listeners.push(listener);
            }
            None => listeners.push(Listener::bind(listen)?),
        }
    }
    listeners.append(&mut taken);
    listeners.extend(
        inherited
            .into_iter()
            .map(|(_, socket)| Listener::of(socket, Vec::new())),
    );
    if listeners.is_empty() {
        return Err(Failure::usage(
            "no address to listen on: name one with --listen ADDR, in the configuration, or by LISTEN_FDS",
        ));
    }
    Ok((listeners, predecessor))
}

/// A place for each process, with a name that no other has.
fn slots(config: &Config) -> Vec<(Slot, mpsc::UnboundedReceiver<Order>)> {
    let mut names: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    let several = |name: &str| {
        let same = config.workers.iter().filter(|worker| worker.name == name);
        same.map(|worker| worker.count).sum::<u32>() > 1
    };
    let mut slots = Vec::new();
    for worker in &config.workers {
        for _ in 0..worker.count {
            let number = names.entry(&worker.name).or_default();
            *number += 1;
            let name = if several(&worker.name) {
                format!("{}-{number}", worker.name)
            } else {
                worker.name.clone()
            };
            let (sender, receiver) = mpsc::unbounded_channel();
            slots.push((Slot::new(name, worker.clone(), sender), receiver));
        }
    }
    slots
}

impl Pool {
    fn announce(&self, status: Option<&std::net::TcpListener>) {
        note(format!(
            "process {}, {} workers, {}",
            std::process::id(),
            self.slots.len(),
            self.config.policy.as_str()
        ));
        if let Some(limit) = self.worker_limit {
            let words =
                |number: Option<u64>| number.map_or("no limit".to_owned(), |n| n.to_string());
            note(format!(
                "RLIMIT_NOFILE raised from {} to {}, for the pool alone",
                words(limit.current),
                words(limit.maximum)
            ));
        }
        for listener in &self.listeners {
            note(format!("listening on {}", listener.address));
        }
        if let Some(Ok(address)) = status.map(std::net::TcpListener::local_addr) {
            note(format!("status on http://{address}/"));
        }
    }

    /// Accepts until told to drain, and then what is left.
    async fn accept(self: Rc<Self>, socket: AsyncFd<OwnedFd>, index: usize) {
        let mut draining = self.draining.subscribe();
        let mut said = false;
        loop {
            while self.waiting.borrow().len() >= self.config.waiting {
                self.room.notified().await;
            }
            let ready = tokio::select! {
                ready = socket.readable() => ready,
                _ = draining.wait_for(|draining| *draining) => {
                    // Those that the kernel has accepted for us: nobody else would get them.
                    while let Ok(connection) = listener::accept(socket.get_ref(), index) {
                        self.take(connection);
                    }
                    return;
                }
            };
            let Ok(mut ready) = ready else { return };
            for _ in 0..TURN {
                match listener::accept(socket.get_ref(), index) {
                    Ok(connection) => self.take(connection),
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::INTR | Errno::CONNABORTED) => {}
                    Err(errno) => {
                        // Short of descriptors, or of memory: that passes, and the kernel keeps them.
                        if !said {
                            trouble(format!("cannot accept: {errno}; clients wait"));
                            said = true;
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        break;
                    }
                }
                if self.waiting.borrow().len() >= self.config.waiting {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn take(&self, connection: Connection) {
        self.accepted.set(self.accepted.get() + 1);
        // Who came first is served first.
        if self.waiting.borrow().is_empty() && self.hand(&connection) {
            return;
        }
        self.waiting.borrow_mut().push_back(connection);
        self.work.notify_one();
    }

    /// They were accepted before all that wait. In the order in which they came.
    fn wait_again(&self, connections: &mut Vec<Connection>) {
        let mut waiting = self.waiting.borrow_mut();
        for connection in connections.drain(..).rev() {
            waiting.push_front(connection);
        }
        self.work.notify_one();
    }

    /// Gives a connection to the first worker, by the policy, that takes it.
    fn hand(&self, connection: &Connection) -> bool {
        let workers = &self.listeners[connection.listener].workers;
        let may_serve = |slot: &Slot| workers.is_empty() || workers.contains(&slot.config.name);
        let mut order = self.order.borrow_mut();
        policy::order(
            self.config.policy,
            &self.slots,
            may_serve,
            self.turn.get(),
            connection.client(),
            &mut order,
        );
        let tag = connection.listener as u64;
        let words = if self.config.describe {
            connection.words()
        } else {
            String::new()
        };
        for (_, index) in order.iter() {
            if self.slots[*index].hand(connection.socket.as_fd(), tag, words.as_bytes())
                == Handed::Yes
            {
                self.turn.set((index + 1) % self.slots.len());
                return true;
            }
        }
        false
    }

    /// Tries again for what found no worker: when one becomes ready, and now and then, as nobody tells of
    /// room in a queue.
    async fn hand_over_what_waits(self: Rc<Self>) {
        let mut pause = Duration::from_millis(1);
        loop {
            let before = self.waiting.borrow().len();
            if before == 0 {
                self.work.notified().await;
                pause = Duration::from_millis(1);
            }
            self.waiting
                .borrow_mut()
                .retain(|connection| !self.hand(connection));
            let left = self.waiting.borrow().len();
            if left < before {
                pause = Duration::from_millis(1);
                self.room.notify_waiters();
            }
            if left > 0 {
                let _ = timeout(pause, self.work.notified()).await;
                pause = (pause * 2).min(Duration::from_millis(16));
            }
        }
    }

    /// One worker after the other.
    async fn reload(self: Rc<Self>) {
        note("reload: one worker after the other");
        let mut done = 0;
        for slot in &self.slots {
            let (answer, answered) = oneshot::channel();
            if slot.orders.send(Order::Reload(answer)).is_ok() && answered.await == Ok(true) {
                done += 1;
            }
        }
        note(format!(
            "reload: {done} of {} workers are new",
            self.slots.len()
        ));
    }

    /// No new connections; what was accepted is handed over; the workers finish.
    async fn drain(&self, acceptors: Vec<JoinHandle<()>>, places: Vec<JoinHandle<()>>) {
        note("draining");
        self.draining.send_replace(true);
        for acceptor in acceptors {
            self.room.notify_waiters();
            let _ = timeout(self.config.drain, acceptor).await;
        }
        let end = tokio::time::Instant::now() + self.config.drain;
        while !self.waiting.borrow().is_empty() && tokio::time::Instant::now() < end {
            self.work.notify_one();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.lose_what_waits();
        for slot in &self.slots {
            let _ = slot.orders.send(Order::Stop);
        }
        for place in places {
            let _ = place.await;
        }
        let retiring = self.retiring.take();
        for task in retiring {
            let _ = task.await;
        }
        // What a worker had not taken when it ended found nobody else.
        self.lose_what_waits();
    }

    fn lose_what_waits(&self) {
        let left = self.waiting.borrow_mut().drain(..).count() as u64;
        self.lost.set(self.lost.get() + left);
    }

    fn report(&self) {
        let handed = self.slots.iter().map(Slot::kept).sum::<u64>();
        note(format!(
            "{} accepted, {handed} handed over, {} lost, {} killed unfinished",
            self.accepted.get(),
            self.lost.get(),
            self.unfinished.get()
        ));
    }
}
