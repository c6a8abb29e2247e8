//! A worker's place in the pool: one process after the other lives in it.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use sendfd_core::{Cause, SendOptions, Target};
use tokio::sync::mpsc::UnboundedSender;

use super::config::WorkerConfig;
use super::histogram::Histogram;
use super::supervise::Order;

/// What a place is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its process has not opened its receiver yet.
    Booting,
    Ready,
    /// It is being told to stop.
    Stopping,
    /// Its process has ended, and the next is about to start.
    Down,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Booting => "booting",
            State::Ready => "ready",
            State::Stopping => "stopping",
            State::Down => "down",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Slot {
    /// Unique: with a number where a worker is started several times.
    pub(crate) name: String,
    pub(crate) config: WorkerConfig,
    /// Where connections go, while the process there takes any.
    pub(crate) target: RefCell<Option<Target>>,
    pub(crate) state: Cell<State>,
    /// 0 while there is none.
    pub(crate) pid: Cell<u32>,
    pub(crate) path: Cell<&'static str>,
    pub(crate) handed: Cell<u64>,
    /// Of these, taken back because the worker had ended and not received them.
    pub(crate) returned: Cell<u64>,
    pub(crate) full: Cell<u64>,
    pub(crate) restarts: Cell<u64>,
    pub(crate) reloads: Cell<u64>,
    pub(crate) times: RefCell<Histogram>,
    pub(crate) orders: UnboundedSender<Order>,
}

/// What came of a hand-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    Yes,
    /// Not now: its queue is full, or descriptors are short.
    Full,
    /// There is nobody, or nobody any more.
    Gone,
}

impl Slot {
    pub(crate) fn new(name: String, config: WorkerConfig, orders: UnboundedSender<Order>) -> Self {
        Slot {
            name,
            config,
            target: RefCell::new(None),
            state: Cell::new(State::Down),
            pid: Cell::new(0),
            path: Cell::new("-"),
            handed: Cell::new(0),
            returned: Cell::new(0),
            full: Cell::new(0),
            restarts: Cell::new(0),
            reloads: Cell::new(0),
            times: RefCell::new(Histogram::new()),
            orders,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.target.borrow().is_some()
    }

    /// How many connections it was handed and received, or still may.
    pub(crate) fn kept(&self) -> u64 {
        self.handed.get() - self.returned.get()
    }

    /// Bytes that wait in its queue, by the kernel's count.
    pub(crate) fn queued(&self) -> usize {
        let target = self.target.borrow();
        let queued = target.as_ref().and_then(|target| target.queued().ok());
        queued.unwrap_or(0)
    }

    /// Hands a connection over. On any other answer than yes it is still ours.
    pub(crate) fn hand(&self, connection: BorrowedFd<'_>, tag: u64, data: &[u8]) -> Handed {
        let answer = {
            let target = self.target.borrow();
            let Some(target) = target.as_ref() else {
                return Handed::Gone;
            };
            let options = SendOptions::new().tag(tag).data(data);
            let start = Instant::now();
            let answer = target.send(&[connection.as_fd()], &options);
            if answer.is_ok() {
                self.times.borrow_mut().add(start.elapsed());
            }
            answer
        };
        let Err(error) = answer else {
            self.handed.set(self.handed.get() + 1);
            return Handed::Yes;
        };
        match error.raw_os_error() {
            // What passes: a full queue, and whatever this process is short of.
            libc::EAGAIN
            | libc::ETOOMANYREFS
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EINTR => {
                self.full.set(self.full.get() + 1);
                Handed::Full
            }
            _ => {
                self.target.replace(None);
                let ended = error.cause() == Cause::NoSuchProcess;
                let words = error.to_string();
                let _ = self.orders.send(Order::Lost { ended, words });
                Handed::Gone
            }
        }
    }
}
