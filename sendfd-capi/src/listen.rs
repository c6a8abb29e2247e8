//! Signal mode.

use std::ffi::c_int;

use sendfd_core::Port;

use crate::boundary::status;
use crate::memory;

/// si_code of a signal by which the kernel itself delivered a descriptor. No process can send such a
/// one to another.
pub const SENDFD_SI_SENDFD: c_int = 0x81;

const _: () = assert!(SENDFD_SI_SENDFD == sendfd_core::SI_SENDFD);

/// Signal mode: from now on each descriptor that is sent to this process at the real-time signal
/// sig raises sig in it. si_pid and si_uid are the sender's, vouched for by the kernel;
/// si_value.sival_int is the number of the descriptor, which is open in this process,
/// close-on-exec, and owned by it: whoever takes the signal closes the descriptor. si_code is
/// SENDFD_SI_SENDFD where the kernel did it, else SI_QUEUE. The pid says who sent, and is no address
/// to answer to: by the time of an answer it may be another process's.
///
/// With SI_QUEUE the kernel does not vouch for the number: whoever may signal the process (its own user
/// and root) can send it the signal with one that was made up. What is not open and close-on-exec
/// (fcntl(2), F_GETFD) was not delivered; a program that must know more uses a receiver.
///
/// Arrange for the signal before the call: install a handler (with SA_SIGINFO), or block it in all
/// threads and take it with sigwaitinfo or a signalfd. A real-time signal that nobody asked for
/// kills the process. Who sets another handler later calls this again. Tags and data do not arrive.
///
/// On a kernel that has sendfd(2) this is a flag of sigaction(2) and no more: what that call cannot
/// carry (several descriptors, tags, data) is refused with -ECONNREFUSED. While the queue of
/// signals (RLIMIT_SIGPENDING) is full, senders get -EAGAIN; while the descriptor table is full,
/// sigwaitinfo and a signalfd fail with EMFILE and the signal stays queued, but a handler is told
/// -1, the reason in si_errno, and that descriptor is lost.
///
/// Elsewhere a message of several descriptors raises a signal for each, in order, and messages wait
/// while the queue of signals or the table is full: nothing is lost, and senders get -EAGAIN once
/// the inbox is full too.
///
/// Returns 0, or
///   -EINVAL      sig is not a real-time signal, or it is neither handled nor blocked by the
///                calling thread
///   -EADDRINUSE  this process already listens on sig
///   -EAGAIN      no thread can be started
///   -EMFILE, -ENFILE, -ENOMEM  as the kernel says
///   -ENOTRECOVERABLE  a defect in this library; nothing is known of the state
///
/// Does not block. Where the kernel does not do it, costs a thread, which has all signals blocked,
/// and what a receiver costs.
/// Safe from any thread. Not for use in a signal handler. A forked child is not in signal mode, and
/// may call this itself.
///
/// See also: sigaction(2), sigwaitinfo(2), signalfd(2), signal(7).
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn sendfd_listen(sig: c_int) -> c_int {
    status(|| {
        memory::ask()?;
        sendfd_core::listen(Port::from_signal(sig)?)?;
        Ok(0)
    })
}

/// Ends signal mode on sig. Descriptors for which no signal was raised yet are closed. Signals that
/// are already queued stay, and their descriptors are the process's.
///
/// Returns 0, or
///   -EINVAL  sig is not a real-time signal, or the process is not in signal mode there
///   -ENOTRECOVERABLE  a defect in this library
///
/// Waits for the library's thread to end, which takes a moment. Safe from any thread. Not for use
/// in a signal handler.
#[unsafe(no_mangle)]
pub extern "C" fn sendfd_unlisten(sig: c_int) -> c_int {
    status(|| {
        sendfd_core::unlisten(Port::from_signal(sig)?)?;
        Ok(0)
    })
}
