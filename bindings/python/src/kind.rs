//! What a descriptor refers to.

use pyo3::prelude::*;
use sendfd_core::Kind;

use crate::arguments::Passengers;
use crate::error::os_error;

/// The name of the kind; of a socket also its family, type, protocol and whether it listens.
type Detected = (&'static str, Option<(i32, i32, i32, bool)>);

/// Tell what kind of file fd refers to.
#[pyfunction]
pub(crate) fn detect(fd: Passengers<'_>) -> PyResult<Detected> {
    let kind = fd.lend(|fds| fds.first().map(sendfd_core::detect));
    Ok(match kind.transpose().map_err(os_error)? {
        Some(Kind::Socket {
            family,
            kind,
            protocol,
            listening,
        }) => ("socket", Some((family, kind, protocol, listening))),
        Some(Kind::File) => ("file", None),
        Some(Kind::Directory) => ("directory", None),
        Some(Kind::Pipe) => ("pipe", None),
        Some(Kind::CharacterDevice) => ("character-device", None),
        Some(Kind::BlockDevice) => ("block-device", None),
        _ => ("anonymous", None),
    })
}
