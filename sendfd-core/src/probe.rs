//! Which paths lead to a target, and in words why the others do not.

use crate::error::{Attempt, Cause, Error, Result};
use crate::path::{Path, Paths};
use crate::process::{self, Process};
use crate::reach;
use crate::receiver::Receiver;
use crate::signal::Port;

/// What a probe found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The process that was probed.
    pub pid: u32,
    /// At which port.
    pub port: Port,
    /// Each path, in the order in which they are tried.
    pub paths: [PathReport; 3],
}

/// What a probe found of one path.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PathReport {
    /// The path.
    pub path: Path,
    /// Why it does not lead to the target, if it does not.
    pub error: Option<Error>,
}

impl Report {
    /// The paths that lead to the target.
    #[must_use]
    pub fn working(&self) -> Paths {
        let working = self.paths.iter().filter(|report| report.error.is_none());
        working.map(|report| Paths::from(report.path)).collect()
    }

    /// The path that a send would take now, if any.
    #[must_use]
    pub fn chosen(&self) -> Option<Path> {
        let allowed = reach::allowed(Paths::empty()).ok()?;
        let working = self.working() & allowed;
        let mut paths = self.paths.iter().map(|report| report.path);
        paths.find(|path| working.contains(*path))
    }
}

/// Tries each path to process `pid` at `port`, sending nothing. `SENDFD_PATHS` is left out of
/// account, except in [`Report::chosen`]. Does not block, and leaves nothing open.
///
/// # Errors
/// - `EINVAL`: `pid` is 0.
/// - `ESRCH`: no such process, or it has exited.
/// - `EMFILE`, `ENFILE`, `ENOMEM`: as the kernel says.
///
/// That a path does not lead there is no error of the probe: see [`PathReport::error`].
pub fn probe(pid: u32, port: Port) -> Result<Report> {
    let sig = port.signal();
    let attempt = Attempt::Probe { pid, sig };
    let probe = || {
        let process = Process::open(pid)?;
        let seen = process.look()?;
        Ok(Report {
            pid,
            port,
            paths: reach::order(&seen).map(|path| PathReport {
                path,
                error: reach::reach_by(path, &seen, sig)
                    .err()
                    .map(|cause| Error::new(attempt, cause)),
            }),
        })
    };
    probe().map_err(|cause: Cause| Error::new(attempt, cause))
}

/// Tries each path from this process to itself: what this machine, with its kernel and sandbox,
/// offers at all. Opens a receiver at a free port meanwhile.
///
/// # Errors
/// - `EADDRINUSE`: this process listens at every port.
/// - `EMFILE`, `ENFILE`, `ENOMEM`: as the kernel says.
pub fn probe_self() -> Result<Report> {
    let mut result = Receiver::open(Port::new(0)?);
    for number in 1..Port::COUNT {
        match result {
            Err(error) if error.cause() == Cause::AlreadyListening => {
                result = Receiver::open(Port::new(number)?);
            }
            _ => break,
        }
    }
    let receiver = result?;
    probe(process::own_pid(), receiver.port())
}
