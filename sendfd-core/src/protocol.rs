//! For the command, which reads the queue of a worker that has died: what docs/protocol.md says of a
//! record and of the socket that it waits in. Not part of the interface of this crate, and may change with
//! each of its versions.

use std::os::fd::AsFd;

use crate::address::Address;
use crate::signal::Port;
use crate::wire::{HEADER_LEN, Header, INLINE_DATA};

/// How long a record is at most.
pub const MOST: usize = HEADER_LEN + INLINE_DATA;

/// The tag of a record that carries one descriptor. `None` if it is no such record.
#[must_use]
pub fn tag_of_one(record: &[u8]) -> Option<u64> {
    let header = Header::parse(record)?;
    (header.descriptors() == 1).then_some(header.tag)
}

/// Whether `socket` is what an inbox at `port` receives from, by its address.
pub fn is_receiving_end(socket: impl AsFd, port: Port) -> bool {
    Address::is_own_inbox(socket, port.signal())
}
