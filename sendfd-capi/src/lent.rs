//! What C lends for the time of a call: pointers, sizes and numbers, checked before they become
//! Rust's types.
//!
//! What cannot be checked, the header requires of its callers:
//! - A pointer is NULL or leads to an object of its type: as many as the count beside it says, and as long as
//!   the size at its start says.
//! - During the call nobody changes what is lent to be read, and nobody uses what is lent to be filled.
//! - A target or receiver came from its `open` and was not closed. Nobody uses it when it is being closed.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::{ptr, slice};

use libc::pid_t;
use sendfd_core::{MAX_DATA, MAX_FDS, Paths, Wait};

use crate::boundary::{BAD_DESCRIPTOR, INVALID, Result, TOO_LONG};

/// No struct will ever grow to this; a size beyond it was never set.
const MAX_STRUCT: usize = 65_536;

/// A struct of C's that grows at its end from release to release. It starts with its size as the
/// caller's header has it, so that programs and libraries of different releases meet: what a caller
/// does not know counts as zero and is never written, and what this library does not know must be
/// zero.
///
/// # Safety
/// It is `repr(C)`, starts with a u32 and may consist of zeros.
pub(crate) unsafe trait Growing: Copy {
    /// How long it was in the first release: no caller's is shorter.
    const FIRST: usize;
}

/// Where a field ends, in bytes from the start of its struct.
macro_rules! end_of {
    ($structure:ty, $field:ident: $type:ty) => {
        std::mem::offset_of!($structure, $field) + size_of::<$type>()
    };
}
pub(crate) use end_of;

/// Returns the size that the caller's struct has.
///
/// # Safety
/// If not null, `at` leads to as many bytes as its first field says.
#[inline]
pub(crate) unsafe fn size<T: Growing>(at: *const T) -> Result<usize> {
    // A field added later may need a wider alignment than an older caller's struct has.
    if at.is_null() || !at.cast::<u32>().is_aligned() {
        return Err(INVALID);
    }
    // SAFETY: not null, aligned, and by the contract at least as long as a u32, with which a Growing starts.
    let size = unsafe { at.cast::<u32>().read() } as usize;
    // The size of such a struct is a multiple of its first field's.
    if !(T::FIRST..=MAX_STRUCT).contains(&size) || size % size_of::<u32>() != 0 {
        return Err(INVALID);
    }
    if let Some(unknown) = size.checked_sub(size_of::<T>()) {
        // SAFETY: by the contract `size` bytes can be read there, of which these are the last.
        let unknown =
            unsafe { slice::from_raw_parts(at.cast::<u8>().add(size_of::<T>()), unknown) };
        if unknown.iter().any(|byte| *byte != 0) {
            return Err(INVALID);
        }
    }
    Ok(size)
}

/// A copy of the caller's struct, with zeros for what the caller does not know.
///
/// # Safety
/// As [`size`], and nobody changes it during the call.
pub(crate) unsafe fn read<T: Growing>(at: *const T) -> Result<T> {
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: `size` bytes can be read at `at`, by the contract, and no more is copied than the shorter of the
    // two has. What is not copied stays zero, of which a Growing may consist.
    unsafe {
        let known = size(at)?.min(size_of::<T>());
        ptr::copy_nonoverlapping(at.cast::<u8>(), copy.as_mut_ptr().cast(), known);
        Ok(copy.assume_init())
    }
}

/// Puts a copy that [`read`] made and that was changed back to where it came from, no longer than
/// the caller's is.
///
/// # Safety
/// As [`read`], and nobody reads it during the call.
pub(crate) unsafe fn write_back<T: Growing>(copy: &T, at: *mut T) {
    // SAFETY: `read` has checked the pointer and the size, which by the contract did not change since.
    unsafe {
        let known = (at.cast::<u32>().read() as usize).min(size_of::<T>());
        ptr::copy_nonoverlapping(ptr::from_ref(copy).cast::<u8>(), at.cast(), known);
    }
}

/// An object that this library made.
///
/// # Safety
/// If not null, `at` came from this library and was not closed.
pub(crate) unsafe fn object<'a, T>(at: *const T) -> Result<&'a T> {
    // SAFETY: by the contract it is null or one of our objects that lives. Only shared, for other threads may
    // use it at the same time.
    unsafe { at.as_ref() }.ok_or(INVALID)
}

/// Where a new object goes. It is null until there is one, so that closing it is harmless.
///
/// # Safety
/// If not null, `out` leads to room for a pointer.
pub(crate) unsafe fn place<'a, T>(out: *mut *mut T) -> Result<&'a mut *mut T> {
    if out.is_null() || !out.is_aligned() {
        return Err(INVALID);
    }
    // SAFETY: not null, aligned, and by the contract room for a pointer. Written before it is borrowed, as it
    // may be uninitialised.
    unsafe {
        out.write(std::ptr::null_mut());
        Ok(&mut *out)
    }
}

/// # Safety
/// If not null, `at` leads to `count` of them, which nobody changes during the call.
pub(crate) unsafe fn array<'a, T>(at: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    let fits = count <= isize::MAX as usize / size_of::<T>();
    if at.is_null() || !at.is_aligned() || !fits {
        return Err(INVALID);
    }
    // SAFETY: not null, aligned, no longer than a slice may be; by the contract `count` are there and stay as
    // they are.
    Ok(unsafe { slice::from_raw_parts(at, count) })
}

/// The descriptors of one message.
///
/// # Safety
/// As [`array`].
pub(crate) unsafe fn descriptors<'a>(
    fds: *const c_int,
    count: usize,
) -> Result<&'a [BorrowedFd<'a>]> {
    if !(1..=MAX_FDS).contains(&count) {
        return Err(INVALID);
    }
    // SAFETY: the contract of `array` is this function's own.
    let numbers = unsafe { array(fds, count) }?;
    if numbers.iter().any(|number| *number < 0) {
        return Err(BAD_DESCRIPTOR);
    }
    // SAFETY: BorrowedFd is a transparent wrapper of a number that is not -1, which was just checked. Whether
    // it is open the kernel finds out: the library only hands it to system calls, which answer EBADF.
    Ok(unsafe { slice::from_raw_parts(numbers.as_ptr().cast(), count) })
}

/// One descriptor.
pub(crate) fn descriptor<'a>(number: c_int) -> Result<BorrowedFd<'a>> {
    if number < 0 {
        return Err(BAD_DESCRIPTOR);
    }
    // SAFETY: not -1; if it is not open, system calls answer EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// The bytes of one message.
///
/// # Safety
/// As [`array`].
pub(crate) unsafe fn data<'a>(data: *const c_void, len: u32) -> Result<&'a [u8]> {
    if len as usize > MAX_DATA {
        return Err(TOO_LONG);
    }
    // SAFETY: the contract of `array` is this function's own.
    unsafe { array(data.cast(), len as usize) }
}

/// A pid. What is below 1 in C becomes 0, which the library refuses.
pub(crate) fn pid(pid: pid_t) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

pub(crate) fn paths(bits: u32) -> Result<Paths> {
    Paths::from_bits(bits).ok_or(INVALID)
}

pub(crate) fn wait(timeout_ms: i32) -> Result<Wait> {
    match timeout_ms {
        -1.. => Ok(Wait::from_millis(timeout_ms)),
        _ => Err(INVALID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct First {
        size: u32,
        number: u32,
    }

    /// As this library knows it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Known {
        size: u32,
        number: u32,
        added: u64,
    }

    // SAFETY: both are repr(C), start with a u32, and consist of numbers.
    unsafe impl Growing for Known {
        const FIRST: usize = end_of!(Known, number: u32);
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Newer {
        known: Known,
        unknown: [u8; 24],
    }

    fn read_at<T>(at: &T) -> Result<Known> {
        // SAFETY: each of these is as long as its size says, or its size is refused.
        unsafe { read(ptr::from_ref(at).cast()) }
    }

    #[test]
    fn an_older_caller() {
        #[repr(C)]
        struct Guarded(First, u64, u64);
        let mut older = Guarded(First { size: 8, number: 5 }, u64::MAX, 7);
        let mut copy = read_at(&older).expect("the first release's size");
        assert_eq!((copy.size, copy.number, copy.added), (8, 5, 0));
        copy.number = 6;
        copy.added = 9;
        // SAFETY: it was read from there.
        unsafe { write_back(&copy, ptr::from_mut(&mut older).cast()) };
        assert_eq!((older.0.number, older.1, older.2), (6, u64::MAX, 7));
    }

    #[test]
    fn a_newer_caller() {
        let mut newer = Newer {
            known: Known {
                size: size_of::<Newer>() as u32,
                number: 5,
                added: 6,
            },
            unknown: [0; 24],
        };
        let mut copy = read_at(&newer).expect("what is unknown is zero");
        assert_eq!(copy, newer.known);
        copy.added = 7;
        // SAFETY: it was read from there.
        unsafe { write_back(&copy, ptr::from_mut(&mut newer).cast()) };
        assert_eq!((newer.known.added, newer.unknown), (7, [0; 24]));
        newer.unknown[23] = 1;
        assert_eq!(read_at(&newer), Err(INVALID));
    }

    #[test]
    fn sizes_that_nobody_has() {
        for size in [0, 4, 9, MAX_STRUCT as u32 + 1, u32::MAX] {
            assert_eq!(read_at(&First { size, number: 0 }), Err(INVALID));
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { read::<Known>(ptr::null()) }, Err(INVALID));
    }
}
