//! Who this process says it is when it sends.
//!
//! Whoever opened a target was found acceptable as one user. That user is named in every message, and
//! the kernel lets nobody name a user that he is not: after setuid(2), in a child that dropped its
//! rights, the message is refused instead of being dropped by its receiver, and without a system call
//! more.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::credentials::{Credentials, OVERFLOW};
use crate::sys;

#[derive(Debug)]
pub(crate) struct Sender {
    /// The user in the upper half, the group in the lower.
    who: AtomicU64,
}

/// Who leaves its name to the kernel, which is cheaper: a user that has no number in its own user
/// namespace, and one that cannot become another.
const UNNAMED: u64 = u64::MAX;

fn pair(upper: u32, lower: u32) -> u64 {
    u64::from(upper) << 32 | u64::from(lower)
}

fn effective() -> u64 {
    pair(geteuid().as_raw(), getegid().as_raw())
}

/// Whether this process may become another user without executing a program: whoever has the capability,
/// as root has it unless it was taken away, and whoever is one user in effect and another otherwise.
fn can_change() -> bool {
    let effective = geteuid().as_raw();
    let may = capabilities(None).map_or(effective == 0, |own| {
        own.permitted.contains(CapabilitySet::SETUID)
    });
    may || sys::own_users() != [effective; 2]
}

impl Sender {
    /// This process as it is now: its effective user, whose rights count.
    pub(crate) fn now() -> Self {
        let who = if can_change() { effective() } else { UNNAMED };
        Sender {
            who: AtomicU64::new(who),
        }
    }

    /// As it is to be named. A child names itself.
    #[inline]
    pub(crate) fn named(&self) -> Option<Credentials> {
        let who = self.who.load(Ordering::Relaxed);
        if who == UNNAMED {
            return None;
        }
        Some(Credentials {
            pid: sys::own_pid(),
            uid: (who >> 32) as u32,
            gid: who as u32,
        })
    }

    /// The kernel did not let this process be named so. Whether it is somebody else by now, or never had
    /// a name: then it is worth another try, once the target was asked again.
    #[cold]
    pub(crate) fn ask_again(&self) -> bool {
        let (before, now) = (self.who.load(Ordering::Relaxed), effective());
        let unmapped = [now >> 32, now & 0xFFFF_FFFF].contains(&u64::from(OVERFLOW));
        let now = match before {
            UNNAMED => return false,
            _ if before != now => now,
            _ if unmapped => UNNAMED,
            _ => return false,
        };
        self.who.store(now, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_as_it_is() {
        let sender = Sender::now();
        match sender.named() {
            Some(named) => {
                assert_eq!(named.pid, std::process::id());
                let effective = (geteuid().as_raw(), getegid().as_raw());
                assert_eq!((named.uid, named.gid), effective);
            }
            None => assert!(!can_change()),
        }
        // Nothing has changed: another try would end the same way.
        assert!(!sender.ask_again());
    }

    #[test]
    fn who_was_somebody_else_is_asked_again() {
        let sender = Sender::now();
        sender
            .who
            .store(pair(4_000_000, 4_000_000), Ordering::Relaxed);
        assert!(sender.ask_again());
        assert_eq!(
            sender.named().map(|named| named.uid),
            Some(geteuid().as_raw())
        );
    }
}
