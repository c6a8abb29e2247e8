//! Locking a mutex whose contents stay whole whatever happens to its holder.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also after a thread panicked while it held it: what this library keeps behind a
/// mutex is changed by single assignments, so that such a thread left it whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
