//! systemd's activation protocol: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES.

use std::os::fd::RawFd;

/// The first number, by the protocol.
pub(crate) const FIRST: RawFd = 3;

/// The variables for a program that finds `names.len()` descriptors from [`FIRST`] on.
pub(crate) fn variables(names: &[String]) -> [(&'static str, String); 3] {
    [
        ("LISTEN_FDS", names.len().to_string()),
        ("LISTEN_PID", std::process::id().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
    ]
}
