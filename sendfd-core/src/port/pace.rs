//! How densely messages come, and what follows from that for the order of system calls.

/// What recent calls found.
///
/// If each message has to be waited for, trying the socket before every wait wastes a system call. If
/// messages queue up, waiting before every try wastes one, and receiving them one by one wastes several.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// How many tries in a row found nothing, and how many calls since did not try.
    misses: u32,
    /// How many records in a row were there without waiting.
    hits: u32,
    /// Whether the last wait was ended by the source that was current before.
    steady: bool,
}

/// After so many tries that found nothing, the next calls wait first.
const SLOW: u32 = 4;

/// After so many of those, one tries again.
const RETRY: u32 = SLOW + 16;

/// After so many records without waiting, several are taken at once.
pub(crate) const DENSE: u32 = 8;

impl Pace {
    /// Whether to wait before trying. To be asked once for each call.
    #[inline]
    pub(crate) fn is_slow(&mut self) -> bool {
        if self.misses < SLOW {
            return false;
        }
        let slow = self.misses < RETRY;
        self.misses = if slow { self.misses + 1 } else { SLOW - 1 };
        slow
    }

    /// Notes whether trying without having waited found something.
    #[inline]
    pub(crate) fn tried(&mut self, found: bool) {
        self.misses = if found {
            0
        } else {
            (self.misses + 1).min(SLOW)
        };
    }

    /// Whether messages queue up.
    #[inline]
    pub(crate) fn is_dense(&self) -> bool {
        self.hits >= DENSE
    }

    /// Notes how many records a source had, of so many that were `wanted`.
    #[inline]
    pub(crate) fn took(&mut self, count: usize, wanted: usize) {
        self.hits = if count < wanted {
            0
        } else {
            self.hits.saturating_add(count as u32)
        };
    }

    /// Whether, after a wait, the current source is worth trying before epoll is asked for another.
    #[inline]
    pub(crate) fn is_steady(&self) -> bool {
        self.steady
    }

    /// Notes whether it was the current source that ended a wait.
    #[inline]
    pub(crate) fn woke(&mut self, by_current: bool) {
        self.steady = by_current;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_first_after_some_misses_and_tries_again_now_and_then() {
        let mut pace = Pace::default();
        for _ in 0..SLOW {
            assert!(!pace.is_slow());
            pace.tried(false);
        }
        for _ in 0..3 {
            let waited = (0..100).take_while(|_| pace.is_slow()).count();
            assert_eq!(waited as u32, RETRY - SLOW);
            pace.tried(false);
        }
        let _ = (0..100).take_while(|_| pace.is_slow()).count();
        pace.tried(true);
        assert!(!pace.is_slow());
    }

    #[test]
    fn is_dense_until_a_source_has_less_than_was_wanted() {
        let mut pace = Pace::default();
        for _ in 0..DENSE {
            assert!(!pace.is_dense());
            pace.took(1, 1);
        }
        assert!(pace.is_dense());
        pace.took(8, 8);
        assert!(pace.is_dense());
        pace.took(7, 8);
        assert!(!pace.is_dense());
    }
}
