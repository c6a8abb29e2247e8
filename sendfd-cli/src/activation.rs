//! systemd's activation protocol, both ways: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES.

use std::os::fd::{OwnedFd, RawFd};

use crate::exit::{Failure, Result};
use crate::sys;

/// The first number, by the protocol.
pub(crate) const FIRST: RawFd = 3;

/// What this process was started with, and its names. Nothing if LISTEN_PID names another process.
/// To be called once, before anything else is opened.
pub(crate) fn inherited() -> Result<Vec<(String, OwnedFd)>> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (0..count)
        .map(|nth| {
            let number = FIRST + nth as i32;
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.map_or_else(|| format!("LISTEN_FDS {nth}"), str::to_owned);
            let fd = sys::inherited(number).map_err(|error| {
                Failure::usage(format!(
                    "LISTEN_FDS says {count}, but descriptor {number} is not open: {error}"
                ))
            })?;
            Ok((name, fd))
        })
        .collect()
}

/// The variables for a program that finds `names.len()` descriptors from [`FIRST`] on.
pub(crate) fn variables(names: &[String]) -> [(&'static str, String); 3] {
    [
        ("LISTEN_FDS", names.len().to_string()),
        ("LISTEN_PID", std::process::id().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
    ]
}
