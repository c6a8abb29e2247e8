//! Receiving, into room that C lends.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::{ptr, slice};

use libc::{gid_t, pid_t, size_t, uid_t};
use sendfd_core::{Incoming, Port, Receiver, ReceiverOptions, Room, Wait};

use crate::boundary::{INVALID, PANICKED, Result, boundary, status};
use crate::lent::{self, Growing, end_of};
use crate::memory;

/// A message: the room that the caller lends for it, and what arrived in it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct sendfd_message {
    /// In: sizeof(sendfd_message).
    pub size: u32,
    /// In: how many descriptors there is room for at fds.
    pub max_fds: u32,
    /// In: how many bytes there is room for at data.
    pub max_data: u32,
    /// In: where the descriptors go. May be NULL if max_fds is 0.
    pub fds: *mut c_int,
    /// In: where the data goes. May be NULL if max_data is 0.
    pub data: *mut c_void,
    /// Out: how many descriptors arrived. They are the caller's, to be closed by it.
    pub nfds: u32,
    /// Out: how many bytes of data arrived.
    pub data_len: u32,
    /// Out: the sender's number.
    pub tag: u64,
    /// Out: the way it came, SENDFD_PATH_*.
    pub path: u32,
    /// Out: who sent it, vouched for by the kernel; 0 if the sender is not visible from the
    /// receiver's pid namespace. It says who sent, and is no address to answer to: by the time of an
    /// answer the pid may be another process's.
    pub pid: pid_t,
    /// Out: the sender's user.
    pub uid: uid_t,
    /// Out: the sender's group.
    pub gid: gid_t,
}

// SAFETY: it is repr(C), starts with its size, and consists of numbers and pointers.
unsafe impl Growing for sendfd_message {
    const FIRST: usize = end_of!(sendfd_message, gid: gid_t);
}

/// Who sent the descriptor that sendfd_receiver_recv_fd returns. Start from SENDFD_SENDER_INIT.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct sendfd_sender {
    /// In: sizeof(sendfd_sender).
    pub size: u32,
    /// Out: the way it came, SENDFD_PATH_*.
    pub path: u32,
    /// Out: the sender's number.
    pub tag: u64,
    /// Out: who sent it, vouched for by the kernel; 0 if the sender is not visible from the
    /// receiver's pid namespace. It says who sent, and is no address to answer to: by the time of an
    /// answer the pid may be another process's.
    pub pid: pid_t,
    /// Out: the sender's user.
    pub uid: uid_t,
    /// Out: the sender's group.
    pub gid: gid_t,
    /// 0. For later.
    pub reserved: u32,
}

// SAFETY: it is repr(C), starts with its size, and consists of numbers.
unsafe impl Growing for sendfd_sender {
    const FIRST: usize = end_of!(sendfd_sender, reserved: u32);
}

/// What a receiver is opened with. NULL in its place means the defaults, which are all zero but for
/// the size.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct sendfd_receiver_options {
    /// sizeof(sendfd_receiver_options).
    pub size: u32,
    /// 0.
    pub flags: u32,
    /// How many bytes senders that came by SENDFD_PATH_PIDFD can have queued together, by the
    /// kernel's count, in which the smallest message takes about 768. 0: the kernel's default.
    pub queue_bytes: u32,
    /// How many users there are at uids.
    pub nuids: u32,
    /// Users whose messages are accepted beside this process's own and root. Each costs a
    /// descriptor. May be NULL if nuids is 0.
    pub uids: *const uid_t,
}

// SAFETY: it is repr(C), starts with its size, and consists of numbers and a pointer.
unsafe impl Growing for sendfd_receiver_options {
    const FIRST: usize = end_of!(sendfd_receiver_options, uids: *const uid_t);
}

/// Receives what other processes send to this process at one real-time signal. No signal is raised.
///
/// Where messages queue up, and no thread waits and sendfd_receiver_fd was never used, up to eight
/// are taken from the kernel at once and given out one by one, which is much cheaper. So the descriptors
/// of the next seven may be in this process's table early. They are closed with the receiver, and in
/// a forked child. In a table with fewer than about 2,300 free numbers (RLIMIT_NOFILE is often 1,024) each
/// message is looked at before it is taken, which costs one more system call for each: nothing is lost
/// whatever other threads open meanwhile.
pub struct sendfd_receiver(Receiver);

/// What C lends for one message, as the core sees it. An array of C's is a slice of these.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Lent(sendfd_message);

/// Whether there is room where there is said to be. What it reads is in every release's struct.
///
/// # Safety
/// `at` leads to a message of any release.
unsafe fn check(at: *const sendfd_message) -> Result<()> {
    // SAFETY: a message of every release has these fields, and by the contract `at` leads to one.
    let (max_fds, fds, max_data, data) =
        unsafe { ((*at).max_fds, (*at).fds, (*at).max_data, (*at).data) };
    if (max_fds > 0 && (fds.is_null() || !fds.is_aligned())) || (max_data > 0 && data.is_null()) {
        return Err(INVALID);
    }
    Ok(())
}

/// The caller's message itself, if it is of this release.
///
/// # Safety
/// What the header requires of a message holds for `at`, see `lent`.
unsafe fn room<'a>(at: *mut sendfd_message) -> Result<Option<&'a mut Lent>> {
    // SAFETY: by the contract `at` leads to a message as long as it says, which nobody else uses during the
    // call. If that is the length of this release's, it is one; Lent is transparent.
    unsafe {
        if lent::size(at)? != size_of::<Lent>() || !at.is_aligned() {
            return Ok(None);
        }
        check(at)?;
        Ok(Some(&mut *at.cast()))
    }
}

impl Room for Lent {
    #[inline]
    fn room(&self) -> (usize, usize) {
        (self.0.max_fds as usize, self.0.max_data as usize)
    }

    #[inline]
    fn put(&mut self, incoming: Incoming<'_>) {
        let Lent(message) = self;
        self::needs(message, incoming.fds.len(), incoming.data.len());
        message.tag = incoming.tag;
        message.path = incoming.path as u32;
        message.pid = incoming.sender.pid as i32;
        message.uid = incoming.sender.uid;
        message.gid = incoming.sender.gid;
        for (index, fd) in incoming.fds.enumerate() {
            // SAFETY: the core puts no more than `room` said there is room for, which by the contract there is.
            unsafe { message.fds.add(index).write(fd.into_raw_fd()) };
        }
        if !incoming.data.is_empty() {
            let (from, len) = (incoming.data.as_ptr(), incoming.data.len());
            // SAFETY: as above; the core's buffer is no part of what C lent, so they do not overlap.
            unsafe { ptr::copy_nonoverlapping(from, message.data.cast(), len) };
        }
    }

    fn needs(&mut self, fds: usize, data: usize) {
        self::needs(&mut self.0, fds, data);
    }
}

/// Both numbers are a message's, which has far fewer than 2^32 of either.
fn needs(message: &mut sendfd_message, fds: usize, data: usize) {
    message.nfds = fds as u32;
    message.data_len = data as u32;
}

/// Listens on the real-time signal sig of this process. options may be NULL. A process can have one
/// receiver for each signal.
///
/// On success *out is the caller's, to be closed with sendfd_receiver_close. On an error *out is
/// NULL and nothing is left open.
///
/// If another process sits on the abstract address, the receiver opens all the same and can be
/// reached by SENDFD_PATH_PIDFD; a sendfd_probe of this process says so.
///
/// Returns 0, or
///   -EINVAL      sig is not a real-time signal, out is NULL, flags is not 0, uids is NULL but
///                nuids is not 0, or the size of options is wrong
///   -EADDRINUSE  this process already listens on sig
///   -EMFILE, -ENFILE, -ENOMEM  as the kernel says
///   -ENOTRECOVERABLE  a defect in this library
///
/// Does not block. Costs five descriptors, all close-on-exec, and one more for each sender that
/// comes by SENDFD_PATH_NAME. Safe from any thread. Not for use in a signal handler. A forked
/// child's copy receives nothing (-EBADF) and keeps nothing of its parent's alive; the child may
/// open a receiver of its own.
///
/// See also: unix(7), epoll(7).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_receiver_open(
    sig: c_int,
    options: *const sendfd_receiver_options,
    out: *mut *mut sendfd_receiver,
) -> c_int {
    status(|| {
        memory::ask()?;
        // SAFETY: the header requires out to lead to a pointer, and options to be NULL or whole.
        let (out, options) = unsafe { (lent::place(out)?, receiver_options(options)?) };
        let receiver = Receiver::open_with(Port::from_signal(sig)?, &options)?;
        *out = Box::into_raw(Box::new(sendfd_receiver(receiver)));
        Ok(0)
    })
}

/// # Safety
/// `at` is null, or what the header requires of options holds for it, see `lent`.
unsafe fn receiver_options<'a>(at: *const sendfd_receiver_options) -> Result<ReceiverOptions<'a>> {
    if at.is_null() {
        return Ok(ReceiverOptions::default());
    }
    // SAFETY: by the contract `at` leads to options that are as long as they say, and uids in them to nuids
    // users.
    let (options, uids) = unsafe {
        let options = lent::read(at)?;
        (options, lent::array(options.uids, options.nuids as usize)?)
    };
    if options.flags != 0 {
        return Err(INVALID);
    }
    Ok(ReceiverOptions::new()
        .uids(uids)
        .queue_bytes(options.queue_bytes))
}

/// The descriptor to poll for POLLIN, which is level-triggered: it is readable as long as there is
/// something to receive. It is borrowed: it stays the receiver's, and is not to be read or closed.
///
/// Returns the descriptor, or
///   -EINVAL  receiver is NULL
///
/// Does not block. Safe from any thread. Not for use in a signal handler. In a forked child the
/// descriptor is never readable. From its first use on, no message is taken from the kernel before
/// it is asked for.
///
/// See also: poll(2), epoll(7).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_receiver_fd(receiver: *const sendfd_receiver) -> c_int {
    status(|| {
        // SAFETY: the header requires a receiver that was opened and not closed.
        let receiver = unsafe { lent::object(receiver) }?;
        Ok(receiver.0.as_raw_fd())
    })
}

/// Receives one message into the room that the caller lends in message. timeout_ms is how long to
/// wait for one, in milliseconds. 0: not at all. -1: without limit.
///
/// On success the descriptors at message->fds are the caller's, close-on-exec, in the order sent.
/// On an error nothing was received and nothing is lost; the out fields are not to be used, except
/// after -EMSGSIZE.
///
/// Returns 0, or
///   -EAGAIN     there is no message, and timeout_ms is 0
///   -ETIMEDOUT  none came within timeout_ms
///   -EINTR      a signal handler ran while waiting
///   -EMSGSIZE   the next message needs more room: message->nfds and message->data_len say how
///               much. It stays, and comes first when there is enough. Calls with less room go on
///               with those behind it; where there are none, they are told again, at once, and the
///               descriptor stays readable. sendfd_receiver_discard gives it up
///   -EMFILE     the descriptor table of this process is full. The message stays, and the next call looks
///               at other senders first. (One that carries more than this process can ever have is
///               closed instead, and so is one that lost descriptors because other threads filled
///               the table at the very moment of receiving: this is the report)
///   -EINVAL     receiver or message is NULL, the size of message is wrong, fds or data is NULL but
///               there is said to be room, or timeout_ms is below -1
///   -EBADF      the receiver was inherited through fork
///   -ESHUTDOWN  the receiver has retired, and what was sent before has been received
///   -ENFILE, -ENOMEM  as the kernel says
///   -ENOTRECOVERABLE  a defect in this library
///
/// Blocks for timeout_ms at most. Threads may share a receiver, each with a message of its own. Not
/// for use in a signal handler.
///
/// See also: recvmsg(2), unix(7) "SCM_RIGHTS" and "SCM_CREDENTIALS".
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_receiver_recv(
    receiver: *mut sendfd_receiver,
    message: *mut sendfd_message,
    timeout_ms: c_int,
) -> c_int {
    status(|| {
        memory::enough()?;
        // SAFETY: the header requires a receiver that was opened and not closed.
        let receiver = unsafe { lent::object(receiver.cast_const()) }?;
        let wait = lent::wait(timeout_ms)?;
        // SAFETY: the header requires a message that is as long as it says, and nobody else's meanwhile.
        match unsafe { room(message) }? {
            Some(room) => receiver.0.recv_into(room, wait)?,
            None => {
                // SAFETY: as above: an array of one.
                unsafe { Array::new(message, 1)?.receive(&receiver.0, wait) }?;
            }
        }
        Ok(0)
    })
}

/// Receives as many messages as are there, n at most, into an array of n (at least 1), all of one
/// size. It waits, as sendfd_receiver_recv does, for the first only: having one, it does not wait
/// for more. There may be more messages left than it took; poll says so.
///
/// Returns how many messages of the array were filled, from the first on: at least 1. Their
/// descriptors are the caller's. The out fields of the others are not to be used. Or returns, with
/// nothing received, an error of sendfd_receiver_recv; also -EINVAL if n is 0 or the messages are
/// not all of one size. After -EMSGSIZE the sizes needed are in the first of the array.
///
/// Blocks for timeout_ms at most. Threads may share a receiver, each with an array of its own. Not
/// for use in a signal handler.
///
/// See also: recvmmsg(2).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_receiver_recv_many(
    receiver: *mut sendfd_receiver,
    messages: *mut sendfd_message,
    n: size_t,
    timeout_ms: c_int,
) -> c_int {
    status(|| {
        memory::enough()?;
        // SAFETY: the header requires a receiver that was opened and not closed.
        let receiver = unsafe { lent::object(receiver.cast_const()) }?;
        let wait = lent::wait(timeout_ms)?;
        // SAFETY: the header requires n messages, all as long as the first says, and nobody else's meanwhile.
        let received = unsafe { Array::new(messages, n)?.receive(&receiver.0, wait) }?;
        Ok(received as c_int)
    })
}

/// An array of messages, each `stride` bytes: a caller that was built with a header of another
/// release has shorter or longer ones.
struct Array {
    first: *mut sendfd_message,
    stride: usize,
    count: usize,
}

impl Array {
    /// Checks all of them.
    ///
    /// # Safety
    /// What the header requires of messages holds for `first` and `count`, see `lent`.
    #[inline]
    unsafe fn new(first: *mut sendfd_message, count: usize) -> Result<Self> {
        // SAFETY: by the contract the first leads to as many bytes as it says.
        let stride = unsafe { lent::size(first) }?;
        let most = c_int::MAX as usize / stride;
        if !(1..=most).contains(&count) {
            return Err(INVALID);
        }
        let array = Array {
            first,
            stride,
            count,
        };
        // SAFETY: its size was just found to be that of a message of some release.
        unsafe { check(first) }?;
        for index in 1..count {
            // SAFETY: by the contract there are `count`, each behind the one before, which was found to be `stride`
            // bytes long.
            unsafe {
                let at = array.at(index);
                if lent::size(at)? != stride {
                    return Err(INVALID);
                }
                check(at)?;
            }
        }
        Ok(array)
    }

    /// # Safety
    /// `index` is below the count, of messages that are as long as the first.
    unsafe fn at(&self, index: usize) -> *mut sendfd_message {
        // SAFETY: by the contract below the count, so that it is within the array.
        unsafe { self.first.byte_add(index * self.stride) }
    }

    /// # Safety
    /// What was required of `new` still holds.
    #[inline]
    unsafe fn receive(self, receiver: &Receiver, wait: Wait) -> Result<usize> {
        if self.stride == size_of::<sendfd_message>() && self.first.is_aligned() {
            // SAFETY: `new` found each to be as long as a message of this release, so that they are an array of
            // those; Lent is transparent, and by the contract nobody else uses them.
            let rooms = unsafe { slice::from_raw_parts_mut(self.first.cast::<Lent>(), self.count) };
            return Ok(receiver.recv_many(rooms, wait)?);
        }
        // SAFETY: what it requires is required of this function, too.
        unsafe { self.receive_copies(receiver, wait) }
    }

    /// Into copies, which are put back: theirs are shorter or longer than ours. So many at most.
    ///
    /// # Safety
    /// What was required of `new` still holds.
    unsafe fn receive_copies(self, receiver: &Receiver, wait: Wait) -> Result<usize> {
        const MOST: usize = 16;
        // SAFETY: `new` has checked it.
        let first = unsafe { Lent(lent::read(self.first)?) };
        let mut copies = [first; MOST];
        let count = self.count.min(MOST);
        for (index, copy) in copies.iter_mut().enumerate().take(count) {
            // SAFETY: `index` is below the count, and `new` has checked each.
            *copy = unsafe { Lent(lent::read(self.at(index))?) };
        }
        let received = receiver.recv_many(&mut copies[..count], wait);
        // After an error the first says how much room is needed.
        let changed = received.as_ref().map_or(1, |received| *received);
        for (index, copy) in copies.iter().enumerate().take(changed) {
            // SAFETY: the copy was read from there, and by the contract nobody else uses it meanwhile.
            unsafe { lent::write_back(&copy.0, self.at(index)) };
        }
        Ok(received?)
    }
}

/// Receives a message of one descriptor and no data, and returns the descriptor: for languages
/// whose foreign functions take no structs with pointers in them. sender may be NULL; else it is
/// the caller's, and filled on success. timeout_ms is as for sendfd_receiver_recv.
///
/// Returns the descriptor, which is the caller's and close-on-exec, or an error of
/// sendfd_receiver_recv:
///   -EMSGSIZE   the next message carries several descriptors, or data. It stays: take it with
///               sendfd_receiver_recv, or give it up with sendfd_receiver_discard. Calls of this go
///               on with those behind it
///   -EINVAL     receiver is NULL, the size of sender is wrong, or timeout_ms is below -1
/// and -EAGAIN, -ETIMEDOUT, -EINTR, -EMFILE, -EBADF, -ESHUTDOWN, -ENFILE, -ENOMEM, -ENOTRECOVERABLE as
/// there.
///
/// Blocks for timeout_ms at most. Threads may share a receiver. Not for use in a signal handler.
///
/// See also: recvmsg(2), unix(7) "SCM_RIGHTS" and "SCM_CREDENTIALS".
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn sendfd_receiver_recv_fd(
    receiver: *mut sendfd_receiver,
    timeout_ms: c_int,
    sender: *mut sendfd_sender,
) -> c_int {
    status(|| {
        memory::enough()?;
        // SAFETY: the header requires a receiver that was opened and not closed.
        let receiver = unsafe { lent::object(receiver.cast_const()) }?;
        let wait = lent::wait(timeout_ms)?;
        let mut one = One {
            fd: None,
            sender: sendfd_sender::default(),
        };
        if !sender.is_null() {
            // SAFETY: the header requires a sender that is as long as it says.
            one.sender = unsafe { lent::read(sender) }?;
        }
        receiver.0.recv_into(&mut one, wait)?;
        if !sender.is_null() {
            // SAFETY: the copy was read from there, and the header requires that nobody else uses it meanwhile.
            unsafe { lent::write_back(&one.sender, sender) };
        }
        // There is one: every message carries at least one, and there was room for no more.
        one.fd.map(IntoRawFd::into_raw_fd).ok_or(PANICKED)
    })
}

/// Room for one descriptor.
struct One {
    fd: Option<OwnedFd>,
    sender: sendfd_sender,
}

impl Room for One {
    fn room(&self) -> (usize, usize) {
        (1, 0)
    }

    fn put(&mut self, mut incoming: Incoming<'_>) {
        self.fd = incoming.fds.next();
        self.sender.path = incoming.path as u32;
        self.sender.tag = incoming.tag;
        self.sender.pid = incoming.sender.pid as i32;
        self.sender.uid = incoming.sender.uid;
        self.sender.gid = incoming.sender.gid;
    }

    fn needs(&mut self, _fds: usize, _data: usize) {}
}

/// Retires a receiver: it stops listening and goes on receiving. From now on senders get
/// -ECONNREFUSED, or reach whoever listens at the signal next, which may be a new receiver of this very
/// process. What was sent before is received to the last, and then receiving fails with -ESHUTDOWN:
/// close it then. So a worker stops, restarts or calls exec with nothing lost.
///
/// Returns 0, also when it had retired already, or
///   -EINVAL  receiver is NULL
///   -EBADF   the receiver was inherited through fork
///   -ENOTRECOVERABLE  a defect in this library
///
/// Does not block. sendfd_receiver_fd stays readable from then on. Safe from any thread. Not for use
/// in a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_receiver_retire(receiver: *mut sendfd_receiver) -> c_int {
    status(|| {
        // SAFETY: the header requires a receiver that was opened and not closed.
        let receiver = unsafe { lent::object(receiver.cast_const()) }?;
        receiver.0.retire()?;
        Ok(0)
    })
}

/// Gives up the message of which receiving last said that it does not fit, into the room lent
/// (-EMSGSIZE) or into the descriptor table (-EMFILE), and closes what it carries.
///
/// Returns 1, or 0 if there was no such message, or
///   -EINVAL  receiver is NULL
///   -EBADF   the receiver was inherited through fork
///   -ENOTRECOVERABLE  a defect in this library
///
/// Waits a tenth of a second at most for what takes long to close, which then goes on without the
/// caller. Safe from any thread. Not for use in a signal handler.
///
/// See also: close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_receiver_discard(receiver: *mut sendfd_receiver) -> c_int {
    status(|| {
        // SAFETY: the header requires a receiver that was opened and not closed.
        let receiver = unsafe { lent::object(receiver.cast_const()) }?;
        Ok(receiver.0.discard()?.into())
    })
}

/// Closes a receiver: its descriptors, and what nobody received. Senders get -ECONNREFUSED from then
/// on. NULL is allowed.
///
/// Nobody may use the receiver any more, in any thread. Waits a tenth of a second at most for what takes
/// long to close, which then goes on without the caller. Not for use in a signal handler. In a forked
/// child it closes the child's copy only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_receiver_close(receiver: *mut sendfd_receiver) {
    boundary((), || {
        if !receiver.is_null() {
            // SAFETY: sendfd_receiver_open made it by Box::into_raw, and the header requires that it is closed
            // once and not used any more.
            drop(unsafe { Box::from_raw(receiver) });
        }
    })
}
