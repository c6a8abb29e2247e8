//! The places of this process's ports: where fork(2) finds all of them.

use std::sync::OnceLock;

use crate::agent::Agent;
use crate::error::Cause;
use crate::port::{OpenPort, Set, Work};
use crate::process;
use crate::sys::{AfterFork, Guard, Lock};

/// Room for a port. Places are never given back, but used again, so that they can be walked through
/// at any moment without a lock.
pub(crate) struct Place {
    port: Lock<Option<OpenPort>>,
    work: Work,
    next: OnceLock<&'static Place>,
}

/// The first place. The others follow.
static FIRST: Place = Place::new();

/// Held while a port is being opened, so that there is one for each signal.
static OPENING: Lock<()> = Lock::new(());

impl Place {
    const fn new() -> Self {
        Place {
            port: Lock::new(None),
            work: Work::new(),
            next: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, Option<OpenPort>> {
        self.port.lock()
    }

    /// Whether a signal handler has forked while the port was in use, and this process is the child:
    /// then the port is not its own. To be asked before the port is let go of.
    #[inline]
    pub(crate) fn is_orphaned(&self) -> bool {
        self.work.is_orphaned()
    }

    /// Runs `f` on the port, if there is one and it is the one. `None` if not, and also if what was
    /// done was done with copies of a parent's: those are closed.
    #[inline]
    pub(crate) fn with<T>(
        &self,
        is_it: impl FnOnce(&OpenPort) -> bool,
        f: impl FnOnce(&mut OpenPort) -> T,
    ) -> Option<T> {
        let mut port = self.port.lock();
        let result = port.as_mut().filter(|port| is_it(port)).map(f);
        if self.is_orphaned() {
            if let Some(port) = port.take() {
                port.disown();
            }
            return None;
        }
        result
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

fn all() -> impl Iterator<Item = &'static Place> {
    std::iter::successors(Some(&FIRST), |place| place.next.get().copied())
}

/// Opens a port at a signal where this process has none. Answers where it is, which one it is, and
/// what to wait for.
pub(crate) fn open(
    sig: i32,
    uids: &[u32],
    queue_bytes: u32,
) -> Result<(&'static Place, u64, Set), Cause> {
    let _one_at_a_time = OPENING.lock();
    let (mut free, mut last) = (None, &FIRST);
    for place in all() {
        match &*place.lock() {
            Some(port) if port.sig() == sig && port.is_open() => {
                return Err(Cause::AlreadyListening);
            }
            Some(_) => {}
            None => free = free.or(Some(place)),
        }
        last = place;
    }
    let place = free.unwrap_or_else(|| {
        let place: &'static Place = Box::leak(Box::new(Place::new()));
        let _ = last.next.set(place);
        place
    });
    let own = process::own_pid();
    let port = OpenPort::open(sig, uids, queue_bytes, &place.work)?;
    if process::own_pid() != own {
        // A signal handler has forked meanwhile.
        port.disown();
        return Err(Cause::Inherited);
    }
    place.work.adopt(port.set().number());
    let (id, set) = (port.id(), port.set().clone());
    *place.lock() = Some(port);
    Ok((place, id, set))
}

/// Tells the agent that serves the port at a signal to end. It is the caller's to wait for.
pub(crate) fn dismiss_agent(sig: i32) -> Option<Agent> {
    all().find_map(|place| place.with(|port| port.sig() == sig, OpenPort::dismiss_agent)?)
}

pub(crate) fn hold_for_fork() {
    OPENING.hold_for_fork();
    for place in all() {
        place.port.hold_for_fork();
    }
}

pub(crate) fn release_in_parent() {
    for place in all() {
        place.port.release_after_fork(|_| ());
    }
    OPENING.release_after_fork(|_| ());
}

/// Closes what is the parent's.
pub(crate) fn release_in_child() {
    for place in all() {
        let after = place.port.release_after_fork(|port| {
            if let Some(port) = port.take() {
                port.disown();
            }
        });
        if after == AfterFork::InUse {
            place.work.orphan();
        }
    }
    OPENING.release_after_fork(|_| ());
}
