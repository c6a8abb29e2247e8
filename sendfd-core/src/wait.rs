//! How long an operation may block, and the clock that measures it.

use std::time::{Duration, Instant};

use rustix::event::Timespec;

/// How long an operation may wait: for a target that is still booting, for room in its queue, for
/// a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Do not wait: what cannot be done at once fails with `EAGAIN` (or `ECONNREFUSED`).
    #[default]
    Never,
    /// Wait so long at most, then fail with `ETIMEDOUT`.
    For(Duration),
    /// Wait without limit.
    Forever,
}

/// For what a send may wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitFor {
    /// For a target that does not listen yet, for room in its queue, and for descriptors in flight.
    #[default]
    Listening,
    /// For room and for descriptors in flight, but not for a target that does not listen: it fails
    /// with `ECONNREFUSED` at once.
    Room,
}

impl Wait {
    /// As C says it: 0 never waits, a negative number waits for ever.
    #[must_use]
    pub fn from_millis(millis: i32) -> Self {
        match u64::try_from(millis) {
            Ok(0) => Wait::Never,
            Ok(millis) => Wait::For(Duration::from_millis(millis)),
            Err(_) => Wait::Forever,
        }
    }
}

/// The moment at which a [`Wait`] ends. The clock is read only where there is something to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    /// The caller allowed no waiting.
    Past,
    At(Instant),
    Never,
}

impl Deadline {
    #[inline]
    pub(crate) fn after(wait: Wait) -> Self {
        match wait {
            Wait::Never => Deadline::Past,
            // A time that the clock cannot count to is no limit.
            Wait::For(time) => Instant::now()
                .checked_add(time)
                .map_or(Deadline::Never, Deadline::At),
            Wait::Forever => Deadline::Never,
        }
    }

    /// Whether the caller allowed waiting at all, which decides between EAGAIN and ETIMEDOUT.
    #[inline]
    pub(crate) fn waits(self) -> bool {
        !matches!(self, Deadline::Past)
    }

    /// How much is left: `None` where nothing is.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Deadline::Past => None,
            Deadline::At(moment) => moment
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero()),
            Deadline::Never => Some(Duration::MAX),
        }
    }
}

/// As the kernel takes it. `None`, for what is too long to be written so, means no limit.
pub(crate) fn timespec(time: Duration) -> Option<Timespec> {
    Timespec::try_from(time).ok()
}
