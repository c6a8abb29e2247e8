//! The kernel's own call, pidfd_sendfd(2): whether this kernel has it, and its number there.

use std::sync::atomic::{AtomicI64, Ordering};

use rustix::io::Errno;

use crate::process::read_file;

const UNKNOWN: i64 = -1;
const ABSENT: i64 = -2;
static NUMBER: AtomicI64 = AtomicI64::new(UNKNOWN);

/// The number that this kernel gave to the call. Never guessed: another kernel may have another
/// call there.
pub(crate) fn number() -> Option<i64> {
    match NUMBER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let answer = advertised();
            // That the file cannot be opened at this moment says nothing about the kernel.
            if let Ok(number) = answer {
                NUMBER.store(number.unwrap_or(ABSENT), Ordering::Relaxed);
            }
            answer.ok().flatten()
        }
        ABSENT => None,
        number => Some(number),
    }
}

/// The call was answered ENOSYS: whatever was advertised, it is not there.
pub(crate) fn is_absent() {
    NUMBER.store(ABSENT, Ordering::Relaxed);
}

fn advertised() -> Result<Option<i64>, Errno> {
    let path = "/proc/sys/kernel/pidfd_sendfd_nr";
    match rustix::fs::access(path, rustix::fs::Access::EXISTS) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let mut buffer = [0; 16];
    let text = read_file(path, &mut buffer)?;
    let number = std::str::from_utf8(text).ok();
    Ok(number
        .and_then(|number| number.trim().parse().ok())
        .filter(|number| *number >= 0))
}
