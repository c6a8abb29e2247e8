//! How full this process's descriptor table is: the one rule for when it is tight.
//!
//! The kernel cuts a record short for good whose descriptors find no free numbers. So a record may
//! only be taken without looking at it first while it is certain that there are enough. The number of
//! the last descriptor says nothing (tables have holes), so what is open is counted. Other threads, other
//! receivers and prlimit(2) change the table at any time: the count is trusted for a fraction of a
//! millisecond, less what could have been opened in that time, less a margin; the limit is asked for each
//! time. That there is no such room is never wrong to believe, and so is believed for longer.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Resource;

use crate::limits::MAX_FDS;
use crate::sys;

/// What no process opens while a thread is between looking at the count and taking a record.
const MARGIN: u64 = 2048;

/// No process opens descriptors faster than one in so many nanoseconds.
const FASTEST: u64 = 50;

/// For how long a count is used at most, in nanoseconds. Counting costs about a microsecond.
const FRESH: u64 = 200_000;

/// For how long nothing is asked, in nanoseconds, once it was found that each record has to be looked at
/// first. That the table has grown meanwhile costs a system call for each record, and no record.
const LOOK: u64 = 1_000_000;

/// For how many of the highest numbers connections make room that are idle.
const RESERVE: u64 = 64;

/// The count, and when it was made: one for the process, whichever receiver made it.
static OPEN: AtomicU64 = AtomicU64::new(UNKNOWN);
static COUNTED: AtomicU64 = AtomicU64::new(0);
const UNKNOWN: u64 = u64::MAX;

/// Until when each record is looked at first.
static LOOK_UNTIL: AtomicU64 = AtomicU64::new(0);

/// How many records can be taken at the time `now` without looking at them first, whatever they carry. With
/// 0, each has to be looked at.
#[inline]
pub(crate) fn records_at(now: u64) -> usize {
    if now < LOOK_UNTIL.load(Ordering::Relaxed) {
        return 0;
    }
    let records = Table::at(now).records();
    if records == 0 {
        LOOK_UNTIL.store(now + LOOK, Ordering::Relaxed);
    }
    records
}

/// What is known of the table at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// RLIMIT_NOFILE.
    limit: u64,
    /// How many descriptors were open, if that can be counted here.
    open: Option<u64>,
    /// How many nanoseconds ago.
    age: u64,
}

impl Table {
    /// Where nothing is known: each record is looked at before it is taken.
    const UNSEEN: Table = Table {
        limit: u64::MAX,
        open: None,
        age: 0,
    };

    /// The state at the time `now`, counted if that can show room and the last count is old.
    #[inline]
    fn at(now: u64) -> Self {
        let Some(limit) = own_limit() else {
            return Table::UNSEEN;
        };
        if limit < MARGIN + MAX_FDS as u64 {
            return Table {
                limit,
                open: None,
                age: 0,
            };
        }
        let open = OPEN.load(Ordering::Relaxed);
        let age = now.saturating_sub(COUNTED.load(Ordering::Relaxed));
        let table = Table {
            limit,
            open: (open != UNKNOWN).then_some(open),
            age,
        };
        if age > FRESH || table.records() == 0 {
            table.recounted(now)
        } else {
            table
        }
    }

    /// The state now, which is counted in any case.
    pub(crate) fn counted_now() -> Self {
        match own_limit() {
            Some(limit) => Table {
                limit,
                ..Table::UNSEEN
            }
            .recounted(sys::nanoseconds()),
            None => Table::UNSEEN,
        }
    }

    #[cold]
    fn recounted(self, now: u64) -> Self {
        let open = sys::open_descriptors();
        OPEN.store(open.unwrap_or(UNKNOWN), Ordering::Relaxed);
        COUNTED.store(now, Ordering::Relaxed);
        Table {
            open,
            age: 0,
            ..self
        }
    }

    /// To be called for what was just received, which other receivers of the process do not know of.
    #[inline]
    pub(crate) fn received(count: usize) {
        if OPEN.load(Ordering::Relaxed) != UNKNOWN {
            OPEN.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    #[inline]
    fn records(&self) -> usize {
        let Some(open) = self.open else {
            return 0;
        };
        let sure = self
            .limit
            .saturating_sub(open)
            .saturating_sub(self.age / FASTEST)
            .saturating_sub(MARGIN);
        usize::try_from(sure / MAX_FDS as u64).unwrap_or(usize::MAX)
    }

    /// Whether connections that are idle should make room for what messages carry. `number` is a
    /// descriptor just given out, the lowest that was free: where nothing is counted, as many as that
    /// are open at least.
    pub(crate) fn is_tight(&self, number: u64) -> bool {
        let reserve = (self.limit / 8).min(RESERVE);
        self.open.unwrap_or(number + 1) + reserve > self.limit
    }

    /// Whether there is one free number, or none, as far as that is counted.
    pub(crate) fn has_one_left(&self) -> bool {
        self.open.is_some_and(|open| open + 1 >= self.limit)
    }

    /// Whether a message of `count` descriptors can be held at all, beside the `own` ones of the
    /// receiver, however much the process closes.
    pub(crate) fn can_ever_hold(&self, count: usize, own: usize) -> bool {
        (count + own) as u64 <= self.limit
    }
}

/// RLIMIT_NOFILE, which another process may change at any time.
#[inline]
fn own_limit() -> Option<u64> {
    sys::soft_limit(Resource::Nofile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(limit: u64, open: Option<u64>, age: u64) -> Table {
        Table { limit, open, age }
    }

    #[test]
    fn nothing_is_taken_unseen_without_a_count_or_in_a_small_table() {
        assert_eq!(table(1 << 20, None, 0).records(), 0);
        assert_eq!(table(1024, Some(10), 0).records(), 0);
        assert_eq!(table(MARGIN + 253, Some(1), 0).records(), 0);
        assert_eq!(table(MARGIN + 253, Some(0), 0).records(), 1);
    }

    #[test]
    fn a_margin_stays_free_whatever_is_taken() {
        for limit in [4096, 20_000, 1 << 20, u64::MAX] {
            for open in [
                0,
                10,
                2000,
                limit / 2,
                limit - 1,
                limit,
                limit.saturating_add(7),
            ] {
                let records = table(limit, Some(open), 0).records() as u64;
                let free = limit.saturating_sub(open);
                assert!(
                    records == 0 || records * 253 + MARGIN <= free,
                    "{limit} {open}"
                );
            }
        }
    }

    #[test]
    fn a_count_is_worth_less_as_it_ages() {
        let of_age = |age| table(4096, Some(10), age).records();
        assert_eq!(of_age(0), 8);
        assert!(of_age(50_000) < of_age(0));
        // 2,038 numbers could have been taken meanwhile.
        assert_eq!(of_age(FASTEST * 2038), 0);
        assert_eq!(table(4096, Some(10), u64::MAX).records(), 0);
    }

    #[test]
    fn tight_is_when_few_numbers_are_free() {
        assert!(!table(1024, Some(900), 0).is_tight(2000));
        assert!(table(1024, Some(961), 0).is_tight(0));
        assert!(!table(64, None, 0).is_tight(55));
        assert!(table(64, None, 0).is_tight(56));
    }

    #[test]
    fn the_table_of_this_process() {
        if sys::open_descriptors().is_none() {
            // Before Linux 6.2 there is no count: then nothing is taken unseen.
            assert_eq!(Table::counted_now().records(), 0);
            return;
        }
        let before = Table::counted_now();
        let held: Vec<_> = (0..50).map(|_| std::io::pipe().expect("a pipe")).collect();
        let during = Table::counted_now();
        drop(held);
        // Other tests of this process open and close theirs meanwhile.
        assert!(during.open.expect("counted") + 60 > before.open.expect("counted") + 100);
    }

    #[test]
    fn the_last_free_number() {
        assert!(table(64, Some(63), 0).has_one_left());
        assert!(table(64, Some(70), 0).has_one_left());
        assert!(!table(64, Some(62), 0).has_one_left());
        assert!(!table(64, None, 0).has_one_left());
    }

    #[test]
    fn what_can_never_be_held() {
        assert!(table(256, None, 0).can_ever_hold(251, 5));
        assert!(!table(256, None, 0).can_ever_hold(252, 5));
    }
}
