//! Data above 4096 bytes, which comes in a memfd.
//!
//! Whoever may send may send any file and call it data. What is believed is what the kernel proves: a
//! file of tmpfs that nobody can write to or shorten any more, which is long enough. Reading that
//! never waits for anybody, and nothing changes while it is read. A file of FUSE, a pipe, or hugetlbfs
//! is none.

use std::os::fd::BorrowedFd;

use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat, fstatfs};
use rustix::io::{Errno, pread};

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Whether `fd` is a file that `len` bytes can be read from.
pub(crate) fn is_believable(fd: BorrowedFd<'_>, len: usize) -> bool {
    // First of all: seals are a property of memory alone. Other files are not even asked further,
    // where a file system in user space could keep the answer back.
    let sealed =
        fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::SHRINK));
    sealed
        && fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == TMPFS_MAGIC)
        && fcntl_getfl(fd).is_ok_and(|flags| {
            !flags.contains(OFlags::PATH) && flags & OFlags::RWMODE != OFlags::WRONLY
        })
        && fstat(fd).is_ok_and(|stat| stat.st_size as u64 >= len as u64)
}

/// Reads the first `len` bytes of a file that was found believable.
pub(crate) fn read(fd: BorrowedFd<'_>, len: usize) -> Result<Vec<u8>, Errno> {
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|_| Errno::NOMEM)?;
    data.resize(len, 0);
    let mut done = 0;
    while done < len {
        match pread(fd, &mut data[done..], done as u64) {
            // Cannot be, for a file that cannot shrink.
            Ok(0) => return Err(Errno::IO),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, Mode, fcntl_add_seals, memfd_create, open};
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};

    const LEN: usize = 10_000;

    fn memfd(seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create(c"data", flags).expect("a memfd");
        let bytes: Vec<u8> = (0..LEN).map(|nth| nth as u8).collect();
        rustix::io::write(&memfd, &bytes).expect("written");
        fcntl_add_seals(&memfd, seals).expect("sealed");
        memfd
    }

    #[test]
    fn what_is_sealed_and_long_enough_is_read() {
        let memfd = memfd(SealFlags::WRITE | SealFlags::SHRINK);
        assert!(is_believable(memfd.as_fd(), LEN));
        assert!(!is_believable(memfd.as_fd(), LEN + 1));
        let data = read(memfd.as_fd(), LEN).expect("read");
        assert_eq!(data.len(), LEN);
        assert!(
            data.iter()
                .enumerate()
                .all(|(nth, byte)| *byte == nth as u8)
        );
    }

    #[test]
    fn what_could_change_or_be_taken_away_is_not() {
        for seals in [
            SealFlags::empty(),
            SealFlags::WRITE,
            SealFlags::SHRINK,
            SealFlags::SHRINK | SealFlags::GROW,
            SealFlags::SHRINK | SealFlags::FUTURE_WRITE,
        ] {
            assert!(!is_believable(memfd(seals).as_fd(), LEN), "{seals:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_no_memory_is_not() {
        let sealed = memfd(SealFlags::WRITE | SealFlags::SHRINK);
        let path = format!("/proc/self/fd/{}", sealed.as_raw_fd());
        let only_named = open(path.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        assert!(!is_believable(only_named.expect("opened").as_fd(), LEN));
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        assert!(!is_believable(reader.as_fd(), LEN));
        let file = std::fs::File::open("/proc/self/exe").expect("a file");
        assert!(!is_believable(file.as_fd(), LEN));
    }

    #[test]
    fn a_description_that_only_writes_is_not() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create(c"data", flags).expect("a memfd");
        rustix::fs::ftruncate(&memfd, LEN as u64).expect("long enough");
        let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
        let writes = open(
            path.as_str(),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let writes = writes.expect("opened");
        fcntl_add_seals(&memfd, SealFlags::WRITE | SealFlags::SHRINK).expect("sealed");
        assert!(!is_believable(writes.as_fd(), LEN));
    }
}
