//! What has left the kernel and was not given out yet.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::os::fd::RawFd;

use super::source::Source;
use crate::sys::Record;

/// How many messages that did not fit are kept aside. The next one stays at the head until the program
/// makes room or discards.
const MOST_ASIDE: usize = 8;

/// How many records there is room for from the beginning, so that a receiver that is warm does not
/// allocate.
const ROOM: usize = 8;

/// Records that were taken from one source together, and messages that were set aside.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What records are received into. Made once, because making one costs: compilers clear it.
    records: Vec<Record>,
    left: Range<usize>,
    pub(crate) source: Source,
    aside: VecDeque<Aside>,
    /// How many were ever set aside.
    count: u64,
}

/// A message that the program was told it has too little room for.
#[derive(Debug)]
pub(crate) struct Aside {
    /// Tells it from all others.
    pub(crate) nth: u64,
    pub(crate) record: Box<Record>,
    pub(crate) source: Source,
}

impl Default for Taken {
    fn default() -> Self {
        Taken {
            records: Vec::new(),
            left: 0..0,
            source: Source::Rx,
            aside: VecDeque::new(),
            count: 0,
        }
    }
}

impl Taken {
    /// Whether nothing is left of what was taken. What was set aside does not count.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Room to receive `count` records into, when nothing is left of the last ones.
    #[inline]
    pub(crate) fn room_for(&mut self, count: usize) -> &mut [Record] {
        if self.records.len() < count {
            self.records.resize_with(count.max(ROOM), Record::default);
        }
        &mut self.records[..count]
    }

    /// So many were received, from `source`.
    #[inline]
    pub(crate) fn filled(&mut self, count: usize, source: Source) {
        self.left = 0..count;
        self.source = source;
    }

    #[inline]
    pub(crate) fn first(&mut self) -> Option<&mut Record> {
        if self.left.is_empty() {
            return None;
        }
        self.records.get_mut(self.left.start)
    }

    /// Done with the first.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.left.start += 1;
    }

    /// Nothing follows what was received last.
    pub(crate) fn end(&mut self) {
        self.left = 0..0;
    }

    /// Keeps the first aside, so that those behind it can be given out. `None` if there is none, or too
    /// many are kept already.
    #[cold]
    pub(crate) fn set_aside(&mut self) -> Option<&Aside> {
        if self.aside.len() == MOST_ASIDE {
            return None;
        }
        let source = self.source;
        let record = Box::new(mem::take(self.first()?));
        self.advance();
        let nth = self.count;
        self.count += 1;
        self.aside.push_back(Aside {
            nth,
            record,
            source,
        });
        self.aside.back()
    }

    /// Whether something was set aside.
    #[inline]
    pub(crate) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// What was set aside, in order.
    pub(crate) fn aside(&self) -> impl Iterator<Item = &Aside> {
        self.aside.iter()
    }

    /// Takes one of those out.
    pub(crate) fn take_aside(&mut self, nth: u64) -> Option<Aside> {
        let at = self.aside.iter().position(|aside| aside.nth == nth)?;
        self.aside.remove(at)
    }

    /// Puts one back that was taken out.
    pub(crate) fn put_back(&mut self, aside: Aside) {
        let at = self.aside.partition_point(|other| other.nth < aside.nth);
        self.aside.insert(at, aside);
    }

    /// All that it holds, for closing.
    pub(crate) fn into_records(mut self) -> impl Iterator<Item = Record> {
        let left = self.left.clone();
        let rest: Vec<Record> = self
            .records
            .drain(..)
            .skip(left.start)
            .take(left.len())
            .collect();
        rest.into_iter()
            .chain(self.aside.into_iter().map(|aside| *aside.record))
    }

    /// The numbers of all descriptors that it holds.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let left = self.records.get(self.left.clone()).unwrap_or_default();
        left.iter()
            .chain(self.aside.iter().map(|aside| &*aside.record))
            .flat_map(Record::numbers)
    }
}
