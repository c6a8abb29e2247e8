//! The C library: `extern "C"` and nothing else. What it does is in `sendfd_core`; this crate turns
//! C's pointers and numbers into Rust's types, Rust's results into negative errnos, and lets no
//! panic through.
//!
//! The comments of public items become `include/sendfd.h` (`make header`), so they are written for
//! readers of C. Functions are declared here in the order in which the header shows them.

// Every function here takes pointers from C and has a name that the linker sees.
#![allow(unsafe_code)]
// The header is the contract, and C has no functions that are safe.
#![allow(clippy::missing_safety_doc)]
#![allow(non_camel_case_types)]

mod boundary;
mod detect;
mod lent;
mod listen;
mod memory;
mod port;
mod probe;
mod receive;
mod send;
mod text;

pub use detect::*;
pub use listen::*;
pub use port::*;
pub use probe::*;
pub use receive::*;
pub use send::*;
pub use text::*;
