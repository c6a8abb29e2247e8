//! The marker of an inbox: a memfd whose *name* says where the sending end is, so that a sender
//! finds it by reading links in /proc/PID/fd.
//!
//! First contact has to stay cheap when the target has thousands of descriptors open, so the marker
//! takes one of a few numbers that a sender tries before it looks at all of them.

use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use arrayvec::ArrayString;
use rustix::fs::{MemfdFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::process::Process;
use crate::{signal, sys};

/// Where the sending end of an inbox is, in the target's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) sig: i32,
    /// Not a descriptor of this process: a number in the target's table.
    pub(crate) tx: RawFd,
    /// The inode of `tx`, which tells it from whatever else may have the number by now.
    pub(crate) inode: u64,
}

/// Why there is no marker to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The whole table was read and holds none.
    Absent,
    /// There is one, of a later version of this library.
    LaterVersion,
    /// The table may not be read, or there is no /proc.
    Unreadable(Errno),
}

/// Sizes to which the kernel lets a descriptor table grow: a marker just below one of them makes it grow
/// no further than to that size.
const TABLE_SIZES: [RawFd; 6] = [256, 1024, 4096, 16_384, 65_536, 262_144];

/// The numbers to try, in this order. The last one is just below `limit`, which is only asked for when
/// the others are taken: a table full to near its limit is rare.
fn places(sig: i32, limit: impl FnOnce() -> Option<RawFd>) -> impl Iterator<Item = RawFd> {
    let last = std::iter::once_with(limit).flatten();
    let sizes = TABLE_SIZES.into_iter().chain(last);
    sizes.map(move |size| size - 1 - (sig - signal::KERNEL_RTMIN))
}

/// Makes the marker for `tx` and puts it where senders look first.
pub(crate) fn create(sig: i32, tx: &OwnedFd) -> Result<OwnedFd, Errno> {
    let inode = rustix::fs::fstat(tx)?.st_ino;
    let mut name = ArrayString::<64>::new();
    let _ = write!(name, "sendfd:1:{sig}:{}:{inode}", tx.as_raw_fd());
    let memfd = sys::memfd(name.as_str(), MemfdFlags::empty())?;
    for place in places(sig, || sys::descriptor_limit(0)) {
        match rustix::io::fcntl_dupfd_cloexec(&memfd, place) {
            Ok(placed) if placed.as_raw_fd() == place => return Ok(placed),
            // Taken. The number that was given instead is no better than the one there is.
            Ok(_) => {}
            // Above the limit.
            Err(_) => {}
        }
    }
    Ok(memfd)
}

/// Looks for a marker of `sig` that `accept` agrees to: in the likely places first.
///
/// What a marker says is a hint. A process may hold a file of that name that somebody handed to it,
/// so `accept` has to check what it finds there, and the search goes on when it says no.
pub(crate) fn find<T>(
    process: &Process,
    sig: i32,
    mut accept: impl FnMut(Marker) -> Option<T>,
) -> Result<T, Missing> {
    // ENOENT where /proc is that of another pid namespace and does not show the process.
    let number = process.in_proc().map_err(Missing::Unreadable)?;
    let mut path = ArrayString::<32>::new();
    let _ = write!(path, "/proc/{number}/fd");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let table =
        rustix::fs::open(path.as_str(), flags, Mode::empty()).map_err(Missing::Unreadable)?;

    let mut later = false;
    let mut tried = 0;
    let mut take = |number: &std::ffi::CStr| -> Result<Option<T>, Errno> {
        match read(table.as_fd(), number) {
            Ok(Link::Marker(marker)) if marker.sig == sig && tried < MAX_TRIED => {
                tried += 1;
                Ok(accept(marker))
            }
            Ok(Link::Later(of)) => {
                later |= of == sig;
                Ok(None)
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    };

    for place in places(sig, || sys::descriptor_limit(process.pid())) {
        let mut number = ArrayString::<12>::new();
        let _ = write!(number, "{place}\0");
        let number = std::ffi::CStr::from_bytes_with_nul(number.as_bytes()).unwrap_or(c"");
        if let Some(found) = take(number).map_err(Missing::Unreadable)? {
            return Ok(found);
        }
    }
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&table, &mut buffer);
    let mut seen = 0;
    while let Some(entry) = entries.next() {
        seen += 1;
        if seen > MAX_SEEN {
            break;
        }
        let entry = entry.map_err(Missing::Unreadable)?;
        if entry.file_name().to_bytes().starts_with(b".") {
            continue;
        }
        if let Some(found) = take(entry.file_name()).map_err(Missing::Unreadable)? {
            return Ok(found);
        }
    }
    Err(if later {
        Missing::LaterVersion
    } else {
        Missing::Absent
    })
}

/// How many numbers are looked at: a hostile process may have a million open to keep its senders busy. (An
/// honest one that has so many has its marker at one of the places that are tried first.)
const MAX_SEEN: usize = 100_000;

/// How many markers of a signal are followed. A process makes one; more were handed to it by others.
const MAX_TRIED: usize = 16;

/// What a link in /proc/PID/fd says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Marker(Marker),
    /// A marker of a later version, for this signal.
    Later(i32),
    Other,
}

fn read(table: BorrowedFd<'_>, number: &std::ffi::CStr) -> Result<Link, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 128];
    let (link, _) = rustix::fs::readlinkat_raw(table, number, &mut buffer)?;
    Ok(parse(link).unwrap_or(Link::Other))
}

fn parse(link: &[u8]) -> Option<Link> {
    let name = std::str::from_utf8(link)
        .ok()?
        .strip_prefix("/memfd:sendfd:")?;
    let mut words = name.strip_suffix(" (deleted)")?.split(':');
    let version: u32 = words.next()?.parse().ok()?;
    let sig = words.next()?.parse().ok()?;
    if version > 1 {
        return Some(Link::Later(sig));
    }
    let marker = Marker {
        sig,
        tx: words.next()?.parse().ok().filter(|number| *number >= 0)?,
        inode: words.next()?.parse().ok()?,
    };
    (version == 1 && words.next().is_none()).then_some(Link::Marker(marker))
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(link: &[u8]) {
    if let Some(Link::Marker(marker)) = parse(link) {
        assert!(marker.tx >= 0, "{marker:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_through_proc() {
        let tx = crate::address::socket(rustix::net::SocketFlags::empty()).expect("a socket");
        let inode = rustix::fs::fstat(&tx).expect("stat").st_ino;
        let _marker = create(60, &tx).expect("a marker");
        let own = Process::open(crate::process::own_pid()).expect("this process");
        let found = find(&own, 60, Some).expect("found");
        assert_eq!(
            (found.sig, found.tx, found.inode),
            (60, tx.as_raw_fd(), inode)
        );
        assert_eq!(find(&own, 61, Some), Err(Missing::Absent));
    }

    #[test]
    fn other_links_are_no_markers() {
        for link in [
            "/memfd:sendfd:1:40:7 (deleted)",
            "/memfd:sendfd:1:40:-7:3 (deleted)",
            "/memfd:sendfd:1:40:7:3:4 (deleted)",
            "/memfd:sendfd:0:40:7:3 (deleted)",
            "/tmp/memfd:sendfd:1:40:7:3 (deleted)",
            "socket:[40]",
        ] {
            assert_eq!(parse(link.as_bytes()), None, "{link}");
        }
    }

    #[test]
    fn a_later_version_is_seen() {
        let link = b"/memfd:sendfd:2:40:whatever comes (deleted)";
        assert_eq!(parse(link), Some(Link::Later(40)));
    }

    #[test]
    fn each_signal_has_places_of_its_own() {
        let all = |sig| places(sig, || Some(20_000));
        let mut all: Vec<_> = (32..=64).flat_map(all).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 33 * (TABLE_SIZES.len() + 1));
    }
}
