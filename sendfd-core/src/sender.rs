//! Who this process says it is when it sends.
//!
//! When a target is opened, it is checked that it accepts this process as one user. Every message names that
//! user (SCM_CREDENTIALS), and the kernel refuses a message in which a process names a user that it is not.
//! So after setuid(2), or in a child that dropped its rights, sending fails, where otherwise the receiver
//! would drop the message; and finding out takes no system call of its own.

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

/// In place of user and group: no user is named, and the kernel puts it in, which is cheaper. That is for a
/// process that cannot become another user, and for a user that has no number in its own user namespace.
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
    /// This process as it is now, by its effective user, whose rights count.
    pub(crate) fn now() -> Self {
        let who = if can_change() { effective() } else { UNNAMED };
        Sender {
            who: AtomicU64::new(who),
        }
    }

    /// What a message is to say of its sender, if anything. In a child the pid is its own.
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

    /// The kernel refused the sender in a message. True if that is because this process has become another
    /// user, or has no number in its user namespace: then what is named changes, and it is worth another
    /// try once the target was asked again.
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
