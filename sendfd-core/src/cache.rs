//! Targets that `send` has used, so that sending to the same process again is one system call.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::lock::lock as lock_mutex;
use crate::outgoing::Key;
use crate::target::Target;

/// Each costs this process one descriptor, so a few: programs with more targets hold their own.
const CAPACITY: usize = 16;

/// In the order of their use, the latest last.
type Targets = Vec<(Key, Arc<Target>)>;

pub(crate) type Guard = MutexGuard<'static, Targets>;

static TARGETS: Mutex<Targets> = Mutex::new(Vec::new());

pub(crate) fn lock() -> Guard {
    lock_mutex(&TARGETS)
}

pub(crate) fn get(key: Key) -> Option<Arc<Target>> {
    let mut targets = lock();
    let at = targets.iter().rposition(|(other, _)| *other == key)?;
    let found = Arc::clone(&targets[at].1);
    // Already the latest where one target is used over and over.
    targets[at..].rotate_left(1);
    Some(found)
}

pub(crate) fn put(key: Key, target: Arc<Target>) {
    let mut targets = lock();
    targets.retain(|(other, _)| *other != key);
    let oldest = (targets.len() >= CAPACITY).then(|| targets.remove(0));
    targets.push((key, target));
    drop(targets);
    // Closing is not for others to wait for.
    drop(oldest);
}

pub(crate) fn forget(key: Key) {
    lock().retain(|(other, _)| *other != key);
}
