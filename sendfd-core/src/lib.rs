//! Hand an open descriptor to another process, by pid.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let worker_pid = 1234;
//! // In the process that has the descriptor:
//! let port = sendfd_core::Port::new(3)?;
//! let connection = std::net::TcpStream::connect("127.0.0.1:80")?;
//! sendfd_core::send(worker_pid, port, &connection)?;
//!
//! // In the process that wants it:
//! let receiver = sendfd_core::Receiver::open(port)?;
//! let message = receiver.recv(sendfd_core::Wait::Forever)?;
//! println!("{:?} from process {}", message.fds, message.sender.pid);
//! # Ok(()) }
//! ```
//!
//! A process and one of its ports, which are its real-time signals, are an address. The process that
//! wants descriptors listens there, with a [`Receiver`] (one pollable descriptor, no signal is raised) or
//! in signal mode ([`listen()`]: the signal is raised and carries the descriptor's number).
//!
//! Sending succeeds once the kernel holds a duplicate for the target: the sender may close its own,
//! exit or be killed in the next instruction. Sending fails with nothing sent and nothing left
//! behind. See [`send_with`] for everything a message can carry, and [`probe()`] for the reasons
//! when something is not permitted.
//!
//! # Features
//! - `tokio` (off by default): the module `tokio`, a receiver to be awaited, which is a stream as well,
//!   and sends that wait in a tokio runtime. With other event loops, poll the descriptor that
//!   [`Receiver`]'s `AsFd` lends.

#![cfg_attr(docsrs, feature(doc_cfg))]

// Each file is about one noun. What is public is named here and nowhere else.
mod address;
mod admission;
mod agent;
mod cache;
mod call;
mod credentials;
mod error;
mod fork;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kind;
mod limits;
mod link;
mod listen;
mod lock;
mod marker;
mod message;
mod outgoing;
mod passengers;
mod path;
mod port;
mod ports;
mod probe;
mod process;
#[doc(hidden)]
pub mod protocol;
mod reach;
mod receiver;
mod route;
mod sealed;
mod send;
mod sender;
mod signal;
mod sys;
mod target;
#[cfg(feature = "tokio")]
pub mod tokio;
mod wait;
mod wire;

pub use credentials::Credentials;
pub use error::{Attempt, Cause, Denial, Error, Result};
pub use kind::{Kind, detect};
pub use limits::{MAX_DATA, MAX_FDS};
pub use listen::{SI_SENDFD, listen, unlisten};
pub use message::{Descriptors, Incoming, Message, Room};
pub use outgoing::{SendOptions, TargetOptions};
pub use path::{Path, Paths};
pub use probe::{PathReport, Report, probe, probe_self};
pub use receiver::{Receiver, ReceiverOptions};
pub use send::{send, send_with};
pub use signal::{Port, rtmax, rtmin};
pub use target::Target;
pub use wait::{Wait, WaitFor};

/// The version of this library, as `major.minor.patch`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The examples of the page are compiled as those of the documentation are.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Threads may share all of these, and hand them to each other.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Error>();
    shared::<Message>();
    shared::<Receiver>();
    shared::<ReceiverOptions<'_>>();
    shared::<Report>();
    shared::<SendOptions<'_>>();
    shared::<Target>();
    #[cfg(feature = "tokio")]
    shared::<tokio::Receiver>();
};
