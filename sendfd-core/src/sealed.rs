//! Data above what a record has room for, in a memfd that nobody can write to or shorten any more.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals};
use rustix::io::{Errno, write};
use rustix::process::Resource;

use crate::error::Cause;
use crate::sys;

/// A memfd with `data` in it. The receiver believes what its seals prove.
///
/// It does not block and does not allocate. On an error, nothing is left open.
///
/// # References
/// - [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html), "File sealing"
pub(crate) fn seal(data: &[u8]) -> Result<OwnedFd, Cause> {
    // Beyond RLIMIT_FSIZE, writing raises SIGXFSZ, which kills a process that never thought of files.
    let limit = sys::soft_limit(Resource::Fsize).unwrap_or(u64::MAX);
    if data.len() as u64 > limit {
        return Err(Cause::AboveFileSize(data.len()));
    }
    let memfd = sys::memfd(c"sendfd-data", MemfdFlags::ALLOW_SEALING).map_err(refusal)?;
    let mut left = data;
    while !left.is_empty() {
        match write(&memfd, left) {
            // To a file in memory this says that there is no more of it.
            Ok(0) | Err(Errno::NOSPC) => return Err(Errno::NOMEM.into()),
            Ok(count) => left = &left[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&memfd, seals).map_err(refusal)?;
    Ok(memfd)
}

/// A filter, a sysctl or an old kernel can refuse to make such a file, with errnos that would otherwise be
/// taken for the target's answer.
fn refusal(errno: Errno) -> Cause {
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::INVAL => Cause::NoMemfd,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{fcntl_get_seals, fstat, ftruncate};
    use rustix::io::pread;

    #[test]
    fn what_is_sealed_is_there_and_cannot_change() {
        let data: Vec<u8> = (0..100_000_u32).map(|nth| nth as u8).collect();
        let memfd = seal(&data).expect("sealed");
        assert_eq!(fstat(&memfd).expect("open").st_size, 100_000);
        let mut read = vec![0; data.len()];
        assert_eq!(pread(&memfd, &mut read, 0), Ok(data.len()));
        assert_eq!(read, data);
        assert_eq!(write(&memfd, b"x"), Err(Errno::PERM));
        assert_eq!(ftruncate(&memfd, 1), Err(Errno::PERM));
        let seals = fcntl_get_seals(&memfd).expect("seals");
        assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK));
    }
}
