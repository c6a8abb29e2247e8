//! What is let in: whole records, of users that may signal this process, while its descriptor table
//! has room for what they carry.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::credentials::Credentials;
use crate::error::Cause;
use crate::limits::MAX_FDS;
use crate::message::{Descriptors, Incoming, Room};
use crate::path::Path;
use crate::sys::{self, Record};
use crate::wire::{HEADER_LEN, Header};

#[derive(Debug)]
pub(crate) struct Gate {
    sig: i32,
    users: Users,
    table: Table,
    /// When these two were last known to be right.
    known: u64,
    dropped: u64,
}

/// For how long, in nanoseconds, the limit of the table and the user of this process are taken for
/// what they were. No process fills the part of its table that is left as a margin in so short a
/// time, and asking so often costs a steady stream half a percent.
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
        let (fds, data) = (record.fd_count(), self.header.data_len as usize);
        if fds > max_fds || data > max_data {
            room.needs(fds, data);
            return Err(Cause::RoomTooSmall { fds, data });
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
}

impl Gate {
    pub(crate) fn new(sig: i32, uids: &[u32]) -> Self {
        Gate {
            sig,
            users: Users {
                own: sys::own_users(),
                more: uids.to_vec(),
            },
            table: Table {
                lowest: 0,
                limit: limit(),
            },
            known: 0,
            dropped: 0,
        }
    }

    /// RLIMIT_NOFILE.
    pub(crate) fn limit(&self) -> u64 {
        self.table.limit
    }

    /// How many records were not let in.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Looks again, with the help of `any` open descriptor, at what may have changed since.
    #[inline]
    pub(crate) fn refresh(&mut self, any: BorrowedFd<'_>) {
        let now = sys::nanoseconds();
        if now.wrapping_sub(self.known) > FRESH {
            self.known = now;
            self.ask_again(any);
        }
    }

    #[cold]
    fn ask_again(&mut self, any: BorrowedFd<'_>) {
        self.table = Table::now(any);
        self.users.own = sys::own_users();
    }

    /// Learns from the last record received how full the table is.
    #[inline]
    pub(crate) fn saw(&mut self, record: &Record) {
        if let Some(number) = record.last_fd() {
            self.table.lowest = number as u64;
        }
    }

    /// How many records the table has room for, whatever they carry.
    #[inline]
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.table.headroom() / MAX_FDS as u64).unwrap_or(usize::MAX)
    }

    /// Whether messages of this user are accepted.
    #[inline]
    pub(crate) fn admits(&mut self, uid: u32) -> bool {
        self.users.admit(uid) || self.now_admits(uid)
    }

    /// Before somebody is refused: this process may be another user's by now.
    #[cold]
    fn now_admits(&mut self, uid: u32) -> bool {
        self.users.own = sys::own_users();
        self.users.admit(uid)
    }

    /// Counts what was not let in.
    #[cold]
    pub(crate) fn refuse(&mut self) {
        self.dropped += 1;
    }

    /// Whether a record is a message for us. The descriptors of one that is not are closed.
    #[inline]
    pub(crate) fn judge(&mut self, record: &mut Record, path: Path) -> Verdict {
        let Some(sender) = record.credentials() else {
            // Every record bears them.
            return Verdict::End;
        };
        match Header::parse(record.bytes()) {
            Some(header)
                if header.sig == self.sig
                    && usize::from(header.nfds) == record.fd_count()
                    && record.is_whole()
                    && self.admits(sender.uid) =>
            {
                Verdict::Good(Accepted {
                    header,
                    sender,
                    path,
                })
            }
            _ => {
                record.close_fds();
                self.refuse();
                Verdict::Dropped
            }
        }
    }
}

/// Whose messages are accepted: those of the users that may signal this process.
#[derive(Debug)]
struct Users {
    /// The real and the saved user of this process.
    own: [u32; 2],
    more: Vec<u32>,
}

impl Users {
    #[inline]
    fn admit(&self, uid: u32) -> bool {
        uid == 0 || self.own.contains(&uid) || self.more.contains(&uid)
    }
}

/// How full this process's descriptor table is. Numbers are given out lowest first, so that the
/// number of the last descriptor received says it, for as long as messages come one after another.
#[derive(Debug)]
struct Table {
    lowest: u64,
    limit: u64,
}

impl Table {
    fn now(any: BorrowedFd<'_>) -> Self {
        let limit = limit();
        // The lowest free number, found by taking it.
        let free = rustix::io::fcntl_dupfd_cloexec(any, 0);
        let lowest = free.map_or(limit, |free| free.as_raw_fd() as u64);
        Table { lowest, limit }
    }

    /// How many descriptors can safely be taken, leaving room for what the rest of the process
    /// opens at the same time.
    #[inline]
    fn headroom(&self) -> u64 {
        let margin = (self.limit / 4).clamp(64, 4096);
        self.limit
            .saturating_sub(self.lowest)
            .saturating_sub(margin)
    }
}

fn limit() -> u64 {
    sys::descriptor_limit(0).map_or(u64::MAX, |limit| limit as u64)
}
