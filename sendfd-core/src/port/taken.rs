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

/// Records that were taken from one source together, and messages that were set aside.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What records are received into, made once: compilers like to clear it when it is made.
    records: Vec<Record>,
    left: Range<usize>,
    pub(crate) source: Source,
    aside: VecDeque<Aside>,
}

/// A message that the program was told it has too little room for.
#[derive(Debug)]
pub(crate) struct Aside {
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
            self.records.resize_with(count, Record::default);
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

    /// Keeps the first aside, so that those behind it can be given out. False if too many are.
    #[cold]
    pub(crate) fn set_aside(&mut self) -> bool {
        if self.aside.len() == MOST_ASIDE {
            return false;
        }
        let source = self.source;
        if let Some(first) = self.first() {
            let record = Box::new(mem::take(first));
            self.aside.push_back(Aside { record, source });
            self.advance();
        }
        true
    }

    #[inline]
    pub(crate) fn first_aside(&mut self) -> Option<&mut Aside> {
        self.aside.front_mut()
    }

    pub(crate) fn take_aside(&mut self) -> Option<Aside> {
        self.aside.pop_front()
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
