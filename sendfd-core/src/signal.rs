//! Which signals are ports: the real-time ones, as this program's libc counts them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Attempt, Cause, Error, Result};

/// The lowest real-time signal that libc leaves to programs: 34 on glibc, 35 on musl.
///
/// # References
/// - [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html), "Real-time signals"
#[must_use]
pub fn rtmin() -> i32 {
    libc::SIGRTMIN()
}

/// The highest real-time signal: 64.
#[must_use]
pub fn rtmax() -> i32 {
    libc::SIGRTMAX()
}

/// Where a process listens: one of its real-time signals.
///
/// Ports are best named by [`Port::new`], which counts down from SIGRTMAX: that is 64 everywhere,
/// while SIGRTMIN is 34 in glibc and 35 in musl, so that `SIGRTMIN + 1` is two ports.
///
/// ```
/// use sendfd_core::Port;
///
/// # fn main() -> Result<(), sendfd_core::Error> {
/// assert_eq!(Port::new(3)?.signal(), 61);
/// assert_eq!(Port::new(3)?, Port::from_signal(61)?);
/// assert_eq!(Port::new(3)?, "3".parse()?);
/// assert_eq!(Port::new(3)?, "SIGRTMAX-3".parse()?);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(i32);

impl Port {
    /// How many ports have a number, from 0 on: those that every libc leaves to programs.
    pub const COUNT: u32 = 30;

    /// Port `number`, from 0 to 29: SIGRTMAX - `number`.
    ///
    /// # Errors
    /// - `EINVAL`: there is no such port.
    pub fn new(number: u32) -> Result<Self> {
        if number < Self::COUNT {
            Ok(Port(rtmax() - number as i32))
        } else {
            Err(Error::new(Attempt::NamePort, Cause::NotAPort))
        }
    }

    /// The port of a real-time signal, from [`rtmin`] to [`rtmax`].
    ///
    /// # Errors
    /// - `EINVAL`: it is none.
    pub fn from_signal(sig: i32) -> Result<Self> {
        if (rtmin()..=rtmax()).contains(&sig) {
            Ok(Port(sig))
        } else {
            Err(Error::new(Attempt::NamePort, Cause::NotRealTime))
        }
    }

    /// The real-time signal.
    #[must_use]
    pub fn signal(self) -> i32 {
        self.0
    }

    /// The number, counted from SIGRTMAX; `None` for those signals that not every libc leaves to
    /// programs.
    #[must_use]
    pub fn number(self) -> Option<u32> {
        let number = (rtmax() - self.0).unsigned_abs();
        (number < Self::COUNT).then_some(number)
    }
}

/// As it is read: `3`, or `RTMIN+1` for a port without a number.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => number.fmt(f),
            None => write!(f, "RTMIN+{}", self.0 - rtmin()),
        }
    }
}

/// Reads `3`, `RTMAX-3` or `RTMIN+1`, the latter two also with `SIG` in front, in any case.
impl FromStr for Port {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let digits = |text: &str| {
            let only = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i32>().ok().filter(|_| only)
        };
        let offset = |rest: &str, sign| match rest {
            "" => Some(0),
            _ => digits(rest.strip_prefix(sign)?),
        };
        let sig = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').and_then(|more| rtmin().checked_add(more))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').map(|less| rtmax() - less)
        } else {
            digits(&upper)
                .filter(|number| number.unsigned_abs() < Self::COUNT)
                .map(|number| rtmax() - number)
        };
        match sig.map(Self::from_signal) {
            Some(Ok(port)) => Ok(port),
            _ => Err(Error::new(Attempt::NamePort, Cause::NotAPort)),
        }
    }
}

/// The kernel's first real-time signal. libc keeps the lowest few for itself, how many depends on
/// the libc; what must be equal in two processes (addresses, marker slots) counts from here.
pub(crate) const KERNEL_RTMIN: i32 = 32;

/// How many real-time signals the kernel has.
pub(crate) const COUNT: usize = 33;

/// The place of a real-time signal in a table of [`COUNT`].
#[inline]
pub(crate) fn index(sig: i32) -> usize {
    usize::try_from(sig - KERNEL_RTMIN).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_count_down_from_the_last_signal() {
        for number in 0..Port::COUNT {
            let port = Port::new(number).expect("a port");
            assert_eq!(port.signal(), 64 - number as i32);
            assert_eq!(port.number(), Some(number));
            assert_eq!(port.to_string().parse(), Ok(port));
        }
        assert_eq!(
            Port::new(30).map_err(|error| error.cause()),
            Err(Cause::NotAPort)
        );
    }

    #[test]
    fn every_real_time_signal_is_a_port() {
        for sig in rtmin()..=rtmax() {
            let port = Port::from_signal(sig).expect("a port");
            assert_eq!(port.to_string().parse(), Ok(port));
        }
        for sig in [i32::MIN, -1, 0, 10, 31, rtmin() - 1, rtmax() + 1, i32::MAX] {
            assert!(Port::from_signal(sig).is_err(), "{sig}");
        }
    }

    #[test]
    fn names() {
        let port = |text: &str| text.parse::<Port>().ok().map(Port::signal);
        assert_eq!(port("0"), Some(64));
        assert_eq!(port(" 29 "), Some(35));
        assert_eq!(port("RTMIN"), Some(rtmin()));
        assert_eq!(port("sigrtmin+2"), Some(rtmin() + 2));
        assert_eq!(port("RTMAX"), Some(64));
        assert_eq!(port("SIGRTMAX-4"), Some(60));
        for no_port in [
            "",
            "30",
            "-1",
            "+1",
            "61x",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN+-1",
            "RTMIN+99",
            "SIGTERM",
            "RTMAX-2147483647",
            "RTMIN+2147483647",
            "99999999999",
        ] {
            assert_eq!(port(no_port), None, "{no_port:?}");
        }
    }
}
