//! The probe: which paths lead to a target.

use std::ffi::{c_char, c_int};
use std::fmt::{self, Write};

use libc::pid_t;
use sendfd_core::{Cause, Port};

use crate::boundary::status;
use crate::lent::{self, Growing, end_of};
use crate::memory;

/// The room for a reason, its terminating zero byte included.
pub const SENDFD_REASON_SIZE: usize = 256;

/// What sendfd_probe found of one path.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct sendfd_path_report {
    /// SENDFD_PATH_*.
    pub path: u32,
    /// 0 if the path leads to the target, else the negative errno that a send over it gets.
    pub error: i32,
    /// Why it does not, and what can be done about it, in words. Empty if it does. Always ends
    /// with a zero byte.
    pub reason: [c_char; SENDFD_REASON_SIZE],
}

/// What sendfd_probe found. Start from SENDFD_REPORT_INIT.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct sendfd_report {
    /// In: sizeof(sendfd_report).
    pub size: u32,
    /// Out: the paths that lead to the target, SENDFD_PATH_* or'ed together.
    pub working: u32,
    /// Out: the path that a send would take now, SENDFD_PATH_*; 0 if none. It respects the
    /// environment's SENDFD_PATHS, as a send does.
    pub chosen: u32,
    /// Out: each path, in the order in which a send tries them.
    pub paths: [sendfd_path_report; 3],
}

// SAFETY: it is repr(C), starts with its size, and consists of numbers and text.
unsafe impl Growing for sendfd_report {
    const FIRST: usize = end_of!(sendfd_report, paths: [sendfd_path_report; 3]);
}

/// Tries each path to process pid at the real-time signal sig, sends nothing, and says in words
/// why a path does not lead there. To learn what this machine offers at all (its kernel, its
/// sandbox), open a receiver and probe getpid().
///
/// report is the caller's, and filled only on success. That a path does not work is no error of
/// this function: look at report->paths[].error.
///
/// Returns 0, or
///   -EINVAL  sig is not a real-time signal, pid is below 1, report is NULL, or its size is wrong
///   -ESRCH   no such process, or it has exited
///   -EMFILE, -ENFILE, -ENOMEM  as the kernel says
///   -ENOTRECOVERABLE  a defect in this library
///
/// Does not block and leaves nothing open. Safe from any thread and in a forked child. Not for use
/// in a signal handler.
///
/// See also: pidfd_getfd(2), ptrace(2) "Ptrace access mode checking", unix(7).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_probe(pid: pid_t, sig: c_int, report: *mut sendfd_report) -> c_int {
    status(|| {
        memory::ask()?;
        // SAFETY: the header requires a report that is as long as it says.
        let mut answer = unsafe { lent::read(report) }?;
        let found = sendfd_core::probe(lent::pid(pid), Port::from_signal(sig)?)?;
        answer.working = found.working().bits();
        answer.chosen = found.chosen().map_or(0, |path| path as u32);
        for (slot, found) in answer.paths.iter_mut().zip(found.paths) {
            slot.path = found.path as u32;
            slot.error = found.error.map_or(0, |error| -error.raw_os_error());
            let cause = found.error.map(|error| (error.cause(), error.hint()));
            write_reason(&mut slot.reason, cause);
        }
        // SAFETY: the copy was read from there, and the header requires that nobody else uses it meanwhile.
        unsafe { lent::write_back(&answer, report) };
        Ok(0)
    })
}

fn write_reason(room: &mut [c_char; SENDFD_REASON_SIZE], why: Option<(Cause, Option<&str>)>) {
    room.fill(0);
    let mut text = Text { room, len: 0 };
    // Writing into it never fails: what does not fit is left out.
    let _ = match why {
        None => Ok(()),
        Some((cause, None)) => write!(text, "{cause}"),
        Some((cause, Some(hint))) => write!(text, "{cause}: {hint}"),
    };
}

/// Text that is written into C's room, and cut to what fits before the zero byte.
struct Text<'a> {
    room: &'a mut [c_char; SENDFD_REASON_SIZE],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.room.len() - 1;
        for (slot, byte) in self.room[self.len..room].iter_mut().zip(text.bytes()) {
            *slot = byte as c_char;
            self.len += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sendfd_core::{Denial, Paths};
    use std::ffi::CStr;

    fn reason(why: Option<(Cause, Option<&str>)>) -> String {
        let mut room = [1; SENDFD_REASON_SIZE];
        write_reason(&mut room, why);
        // SAFETY: it was just ended with a zero byte.
        let text = unsafe { CStr::from_ptr(room.as_ptr()) };
        text.to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = "x".repeat(1000);
        let cut = reason(Some((Cause::NotListening, Some(&long))));
        assert_eq!(cut.len(), SENDFD_REASON_SIZE - 1);
        assert!(cut.ends_with('x'));
        assert_eq!(reason(None), "");
    }

    /// The longest that a path can answer arrive whole.
    #[test]
    fn reasons_fit() {
        for denial in [
            Denial::Seccomp,
            Denial::Yama(1),
            Denial::Ptrace,
            Denial::Signal,
            Denial::Name,
        ] {
            assert_whole(Cause::NotPermitted(denial));
        }
        assert_whole(Cause::NotAccepted { uid: u32::MAX });
        assert_whole(Cause::AddressTaken { holder: u32::MAX });
        assert_whole(Cause::PathNotOffered(Paths::all()));
        assert_whole(Cause::NotListening);
    }

    fn assert_whole(cause: Cause) {
        // Longer than every hint of such a cause.
        let hint = "h".repeat(128);
        let whole = reason(Some((cause, Some(&hint))));
        assert!(whole.ends_with(&hint), "{whole}");
    }
}
