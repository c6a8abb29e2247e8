//! What a listening process owns for each signal: all of it anonymous, close-on-exec, and gone with
//! the process.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socketpair, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::connections::has_record;
use super::source::{Set, Source, let_go};
use super::work::Work;
use crate::address::{self, Address};
use crate::error::Cause;
use crate::marker::{self, Marker};
use crate::process::{self, Process};
use crate::sys;

/// The kernel caps this at net.core.somaxconn, 4096 by default.
const BACKLOG: i32 = i32::MAX;

/// How long to wait before an address that was taken is tried again: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Inbox {
    sig: i32,
    queue_bytes: u32,
    /// What this process reads.
    rx: Arc<OwnedFd>,
    /// What senders fetch. This process only keeps it.
    tx: OwnedFd,
    /// What tells senders where `tx` is.
    marker: Option<OwnedFd>,
    names: Vec<Name>,
    retired: bool,
    /// Wakes the receiver when there is something to be tried again.
    clock: Option<OwnedFd>,
    pause: Duration,
}

/// Where senders connect that may not fetch `tx`: the process's own address, then one for each
/// further user.
#[derive(Debug)]
struct Name {
    uid: Option<u32>,
    /// `None` while somebody else has the address, and after retiring.
    listener: Option<OwnedFd>,
}

impl Inbox {
    pub(crate) fn open(sig: i32, uids: &[u32], queue_bytes: u32, set: &Set) -> Result<Self, Cause> {
        let mut names = vec![Name::new(None)];
        for uid in uids {
            if names.iter().all(|name| name.uid != Some(*uid)) {
                names.push(Name::new(Some(*uid)));
            }
        }
        // First, so that a second copy of this library in the process is found out before anything
        // is made.
        let address = Address::own(sig);
        take_names(&mut names, &address, set)?;
        if names[0].listener.is_none() && has_inbox(sig) {
            return Err(Cause::AlreadyListening);
        }
        let (rx, tx, marker) = make(sig, &address, queue_bytes)?;
        set.watch(&rx, Source::Rx)?;
        let mut inbox = Inbox {
            sig,
            queue_bytes,
            rx: Arc::new(rx),
            tx,
            marker: Some(marker),
            names,
            retired: false,
            clock: None,
            pause: FIRST_PAUSE,
        };
        if inbox.lacks_names() {
            // Without a clock, for which the table has no room, there is no second try.
            let _ = inbox.try_again_later(set);
        }
        Ok(inbox)
    }

    pub(crate) fn rx(&self) -> BorrowedFd<'_> {
        self.rx.as_fd()
    }

    /// The same to be kept for a while.
    pub(crate) fn share_rx(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.rx)
    }

    pub(crate) fn tx(&self) -> &OwnedFd {
        &self.tx
    }

    pub(crate) fn has_retired(&self) -> bool {
        self.retired
    }

    pub(crate) fn listener(&self, place: u32) -> Option<BorrowedFd<'_>> {
        let name = self.names.get(place as usize)?;
        name.listener.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn has_listeners(&self) -> bool {
        self.names.iter().any(|name| name.listener.is_some())
    }

    /// Makes a new socket pair: somebody who fetched the sending end has shut it down, for everybody.
    /// Senders look for the new one when sending fails.
    pub(crate) fn renew(&mut self, set: &Set) -> Result<(), Cause> {
        let (rx, tx, marker) = make(self.sig, &Address::own(self.sig), self.queue_bytes)?;
        set.watch(&rx, Source::Rx)?;
        let old = mem::replace(&mut self.rx, Arc::new(rx));
        drop(let_go(old, set));
        self.tx = tx;
        self.marker = Some(marker);
        Ok(())
    }

    /// From now on, nothing more comes in: the kernel refuses it at the senders. What is queued can
    /// still be read, and behind it an end.
    pub(crate) fn retire(&mut self, work: &Work) {
        self.marker = None;
        for listener in self.names.iter().filter_map(|name| name.listener.as_ref()) {
            work.shut_down(listener);
        }
        work.shut_down(&self.rx);
        self.retired = true;
    }

    /// A listener whose queue is empty, and that nobody can join any more.
    pub(crate) fn close_listener(&mut self, place: u32, set: &Set) {
        let name = self.names.get_mut(place as usize);
        if let Some(listener) = name.and_then(|name| name.listener.take()) {
            set.unwatch(&listener);
        }
    }

    /// The clock has struck: addresses that were taken may be free. With `more` it strikes again in any
    /// case.
    pub(crate) fn try_again(&mut self, set: &Set, more: bool) {
        let mut again = more;
        if !self.has_retired() {
            // An error of this moment is none of the caller's.
            let _ = take_names(&mut self.names, &Address::own(self.sig), set);
            again |= self.lacks_names();
        }
        if again {
            self.pause = (self.pause * 2).min(LAST_PAUSE);
            let _ = self.try_again_later(set);
        } else {
            if let Some(clock) = self.clock.take() {
                set.unwatch(&clock);
            }
            self.pause = FIRST_PAUSE;
        }
    }

    fn lacks_names(&self) -> bool {
        self.names.iter().any(|name| name.listener.is_none())
    }

    /// Has the clock strike in a while.
    pub(crate) fn try_again_later(&mut self, set: &Set) -> Result<(), Errno> {
        if self.clock.is_none() {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let clock = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            set.watch(&clock, Source::Clock)?;
            self.clock = Some(clock);
        }
        if let Some(clock) = &self.clock {
            let time = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec::try_from(self.pause).unwrap_or_default(),
            };
            timerfd_settime(clock, TimerfdTimerFlags::empty(), &time)?;
        }
        Ok(())
    }

    /// Takes all out of the set. Returns what may take long to close, and the sending end.
    pub(crate) fn close(self, set: &Set, work: &Work) -> (Vec<OwnedFd>, OwnedFd) {
        let mut slow = Vec::new();
        for listener in self.names.into_iter().filter_map(|name| name.listener) {
            set.unwatch(&listener);
            work.shut_down(&listener);
            slow.append(&mut with_who_waits(listener, work));
        }
        if let Some(clock) = &self.clock {
            set.unwatch(clock);
        }
        set.unwatch(&self.tx);
        // Threads that wait for it find out although a copy of the other end may be open.
        work.shut_down(&self.rx);
        work.end();
        slow.extend(let_go(self.rx, set).filter(has_record));
        (slow, self.tx)
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let listeners = self.names.iter().map(|name| &name.listener);
        listeners
            .chain([&self.marker, &self.clock])
            .flatten()
            .chain([&*self.rx, &self.tx])
            .map(AsRawFd::as_raw_fd)
    }
}

impl Name {
    fn new(uid: Option<u32>) -> Self {
        Name {
            uid,
            listener: None,
        }
    }
}

/// Listens at the addresses that are free. The process's own comes first: without it, senders could
/// not tell that the others are refused.
fn take_names(names: &mut [Name], address: &Address, set: &Set) -> Result<(), Errno> {
    for (name, place) in names.iter_mut().zip(0..) {
        if name.listener.is_some() {
            continue;
        }
        match open_listener(address, name.uid) {
            Ok(listener) => {
                set.watch(&listener, Source::Listener(place))?;
                name.listener = Some(listener);
            }
            Err(Errno::ADDRINUSE) if place == 0 => return Ok(()),
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn open_listener(address: &Address, uid: Option<u32>) -> Result<OwnedFd, Errno> {
    let listener = address::socket(SocketFlags::NONBLOCK)?;
    // Inherited by the connections, and in force for what arrives before they are accepted.
    sockopt::set_socket_passcred(&listener, true)?;
    bind(&listener, &address.listener(uid)?)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Who waits to be accepted at a listener that was shut down, and has sent something that may take long to
/// close. The others are closed at once, and so is the listener, so that its address is free: only where
/// the table has no room to accept them all, it is closed with those.
fn with_who_waits(listener: OwnedFd, work: &Work) -> Vec<OwnedFd> {
    let mut slow = Vec::new();
    // Nobody can join them.
    while work.begin(listener.as_fd()).is_ok() {
        match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
            Ok(socket) => {
                work.shut_down(&socket);
                work.end();
                if has_record(&socket) {
                    slow.push(socket);
                }
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                slow.push(listener);
                break;
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => break,
        }
    }
    work.end();
    slow
}

fn make(
    sig: i32,
    address: &Address,
    queue_bytes: u32,
) -> Result<(OwnedFd, OwnedFd, OwnedFd), Cause> {
    let (rx, tx) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_passcred(&rx, true)?;
    if queue_bytes != 0 {
        set_queue(&tx, queue_bytes)?;
    }
    bind(&rx, &address.receiving_end(random()?)?)?;
    let marker = marker::create(sig, &tx)?;
    Ok((rx, tx, marker))
}

/// Whether this process has an inbox there already, which another copy of this library has made.
/// One that it inherited, or that was left to it, was made by another process.
fn has_inbox(sig: i32) -> bool {
    let own = process::own_pid();
    let is_own = |marker: Marker| {
        let tx = sys::duplicate(marker.tx).ok()?;
        let is_own = rustix::fs::fstat(&tx).is_ok_and(|stat| stat.st_ino == marker.inode)
            && Address::is_inbox(&tx, sig)
            && sys::peer_credentials(tx.as_fd()).is_ok_and(|peer| peer.pid == own);
        is_own.then_some(())
    };
    Process::open(own).is_ok_and(|process| marker::find(&process, sig, is_own).is_ok())
}

/// How much the kernel lets senders queue, by its own count, in which a bare record takes some
/// hundred bytes more than its contents. The kernel doubles what it is asked for.
fn set_queue(tx: &OwnedFd, bytes: u32) -> Result<(), Errno> {
    let half = (bytes / 2) as usize;
    sockopt::set_socket_send_buffer_size(tx, half)?;
    if sockopt::socket_send_buffer_size(tx)? < half * 2 {
        // Above net.core.wmem_max, which root may pass. For others the maximum is what they get.
        let _ = sockopt::set_socket_send_buffer_size_force(tx, half);
    }
    Ok(())
}

fn random() -> Result<u64, Errno> {
    let mut bytes = [0_u8; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::{SendOptions, TargetOptions};
    use crate::path::Paths;
    use crate::signal::Port;
    use crate::target::Target;

    #[test]
    fn who_waits_and_has_sent_nothing_keeps_no_address_taken() {
        let (work, port) = (Work::new(), Port::new(9).expect("a port"));
        for sends in [false, true] {
            let set = Set::new().expect("a set");
            let inbox = Inbox::open(port.signal(), &[], 0, &set).expect("an inbox");
            assert!(inbox.has_listeners(), "the address is free");
            let options = TargetOptions::new().paths(Paths::NAME);
            let target = Target::open_with(process::own_pid(), port, &options).expect("a target");
            if sends {
                target
                    .send(&[std::io::stdin().as_fd()], &SendOptions::default())
                    .expect("sent");
            }
            // It was not accepted yet.
            let (slow, _tx) = inbox.close(&set, &work);
            assert_eq!(slow.len(), usize::from(sends));
            // Even before what is slow was closed.
            let set = Set::new().expect("a set");
            let next = Inbox::open(port.signal(), &[], 0, &set).expect("an inbox");
            assert!(next.has_listeners(), "the address is free");
        }
    }
}
