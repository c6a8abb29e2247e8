//! Which paths lead to a target.

use napi::Either;
use napi_derive::napi;

use sendfd_core::Port;

use crate::Failure;
use crate::send::process;

/// The answer of [`probe`].
#[napi(object, object_from_js = false)]
pub struct Report {
    /// The process.
    pub pid: u32,
    /// The signal.
    pub sig: i32,
    /// The path that a send would take now.
    pub chosen: Option<&'static str>,
    /// Each path, in the order in which they are tried.
    pub paths: Vec<PathReport>,
}

/// What was found of one path.
#[napi(object, object_from_js = false)]
pub struct PathReport {
    /// Its name.
    pub path: &'static str,
    /// Why it does not lead there, if it does not.
    pub failure: Option<Failure>,
}

/// Tries each path to process `pid` at `sig`, sending nothing.
#[napi]
pub fn probe(pid: i32, sig: i32) -> Either<Report, Failure> {
    answer(Port::from_signal(sig).and_then(|port| sendfd_core::probe(process(pid), port)))
}

/// Tries each path from this process to itself.
#[napi]
pub fn probe_self() -> Either<Report, Failure> {
    answer(sendfd_core::probe_self())
}

fn answer(report: sendfd_core::Result<sendfd_core::Report>) -> Either<Report, Failure> {
    match report {
        Ok(report) => Either::A(Report {
            pid: report.pid,
            sig: report.port.signal(),
            chosen: report.chosen().map(sendfd_core::Path::as_str),
            paths: report
                .paths
                .iter()
                .map(|report| PathReport {
                    path: report.path.as_str(),
                    failure: report.error.map(Failure::from),
                })
                .collect(),
        }),
        Err(error) => Either::B(error.into()),
    }
}
