//! Signal mode: the process gets the real-time signal, whose value is a descriptor in its table.
//!
//! On a kernel that has sendfd(2) this is the call itself: the process permits it, and the kernel does the
//! rest. Elsewhere an agent does: a thread inside the process that receives from the inbox and queues the
//! signal to its own process.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::agent::Agent;
use crate::credentials::Credentials;
use crate::error::{Attempt, Cause, Error, Result};
use crate::message::Message;
use crate::receiver::Receiver;
use crate::signal::Port;
use crate::wait::Wait;
use crate::{call, fork, ports, sys};

/// Enough for a record and the calls around it.
const AGENT_STACK: usize = 128 * 1024;

/// How long the agent waits before it tries again what there was no room for.
const RETRY: Duration = Duration::from_millis(1);

/// Where its descriptors were closed behind its back, nothing wakes the agent that is to end: it looks so
/// often by itself.
const LOOK: Duration = Duration::from_secs(5);

/// `si_code` of a signal that the kernel's own call sent. Above zero: no process can send such a one to
/// another.
pub const SI_SENDFD: i32 = 0x81;

/// From now on, each descriptor that is sent to this process at `port` raises that signal in it, as
/// a queued signal: `si_pid` and `si_uid` are the sender's, and `si_value.sival_int` is the number of the
/// descriptor, close-on-exec, which the process now owns. `si_code` is [`SI_SENDFD`] where the kernel did
/// it, else `SI_QUEUE`. The pid is no address to answer to: see [`Credentials::pid`].
///
/// With `SI_QUEUE` the kernel does not vouch for the number: whoever may signal the process (its own user and
/// root) can send it the signal with one that was made up. What is not open and close-on-exec was not
/// delivered; a program that must know more uses a [`Receiver`].
///
/// It is for the process to handle the signal (with `SA_SIGINFO`, which tells it the number), or to block it in
/// all threads and take it with `sigwaitinfo` or a signalfd. That must be arranged before this is called: a
/// real-time signal that nobody asked for kills the process. A handler that is set later ends it: then
/// call this again. Tags and data do not arrive.
///
/// On a kernel that has sendfd(2) this costs nothing but a flag of sigaction(2), and there is no inbox: what
/// that call cannot carry (several descriptors, tags, data) is refused to its sender with `ECONNREFUSED`.
/// While the queue of signals is full (`RLIMIT_SIGPENDING`), senders see `EAGAIN`. While the descriptor
/// table is full, taking the signal fails with `EMFILE` and it stays queued; a handler is told -1, the
/// reason in `si_errno`, and that descriptor is lost.
///
/// Elsewhere it costs what a [`Receiver`] costs, and a thread, and messages of several descriptors raise a
/// signal for each, in order. While the process's queue of signals is full, or its descriptor table, messages
/// wait; senders see `EAGAIN` once the inbox, too, is full.
///
/// Does not block. A forked child does not listen.
///
/// # Errors
/// - `EINVAL`: the signal is neither handled nor blocked by the calling
///   thread.
/// - `EADDRINUSE`: this process already listens at `port`.
/// - `EAGAIN`: no thread can be started.
/// - `EMFILE`, `ENFILE`, `ENOMEM`: as the kernel says.
///
/// # References
/// - [sigaction(2)](https://man7.org/linux/man-pages/man2/sigaction.2.html), "The siginfo_t argument"
/// - [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html), "Real-time signals"
pub fn listen(port: Port) -> Result<()> {
    let sig = port.signal();
    start(port).map_err(|cause| Error::new(Attempt::Listen { sig }, cause))
}

/// Ends signal mode at `port`. What an agent has not raised a signal for is closed; signals that are
/// already queued stay, and their descriptors are the process's.
///
/// Waits for the agent, if there is one, which takes no longer than a moment, or some seconds where the program has closed
/// descriptors of the library. Not for use in a signal handler.
///
/// # Errors
/// - `EINVAL`: the process is not in signal mode there.
pub fn unlisten(port: Port) -> Result<()> {
    let sig = port.signal();
    stop(port).map_err(|cause| Error::new(Attempt::Unlisten { sig }, cause))
}

fn start(port: Port) -> std::result::Result<(), Cause> {
    let sig = port.signal();
    if sys::disposition(sig)? == sys::Disposition::Default && !sys::is_blocked(sig) {
        return Err(Cause::SignalUnhandled);
    }
    if call::number().is_some() {
        fork::prepare_for_it()?;
        if ports::let_kernel_deliver(sig)? {
            return Ok(());
        }
    }
    let receiver = Arc::new(Receiver::open(port).map_err(|error| error.cause())?);
    let ending = Arc::new(AtomicBool::new(false));
    let thread = sys::with_signals_blocked(|| {
        let (receiver, ending) = (Arc::clone(&receiver), Arc::clone(&ending));
        thread::Builder::new()
            .name(format!("sendfd-{sig}"))
            .stack_size(AGENT_STACK)
            .spawn(move || run(sig, &receiver, &ending))
    });
    let thread = thread
        .map_err(|error| Errno::from_io_error(&error).map_or(Errno::AGAIN.into(), Cause::from))?;
    receiver.employ(Agent::new(thread, ending));
    Ok(())
}

fn stop(port: Port) -> std::result::Result<(), Cause> {
    if ports::stop_kernel(port.signal()) {
        return Ok(());
    }
    let own = sys::generation();
    let agent = ports::dismiss_agent(port.signal()).ok_or(Cause::NotInSignalMode)?;
    // It holds the receiver, which is closed with it.
    sys::join(agent.into_thread(), own);
    Ok(())
}

fn run(sig: i32, receiver: &Receiver, ending: &AtomicBool) {
    // Used again for each message, so that this allocates nothing once it is warm.
    let mut message = Message::default();
    while !ending.load(Ordering::Relaxed) {
        match receiver.recv_into(&mut message, Wait::For(LOOK)) {
            Ok(()) => {
                for fd in message.fds.drain(..) {
                    deliver(sig, message.sender, fd, ending);
                }
            }
            Err(error) if error.cause() == Cause::NeverCame => {}
            // A full table, above all. The message stays where it is.
            Err(_) => thread::sleep(RETRY),
        }
    }
}

/// Raises the signal. The descriptor becomes the process's the moment it is queued.
fn deliver(sig: i32, sender: Credentials, fd: OwnedFd, ending: &AtomicBool) {
    while !ending.load(Ordering::Relaxed) {
        match sys::queue_to_self(sig, sender, fd.as_fd()) {
            Ok(()) => return std::mem::forget(fd),
            // The queue of signals is full.
            Err(_) => thread::sleep(RETRY),
        }
    }
}
