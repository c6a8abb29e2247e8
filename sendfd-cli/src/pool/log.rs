//! What the pool says of itself: a line each, on standard error.

use std::io::Write as _;

use crate::paint::{BAD, DIM};

pub(crate) fn note(text: impl std::fmt::Display) {
    // Nobody may read it any more: that is no reason to end.
    let _ = writeln!(anstream::stderr(), "{DIM}pool:{DIM:#} {text}");
}

pub(crate) fn trouble(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{BAD}pool:{BAD:#} {text}");
}
