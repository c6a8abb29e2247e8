//! PORT on the command line.

use std::fmt;
use std::str::FromStr;

use sendfd_core::{rtmax, rtmin};

/// A real-time signal, by which a process's ports are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port(i32);

impl Port {
    pub(crate) fn from_signal(sig: i32) -> Option<Self> {
        (rtmin()..=rtmax()).contains(&sig).then_some(Port(sig))
    }

    pub(crate) fn signal(self) -> i32 {
        self.0
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("SIG").unwrap_or(text);
        let offset = |rest: &str, sign: char| match rest {
            "" => Some(0),
            rest => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
        };
        let sig = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').map(|n| rtmin() + n)
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').map(|n| rtmax() - n)
        } else {
            text.parse::<u8>()
                .ok()
                .filter(|n| *n < 30)
                .map(|n| rtmax() - i32::from(n))
        };
        sig.and_then(Port::from_signal)
            .ok_or_else(|| "a port is a number from 0 to 29, RTMIN+n or RTMAX-n".to_owned())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match rtmax() - self.0 {
            n @ 0..30 => write!(f, "{n}"),
            _ => write!(f, "RTMIN+{}", self.0 - rtmin()),
        }
    }
}
