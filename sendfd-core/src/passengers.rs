//! The descriptors of one message, held while it waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use arrayvec::ArrayVec;
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::error::Cause;
use crate::limits::MAX_FDS;

/// What the numbers meant when the call was made. As long as a send need not wait, they are what was
/// lent; before the first wait they are duplicated, so that nobody's closing or reusing a number
/// meanwhile changes what is sent.
pub(crate) struct Passengers<'a> {
    lent: &'a [BorrowedFd<'a>],
    held: Vec<OwnedFd>,
    /// What carries data that is too long for the record.
    hidden: Option<OwnedFd>,
}

impl<'a> Passengers<'a> {
    #[inline]
    pub(crate) fn new(lent: &'a [BorrowedFd<'a>]) -> Self {
        Passengers {
            lent,
            held: Vec::new(),
            hidden: None,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.lent.len()
    }

    /// To be called before every wait.
    pub(crate) fn hold(&mut self) -> Result<(), Cause> {
        if !self.held.is_empty() {
            return Ok(());
        }
        let held: Result<Vec<_>, Errno> = self
            .lent
            .iter()
            .map(|fd| fcntl_dupfd_cloexec(fd, 0))
            .collect();
        self.held = held.map_err(|errno| match errno {
            Errno::BADF => Cause::BadDescriptor,
            other => other.into(),
        })?;
        Ok(())
    }

    /// The duplicates, for who waits by himself.
    #[cfg(feature = "tokio")]
    pub(crate) fn into_held(self) -> Vec<OwnedFd> {
        self.held
    }

    /// Adds one behind them, which the receiver does not give out, unless there is one.
    pub(crate) fn hide(
        &mut self,
        make: impl FnOnce() -> Result<OwnedFd, Cause>,
    ) -> Result<(), Cause> {
        if self.hidden.is_none() {
            self.hidden = Some(make()?);
        }
        Ok(())
    }

    /// Lends them to `f`.
    #[inline]
    pub(crate) fn lend<R>(&self, f: impl FnOnce(&[BorrowedFd<'_>]) -> R) -> R {
        if self.held.is_empty() && self.hidden.is_none() {
            return f(self.lent);
        }
        self.lend_copies(f)
    }

    #[cold]
    fn lend_copies<R>(&self, f: impl FnOnce(&[BorrowedFd<'_>]) -> R) -> R {
        let held = self.held.iter().map(AsFd::as_fd);
        let lent = self.lent.iter().copied().skip(self.held.len());
        let hidden = self.hidden.iter().map(AsFd::as_fd);
        let all: ArrayVec<BorrowedFd<'_>, MAX_FDS> =
            held.chain(lent).chain(hidden).take(MAX_FDS).collect();
        f(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_held_stays_what_it_was() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let lent = [reader.as_fd()];
        let mut passengers = Passengers::new(&lent);
        passengers.hold().expect("held");
        let (other, _) = std::io::pipe().expect("a pipe");
        // The number comes to mean something else.
        rustix::io::dup2(
            &other,
            &mut std::mem::ManuallyDrop::new(
                reader.try_clone().map(OwnedFd::from).expect("a duplicate"),
            ),
        )
        .expect("replaced");
        writer.write_all(b"x").expect("written");
        passengers.lend(|fds| {
            assert!(fds[0].as_fd().try_clone_to_owned().is_ok());
            let mut byte = [0];
            assert_eq!(rustix::io::read(fds[0], &mut byte), Ok(1));
        });
        passengers.hide(|| Ok(other.into())).expect("hidden");
        passengers.lend(|fds| assert_eq!(fds.len(), 2));
    }
}
