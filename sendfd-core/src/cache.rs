//! Targets that `send` has used, so that sending to the same process again need not look for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use crate::outgoing::Key;
use crate::sys::PerProcess;
use crate::target::Target;

/// Each costs this process one descriptor, so a few: programs with more targets hold their own.
const CAPACITY: usize = 16;

/// How often in a row a target may be found to have lost its descriptor before it is given up. A thread
/// with a table of its own (unshare(2) with CLONE_FILES) finds that of all the targets that another
/// thread has opened since; they are none of its business.
const PATIENCE: u32 = 16;

struct Entry {
    key: Key,
    target: Arc<Target>,
    lost: AtomicU32,
}

/// In the order of their use, the latest last.
type Targets = Mutex<Vec<Entry>>;

/// A child starts with none: the same pid may be another process in its pid namespace.
static TARGETS: PerProcess<Targets> = PerProcess::new();

fn targets() -> &'static Targets {
    TARGETS.get(|inherited| {
        // Unless a thread that this process does not have was just changing them.
        if let Ok(mut inherited) = inherited.try_lock() {
            inherited.clear();
        }
    })
}

/// The target of `key`, if there is one whose descriptor still is its own: the program may have closed
/// all descriptors it did not know, as daemons do.
pub(crate) fn get(key: Key) -> Option<Arc<Target>> {
    let mut targets = lock(targets());
    let at = targets.iter().rposition(|entry| entry.key == key)?;
    let entry = &targets[at];
    if !entry.target.is_intact() {
        let lost = entry.lost.fetch_add(1, Ordering::Relaxed) + 1;
        let given_up = (lost >= PATIENCE).then(|| targets.remove(at));
        drop(targets);
        drop(given_up);
        return None;
    }
    entry.lost.store(0, Ordering::Relaxed);
    let found = Arc::clone(&entry.target);
    // Already the latest where one target is used over and over.
    targets[at..].rotate_left(1);
    Some(found)
}

pub(crate) fn put(key: Key, target: Arc<Target>) {
    let mut targets = lock(targets());
    if targets.iter().any(|entry| entry.key == key) {
        // Another thread's, or another table's.
        return;
    }
    let oldest = (targets.len() >= CAPACITY).then(|| targets.remove(0));
    targets.push(Entry {
        key,
        target,
        lost: AtomicU32::new(0),
    });
    drop(targets);
    // Closing is not for others to wait for.
    drop(oldest);
}

pub(crate) fn forget(key: Key) {
    let mut targets = lock(targets());
    let at = targets.iter().position(|entry| entry.key == key);
    let forgotten = at.map(|at| targets.remove(at));
    drop(targets);
    drop(forgotten);
}
