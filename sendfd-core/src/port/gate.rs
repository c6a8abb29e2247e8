//! What is let in: whole records, of users that may signal this process.

use crate::credentials::{Credentials, OVERFLOW, maps_everybody};
use crate::error::Cause;
use crate::message::{Descriptors, Incoming, Room};
use crate::path::Path;
use crate::process::read_file;
use crate::sys::{self, Record};
use crate::wire::{HEADER_LEN, Header};

use super::data;

#[derive(Debug)]
pub(crate) struct Gate {
    sig: i32,
    users: Users,
    /// When they were last known to be right.
    known: u64,
    dropped: u64,
}

/// For how long, in nanoseconds, the users of this process are taken for what they were: asking for
/// every message would cost a steady stream half a percent.
const FRESH: u64 = 200_000;

/// What became of a record.
pub(crate) enum Verdict {
    Good(Accepted),
    Dropped,
    /// It is none, but the end of the stream.
    End,
}

/// What is known of a record that is a message for us.
pub(crate) struct Accepted {
    header: Header,
    sender: Credentials,
    path: Path,
}

impl Accepted {
    /// Gives the message out, if there is room for it. Otherwise it stays in `record`.
    #[inline]
    pub(crate) fn give(self, record: &mut Record, room: &mut impl Room) -> Result<(), Cause> {
        let (max_fds, max_data) = room.room();
        let fds = usize::from(self.header.nfds);
        let data = self.header.data_len as usize;
        if fds > max_fds || data > max_data {
            room.needs(fds, data);
            return Err(Cause::RoomTooSmall { fds, data });
        }
        if self.header.sealed {
            return self.give_sealed(record, room);
        }
        let (bytes, fds) = record.split();
        room.put(Incoming {
            fds: Descriptors::from(fds),
            data: bytes.get(HEADER_LEN..).unwrap_or_default(),
            tag: self.header.tag,
            sender: self.sender,
            path: self.path,
        });
        Ok(())
    }

    #[cold]
    fn give_sealed(self, record: &mut Record, room: &mut impl Room) -> Result<(), Cause> {
        let memfd = record.last().ok_or(Cause::BadDescriptor)?;
        let data = data::read(memfd, self.header.data_len as usize)?;
        if let Some(memfd) = record.take_last() {
            data::close(memfd);
        }
        let (_, fds) = record.split();
        room.put(Incoming {
            fds: Descriptors::from(fds),
            data: &data,
            tag: self.header.tag,
            sender: self.sender,
            path: self.path,
        });
        Ok(())
    }
}

impl Gate {
    pub(crate) fn new(sig: i32, uids: &[u32]) -> Self {
        Gate {
            sig,
            users: Users {
                own: sys::own_users(),
                more: uids.to_vec(),
                overflow: overflow_user(),
                all_have_numbers: all_have_numbers().unwrap_or(false),
            },
            known: 0,
            dropped: 0,
        }
    }

    /// How many records were not let in.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Asks again who this process is, if the answer is old at the time `now`.
    #[inline]
    pub(crate) fn refresh(&mut self, now: u64) {
        if now.wrapping_sub(self.known) > FRESH {
            self.known = now;
            self.users.refresh();
        }
    }

    /// Whether messages of this user are accepted.
    #[inline]
    pub(crate) fn admits(&mut self, uid: u32) -> bool {
        self.users.admit(uid) || self.now_admits(uid)
    }

    /// Looks again before somebody is refused: this process may have changed its user.
    #[cold]
    fn now_admits(&mut self, uid: u32) -> bool {
        self.users.refresh();
        self.users.admit(uid)
    }

    /// Counts what was not let in.
    #[cold]
    pub(crate) fn refuse(&mut self) {
        self.dropped += 1;
    }

    /// Whether a record is a message for us. What comes with one that is not is for the caller to
    /// close.
    #[inline]
    pub(crate) fn judge(&mut self, record: &Record, path: Path) -> Verdict {
        let Some(sender) = record.credentials() else {
            // Every record bears them.
            return Verdict::End;
        };
        match Header::parse(record.bytes()) {
            Some(header)
                if header.sig == self.sig
                    && header.descriptors() == record.fd_count()
                    && record.is_whole()
                    && self.admits(sender.uid)
                    && (!header.sealed || comes_with_data(record, &header)) =>
            {
                Verdict::Good(Accepted {
                    header,
                    sender,
                    path,
                })
            }
            _ => {
                self.refuse();
                Verdict::Dropped
            }
        }
    }
}

/// How many descriptors a record says it comes with, also if not all of them found room.
pub(crate) fn descriptors_of(record: &Record) -> Option<usize> {
    Header::parse(record.bytes()).map(|header| header.descriptors())
}

/// Says what a message needs that did not fit.
pub(crate) fn needs_of(record: &Record) -> Cause {
    let header = Header::parse(record.bytes());
    let (fds, data) = header.map_or((0, 0), |header| {
        (header.nfds.into(), header.data_len as usize)
    });
    Cause::RoomTooSmall { fds, data }
}

#[cold]
fn comes_with_data(record: &Record, header: &Header) -> bool {
    let memfd = record.last();
    memfd.is_some_and(|memfd| data::is_believable(memfd, header.data_len as usize))
}

/// Whose messages are accepted: those of the users that may signal this process.
#[derive(Debug)]
struct Users {
    /// The real and the saved user of this process.
    own: [u32; 2],
    more: Vec<u32>,
    /// The number by which the kernel names every user that has none in this user namespace. It is
    /// nobody in particular, and not admitted unless all have numbers.
    overflow: u32,
    all_have_numbers: bool,
}

impl Users {
    /// A process that has gone to a user namespace of its own is another user, or all others are.
    fn refresh(&mut self) {
        self.own = sys::own_users();
        // Only then does it matter, and it is read from a file, which the process may have left behind.
        if self.own.contains(&self.overflow) || self.more.contains(&self.overflow) {
            self.all_have_numbers = all_have_numbers().unwrap_or(self.all_have_numbers);
        }
    }

    #[inline]
    fn admit(&self, uid: u32) -> bool {
        uid == 0
            || ((self.own.contains(&uid) || self.more.contains(&uid))
                && (uid != self.overflow || self.all_have_numbers))
    }
}

/// Whether every user has a number in this user namespace. `None` if the kernel does not say. Allocates
/// nothing.
///
/// # References
/// - [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html), "Unmapped
///   user and group IDs"
fn all_have_numbers() -> Option<bool> {
    let mut buffer = [0; 1024];
    let map = read_file("/proc/self/uid_map", &mut buffer).ok()?;
    Some(maps_everybody(map))
}

fn overflow_user() -> u32 {
    let number = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    number.map_or(OVERFLOW, |text| text.trim().parse().unwrap_or(OVERFLOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_number_here_is_not_let_in() {
        let mut users = Users {
            own: [65_534, 65_534],
            more: vec![7],
            overflow: 65_534,
            all_have_numbers: false,
        };
        assert!(!users.admit(65_534));
        assert!(users.admit(0) && users.admit(7) && !users.admit(8));
        users.all_have_numbers = true;
        assert!(users.admit(65_534));
    }
}
