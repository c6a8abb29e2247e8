//! The places of this process's ports: a list that the handlers of fork(2) can walk at any moment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::agent::Agent;
use crate::error::Cause;
use crate::port::{OpenPort, Set, Work};
use crate::process;
use crate::sys::{self, AfterFork, Guard, Lock};

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

/// The signals with which the kernel itself delivers, where there is no port: a bit for each.
static BY_KERNEL: AtomicU64 = AtomicU64::new(0);

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

    /// Runs `f` on the port, if there is one and `is_it` says that it is the right one. `None` if not, and
    /// also in a child that a signal handler forked meanwhile: the port is the parent's, and the child's
    /// copies are closed.
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
    if kernel_delivers(sig)? {
        return Err(Cause::AlreadyListening);
    }
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

fn bit(sig: i32) -> u64 {
    1 << (sig - 1)
}

/// Whether the kernel delivers with this signal. Who has set another action meanwhile has ended that.
fn kernel_delivers(sig: i32) -> Result<bool, Cause> {
    Ok(BY_KERNEL.load(Ordering::Relaxed) & bit(sig) != 0 && sys::expects_fd(sig)?)
}

/// Lets the kernel itself deliver with a signal where this process has no port. False if it cannot.
pub(crate) fn let_kernel_deliver(sig: i32) -> Result<bool, Cause> {
    let _one_at_a_time = OPENING.lock();
    let has_port = |place: &Place| {
        let port = place.lock();
        port.as_ref()
            .is_some_and(|port| port.sig() == sig && port.is_open())
    };
    if kernel_delivers(sig)? || all().any(has_port) {
        return Err(Cause::AlreadyListening);
    }
    let can = sys::expect_fd(sig)?;
    if can {
        BY_KERNEL.fetch_or(bit(sig), Ordering::Relaxed);
    }
    Ok(can)
}

/// Ends [`let_kernel_deliver`]. False if the kernel did not deliver there.
pub(crate) fn stop_kernel(sig: i32) -> bool {
    let _one_at_a_time = OPENING.lock();
    let did = BY_KERNEL.fetch_and(!bit(sig), Ordering::Relaxed) & bit(sig) != 0;
    if did {
        sys::expect_no_fd(sig);
    }
    did
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

/// Closes what is the parent's, and takes back what it permitted for itself.
pub(crate) fn release_in_child() {
    let mut signals = BY_KERNEL.swap(0, Ordering::Relaxed);
    while signals != 0 {
        sys::expect_no_fd(signals.trailing_zeros() as i32 + 1);
        signals &= signals - 1;
    }
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
