//! fork(2): a child inherits copies of its parent's inboxes, which would keep a dead parent's
//! queues alive and let the child take what was sent to the parent. So the child closes them.
//!
//! The inboxes of a process stand in one static table, a place for each signal, so that fork can
//! hold all of them still while it copies the process.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, Once};

use crate::error::Cause;
use crate::lock::lock;
use crate::receiver::State;
use crate::{signal, sys};

/// A place for an inbox: `None` while this process does not listen on the signal.
pub(crate) type Place = Mutex<Option<State>>;

static PLACES: [Place; signal::COUNT] = [const { Mutex::new(None) }; signal::COUNT];

/// The place of a checked signal.
#[inline]
pub(crate) fn place(sig: i32) -> &'static Place {
    &PLACES[signal::index(sig)]
}

/// Has the handlers below called. Needed once there is something that a child must not keep.
pub(crate) fn prepare_for_it() -> Result<(), Cause> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = sys::at_fork(before, after_in_parent, after_in_child));
    Ok(result?)
}

struct Held {
    places: Vec<MutexGuard<'static, Option<State>>>,
}

thread_local! {
    /// What the forking thread holds from before the fork until after it. The child is a copy of
    /// that thread and holds it too.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

extern "C" fn before() {
    let held = Held {
        places: PLACES.iter().map(lock).collect(),
    };
    HELD.with(|cell| *cell.borrow_mut() = Some(held));
}

extern "C" fn after_in_parent() {
    HELD.with(|cell| *cell.borrow_mut() = None);
}

extern "C" fn after_in_child() {
    let held = HELD.with(|cell| cell.borrow_mut().take());
    for mut place in held.into_iter().flat_map(|held| held.places) {
        if let Some(state) = place.take() {
            state.disown();
        }
    }
}
