//! A way to a port of another process, which all targets of this process share that lead there by the
//! same path: what one thread sends arrives in order, whichever of them it uses.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::error::Cause;
use crate::link::Link;
use crate::lock::lock;
use crate::path::{Path, Paths};
use crate::process::{Identity, Process, Seen};
use crate::reach;
use crate::signal::Port;
use crate::sys::{self, PerProcess};

type Answer<T> = Result<T, Cause>;

#[derive(Debug)]
pub(crate) struct Route {
    pid: u32,
    identity: Identity,
    port: Port,
    pub(crate) link: Link,
    /// The generation of the process in which a thread opens the link again; 0 if none does. A child
    /// inherits the number and not the thread.
    reopening: AtomicU32,
    /// When the process was last seen to live, see [`Route::lives`].
    seen: AtomicU64,
}

/// The routes of this process. A child starts with none: what it opens itself is its own, and the pids
/// that its parent used may mean other processes in its pid namespace.
static ROUTES: PerProcess<Mutex<Vec<Weak<Route>>>> = PerProcess::new();

fn routes() -> &'static Mutex<Vec<Weak<Route>>> {
    ROUTES.get(|_| ())
}

/// What came of opening a link again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reopened {
    Done,
    /// Another thread is at it, or did it meanwhile.
    ByAnother,
}

impl Route {
    /// Opens `port` of a process by the first of `paths` that leads there.
    pub(crate) fn open(process: &Process, port: Port, paths: Paths) -> Answer<Arc<Self>> {
        reach::first(process, paths, |path, seen| Self::by(path, seen, port))
    }

    fn by(path: Path, process: &Seen<'_>, port: Port) -> Answer<Arc<Self>> {
        let identity = process.identity();
        let known = find(identity, port, path);
        if let Some(route) = known.as_ref().filter(|route| route.is_usable()) {
            reach::check(&route.link, process, port.signal())?;
            return Ok(Arc::clone(route));
        }
        let mut link = reach::reach_by(path, process, port.signal())?;
        for route in all_to(identity, port, path) {
            link = match link.give_back(&route.link) {
                Ok(()) => return Ok(route),
                Err(link) => link,
            };
        }
        let new = Arc::new(Route {
            pid: process.pid(),
            identity,
            port,
            link,
            reopening: AtomicU32::new(0),
            seen: AtomicU64::new(moment()),
        });
        let mut routes = lock(routes());
        routes.retain(|route| route.strong_count() > 0);
        // Another thread may have been faster. Nothing was sent over the new one yet.
        let faster = routes.iter().filter_map(Weak::upgrade);
        let mut faster = faster.filter(|route| route.leads_to(identity, port, path));
        if let Some(route) = faster.find(|route| route.is_usable()) {
            drop(routes);
            return Ok(route);
        }
        if let Some(route) = known.filter(|route| route.adopt(&new.link)) {
            return Ok(route);
        }
        routes.push(Arc::downgrade(&new));
        Ok(new)
    }

    /// The process, if it is the one that it was.
    pub(crate) fn process(&self) -> Answer<Process> {
        let process = Process::open(self.pid)?;
        if process.identity() == self.identity {
            Ok(process)
        } else {
            Err(Cause::NoSuchProcess)
        }
    }

    fn leads_to(&self, identity: Identity, port: Port, path: Path) -> bool {
        identity.is_known()
            && self.identity == identity
            && self.port == port
            && self.link.path() == path
    }

    /// Whether its descriptor is still its own, in the table of this thread.
    pub(crate) fn is_intact(&self) -> bool {
        self.link.socket().is_none_or(|socket| socket.is_intact())
    }

    fn is_usable(&self) -> bool {
        let connected = self
            .link
            .socket()
            .is_none_or(|socket| socket.is_connected());
        self.is_intact() && connected
    }

    /// Takes a new link's socket to the place of its own, unless some thread is at that.
    fn adopt(&self, new: &Link) -> bool {
        let (Some(own), Some(new)) = (self.link.socket(), new.socket()) else {
            return false;
        };
        if !self.is_intact() || !self.begin() {
            return false;
        }
        let adopted = own.replace(new).is_ok();
        self.reopening.store(0, Ordering::Release);
        adopted
    }

    fn begin(&self) -> bool {
        let own = sys::generation();
        let busy = self.reopening.load(Ordering::Relaxed);
        busy != own
            && self
                .reopening
                .compare_exchange(busy, own, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Opens the link again, once, without waiting.
    ///
    /// No thread waits here for another: a signal handler may have interrupted the one that is at it.
    pub(crate) fn reopen(&self) -> Answer<Reopened> {
        let Some(socket) = self.link.socket() else {
            return Err(Cause::NoSuchProcess);
        };
        let process = self.process()?;
        if !self.begin() {
            return Ok(Reopened::ByAnother);
        }
        let result = if socket.is_connected() {
            // Done by another thread since this one failed to send.
            Ok(Reopened::ByAnother)
        } else {
            let path = self.link.path();
            let again = reach::first(&process, path.into(), |path, seen| {
                reach::reach_by(path, seen, self.port.signal())
            });
            again.and_then(|new| {
                let new = new.socket().ok_or(Cause::NoSuchProcess)?;
                socket.replace(new).map(|()| Reopened::Done)
            })
        };
        self.reopening.store(0, Ordering::Release);
        result
    }

    /// Whether the process may be taken to live. A child of it that a raw clone(2) made keeps its queue open
    /// after its death, so that sending alone does not tell. That is rare, and asking takes more system
    /// calls than sending: so it is asked ten times in a second at most.
    #[inline]
    pub(crate) fn lives(&self) -> bool {
        let now = moment();
        self.seen.load(Ordering::Relaxed) == now || self.lives_at(now)
    }

    #[cold]
    fn lives_at(&self, now: u64) -> bool {
        let before = self.seen.swap(now, Ordering::Relaxed);
        // What is noted there is the parent's. The child asks a tenth of a second later, so that its first
        // send, too, is one system call.
        let is_in_child = before >> 32 != now >> 32;
        let lives = is_in_child || self.process().map(drop) != Err(Cause::NoSuchProcess);
        if !lives {
            // So that whoever asks next is told the same.
            self.seen.store(now | NEVER, Ordering::Relaxed);
        }
        lives
    }
}

/// Noted in place of the tenth of a second once the process has exited. (The clock would take 13 years to
/// get there.)
const NEVER: u64 = 0xFFFF_FFFF;

/// The tenth of a second, and in the upper half the generation.
#[inline]
fn moment() -> u64 {
    let tenths = (sys::tick() / 100_000_000) as u32;
    u64::from(sys::generation()) << 32 | u64::from(tenths)
}

/// All routes that lead there, also those whose descriptor is gone.
fn all_to(identity: Identity, port: Port, path: Path) -> Vec<Arc<Route>> {
    let routes = lock(routes());
    let routes = routes.iter().filter_map(Weak::upgrade);
    routes
        .filter(|route| route.leads_to(identity, port, path))
        .collect()
}

fn find(identity: Identity, port: Port, path: Path) -> Option<Arc<Route>> {
    let mut routes = all_to(identity, port, path).into_iter();
    routes.find(|route| route.is_intact())
}
