//! What C lends for the time of a call: pointers, sizes and numbers, checked before they become
//! Rust's types. What cannot be checked (that a pointer leads to as much as it says) is C's word.

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::slice;

use sendfd_core::{MAX_DATA, MAX_FDS, Paths, Wait};

use crate::boundary::{BAD_DESCRIPTOR, INVALID, Result, TOO_LONG};

/// No struct will ever grow to this; a size beyond it was never set.
const MAX_STRUCT: usize = 4096;

/// A struct that starts with its size, as its caller knows it. A newer caller's may be longer: what
/// this library does not know must be zero. Returns the caller's size.
///
/// # Safety
/// If not null, `at` leads to as many bytes as its first field says.
pub(crate) unsafe fn check_struct<T>(at: *const T) -> Result<usize> {
    if at.is_null() || !at.is_aligned() {
        return Err(INVALID);
    }
    // SAFETY: the caller's; every such struct starts with a u32.
    let size = unsafe { at.cast::<u32>().read() } as usize;
    if !(size_of::<T>()..=MAX_STRUCT).contains(&size) {
        return Err(INVALID);
    }
    // SAFETY: the caller's.
    let tail = unsafe { slice::from_raw_parts(at.add(1).cast::<u8>(), size - size_of::<T>()) };
    if tail.iter().any(|byte| *byte != 0) {
        return Err(INVALID);
    }
    Ok(size)
}

/// # Safety
/// As [`check_struct`], and nobody changes it during the call.
pub(crate) unsafe fn structure<'a, T>(at: *const T) -> Result<&'a T> {
    // SAFETY: the caller's; checked to be there, aligned and long enough.
    unsafe {
        check_struct(at)?;
        Ok(&*at)
    }
}

/// # Safety
/// As [`structure`], and nobody reads it during the call.
pub(crate) unsafe fn structure_mut<'a, T>(at: *mut T) -> Result<&'a mut T> {
    // SAFETY: as above.
    unsafe {
        check_struct(at)?;
        Ok(&mut *at)
    }
}

/// An object that this library made.
///
/// # Safety
/// If not null, `at` came from this library and was not closed.
pub(crate) unsafe fn object<'a, T>(at: *const T) -> Result<&'a T> {
    // SAFETY: the caller's.
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
    // SAFETY: the caller's. Written before it is borrowed: it may be uninitialised.
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
    // SAFETY: the caller's.
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
    // SAFETY: the caller's.
    let numbers = unsafe { array(fds, count) }?;
    if numbers.iter().any(|number| *number < 0) {
        return Err(BAD_DESCRIPTOR);
    }
    // SAFETY: BorrowedFd is a transparent wrapper of a number that is not -1. That it is open is
    // for the kernel to say, which answers EBADF.
    Ok(unsafe { slice::from_raw_parts(numbers.as_ptr().cast(), count) })
}

/// One descriptor.
pub(crate) fn descriptor<'a>(number: c_int) -> Result<BorrowedFd<'a>> {
    if number < 0 {
        return Err(BAD_DESCRIPTOR);
    }
    // SAFETY: as above.
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
    // SAFETY: the caller's.
    unsafe { array(data.cast(), len as usize) }
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
