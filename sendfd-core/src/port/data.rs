//! Data above 4096 bytes, which comes in a memfd.
//!
//! A sender can put any file there. It is read only if the kernel proves that it is a file of tmpfs, as long
//! as the header says, whose content and size nobody can change any more: reading that waits for nobody,
//! and nothing changes while it is read. A file of FUSE, a pipe, or one of hugetlbfs is refused.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat, fstatfs};
use rustix::io::{Errno, pread};

use super::closer;

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// What has to be sealed. Against growing, too: a file that grows takes long to close.
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);

/// How much memory is freed at once by whoever receives, in bytes: 1 MiB of data in the largest pages
/// of usual machines.
const QUICK: u64 = 4 << 20;

/// Whether `fd` is a file of `len` bytes that can be read and does not change.
pub(crate) fn is_believable(fd: BorrowedFd<'_>, len: usize) -> bool {
    // The seals first: only files in memory have any. Of others nothing more is asked, for a file system in
    // user space could keep the answer back.
    fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SEALS))
        && fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == TMPFS_MAGIC)
        && fcntl_getfl(fd).is_ok_and(|flags| {
            !flags.contains(OFlags::PATH) && flags & OFlags::RWMODE != OFlags::WRONLY
        })
        && fstat(fd).is_ok_and(|stat| stat.st_size as u64 == len as u64)
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

/// Closes what was read. Memory beyond the end of the file, which its size does not show, is freed where
/// nobody waits for it.
pub(crate) fn close(memfd: OwnedFd) {
    if is_quickly_freed(memfd.as_fd()) {
        return;
    }
    closer::hand_over(vec![memfd]);
}

fn is_quickly_freed(memfd: BorrowedFd<'_>) -> bool {
    fstat(memfd).is_ok_and(|stat| stat.st_blocks as u64 * 512 <= QUICK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{
        FallocateFlags, MemfdFlags, Mode, fallocate, fcntl_add_seals, memfd_create, open,
    };
    use std::os::fd::AsRawFd;

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
    fn what_is_sealed_and_as_long_as_is_said_is_read() {
        let memfd = memfd(SEALS);
        assert!(is_believable(memfd.as_fd(), LEN));
        assert!(!is_believable(memfd.as_fd(), LEN + 1));
        assert!(!is_believable(memfd.as_fd(), LEN - 1));
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
            SealFlags::WRITE | SealFlags::SHRINK,
            SealFlags::WRITE | SealFlags::GROW,
            SealFlags::SHRINK | SealFlags::GROW,
            SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE,
        ] {
            assert!(!is_believable(memfd(seals).as_fd(), LEN), "{seals:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_no_memory_is_not() {
        let sealed = memfd(SEALS);
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
        fcntl_add_seals(&memfd, SEALS).expect("sealed");
        assert!(!is_believable(writes.as_fd(), LEN));
    }

    #[test]
    fn memory_beyond_the_end_of_a_file_is_seen() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create(c"data", flags).expect("a memfd");
        rustix::io::write(&memfd, &[1; LEN]).expect("written");
        assert!(is_quickly_freed(memfd.as_fd()));
        let beyond = fallocate(&memfd, FallocateFlags::KEEP_SIZE, 0, 2 * QUICK);
        beyond.expect("allocated");
        fcntl_add_seals(&memfd, SEALS).expect("sealed");
        assert!(is_believable(memfd.as_fd(), LEN));
        assert!(!is_quickly_freed(memfd.as_fd()));
    }

    #[test]
    fn huge_pages_are_none() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
        // Not every kernel has them.
        let Ok(memfd) = memfd_create(c"data", flags) else {
            return;
        };
        let len = fstat(&memfd).expect("stat").st_blksize as usize;
        rustix::fs::ftruncate(&memfd, len as u64).expect("long enough");
        fcntl_add_seals(&memfd, SEALS).expect("sealed");
        assert!(!is_believable(memfd.as_fd(), len));
    }
}
