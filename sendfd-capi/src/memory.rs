//! What the library does when there is no memory: it answers -ENOMEM. Rust aborts the process when
//! an allocation fails, and a library must not, so its allocator has a small reserve. A call that
//! opens something asks for memory before it begins, and is refused without any. A call that has
//! begun and then meets a failing malloc lives on the reserve to its end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::hint;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::boundary::{NO_MEMORY, Result};

/// Several times what any call allocates.
const RESERVE: usize = 256 * 1024;

/// What must be there for a call that opens something. Far more than it takes.
const NEEDED: usize = 64 * 1024;

#[global_allocator]
static MEMORY: Memory = Memory {
    reserve: UnsafeCell::new(Reserve([0; RESERVE])),
    state: AtomicU64::new(0),
};

/// malloc, and when that fails the reserve, of which pieces are cut one after another. It is whole
/// again once all of them are free.
struct Memory {
    reserve: UnsafeCell<Reserve>,
    /// How many bytes are cut off (the upper half), and how many pieces are in use (the lower).
    state: AtomicU64,
}

/// As malloc aligns.
#[repr(align(16))]
struct Reserve(#[expect(dead_code, reason = "used by its address")] [u8; RESERVE]);

// SAFETY: `state` hands out each piece of the reserve to one owner, and threads change nothing else.
unsafe impl Sync for Memory {}

/// Whether there is memory for a call that opens something.
pub(crate) fn ask() -> Result<()> {
    let layout = Layout::new::<[u8; NEEDED]>();
    // SAFETY: the size is not zero.
    let at = unsafe { System.alloc(layout) };
    // Otherwise the compiler leaves both calls out, as nothing uses what they allocate and free.
    let at = hint::black_box(at);
    if at.is_null() {
        return Err(NO_MEMORY);
    }
    // SAFETY: allocated above with this layout, and freed once.
    unsafe { System.dealloc(at, layout) };
    enough()
}

/// Whether the reserve suffices for a call that allocates only seldom.
pub(crate) fn enough() -> Result<()> {
    if cut(MEMORY.state.load(Ordering::Relaxed)).0 > RESERVE / 2 {
        return Err(NO_MEMORY);
    }
    Ok(())
}

fn cut(state: u64) -> (usize, u32) {
    ((state >> 32) as usize, state as u32)
}

fn state(cut: usize, pieces: u32) -> u64 {
    (cut as u64) << 32 | u64::from(pieces)
}

impl Memory {
    fn cut_off(&self, layout: Layout) -> *mut u8 {
        let mut start = 0;
        let taken = self
            .state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |now| {
                let (used, pieces) = cut(now);
                start = used.checked_next_multiple_of(layout.align())?;
                let end = start.checked_add(layout.size())?;
                (end <= RESERVE && layout.align() <= align_of::<Reserve>())
                    .then(|| state(end, pieces + 1))
            });
        if taken.is_err() {
            return ptr::null_mut();
        }
        // SAFETY: `start` is at most `end`, which was found to be within the reserve.
        unsafe { self.reserve.get().cast::<u8>().add(start) }
    }

    fn is_reserve(&self, at: *mut u8) -> bool {
        let start = self.reserve.get().addr();
        (start..start + RESERVE).contains(&at.addr())
    }

    fn give_back(&self) {
        let _ = self
            .state
            .fetch_update(Ordering::Release, Ordering::Relaxed, |now| {
                let (used, pieces) = cut(now);
                Some(if pieces == 1 {
                    0
                } else {
                    state(used, pieces - 1)
                })
            });
    }
}

// SAFETY: what does not come from System is a piece of the reserve that nobody else has, aligned and
// as long as asked for.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what alloc requires is required of this function, too.
        let at = unsafe { System.alloc(layout) };
        if at.is_null() {
            self.cut_off(layout)
        } else {
            at
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what alloc_zeroed requires is required of this function, too.
        let at = unsafe { System.alloc_zeroed(layout) };
        if !at.is_null() {
            return at;
        }
        let at = self.cut_off(layout);
        if !at.is_null() {
            // SAFETY: cut_off gave room for that many bytes.
            unsafe { at.write_bytes(0, layout.size()) };
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if self.is_reserve(at) {
            self.give_back();
        } else {
            // SAFETY: what is not in the reserve came from System, by the same layout.
            unsafe { System.dealloc(at, layout) };
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.is_reserve(at) {
            // SAFETY: what is not in the reserve came from System, by the same layout, and of the size the same
            // is required here as there.
            let moved = unsafe { System.realloc(at, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: of this function it is required that the size is valid with that alignment. The two pieces do
        // not overlap, each is as long as what is copied, and the old one is freed after that.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(at, moved, layout.size().min(size));
                self.dealloc(at, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve() {
        let memory = Memory {
            reserve: UnsafeCell::new(Reserve([1; RESERVE])),
            state: AtomicU64::new(0),
        };
        let layout = |size, align| Layout::from_size_align(size, align).expect("a layout");
        let first = memory.cut_off(layout(3, 1));
        let second = memory.cut_off(layout(8, 8));
        assert!(memory.is_reserve(first) && memory.is_reserve(second));
        assert_eq!(second.addr() - first.addr(), 8);
        assert!(memory.cut_off(layout(RESERVE, 1)).is_null());
        assert!(memory.cut_off(layout(1, 64)).is_null());
        memory.give_back();
        assert!(memory.cut_off(layout(RESERVE, 1)).is_null());
        memory.give_back();
        let whole = memory.cut_off(layout(RESERVE, 16));
        assert_eq!(whole, first);

        let outside = Box::new(1);
        assert!(!memory.is_reserve(ptr::from_ref(&*outside).cast_mut().cast()));
    }
}
