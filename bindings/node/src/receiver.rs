//! The receiver, and the form in which its messages cross into JavaScript.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use napi::bindgen_prelude::{Buffer, Env, Function, JsValue, Uint32ArraySlice};
use napi::{Either, Result};
use napi_derive::napi;
use sendfd_core::{Incoming, MAX_DATA, MAX_FDS, Port, ReceiverOptions, Room, Wait};

use crate::Failure;
use crate::descriptors::Descriptors;
use crate::poller::Poller;
use crate::signals::Signals;
use crate::sys::lent;
use crate::sys::signal::Taken;

/// How many bytes of data a record has room for. More waits in the receiver, for JavaScript to fetch.
const INLINE: usize = 4096;

/// Where the parts of a message are in its record in the block that JavaScript lends, in 32-bit words.
/// It reads this here.
#[napi(object, object_from_js = false)]
pub struct Layout {
    /// Who sent it.
    pub pid: u32,
    /// Who sent it.
    pub uid: u32,
    /// Who sent it.
    pub gid: u32,
    /// The bit of the path that it came by.
    pub path: u32,
    /// The tag's lower half.
    pub tag_low: u32,
    /// The tag's upper half.
    pub tag_high: u32,
    /// How many descriptors.
    pub count: u32,
    /// How many bytes of data.
    pub length: u32,
    /// The descriptors.
    pub fds: u32,
    /// The data, or which one of `large` it is.
    pub data: u32,
    /// The whole record.
    pub size: u32,
    /// How many bytes of data it has room for.
    pub inline: u32,
}

const FDS: usize = 8;
const DATA: usize = FDS + MAX_FDS;
const SIZE: usize = DATA + INLINE / 4;

const LAYOUT: Layout = Layout {
    pid: 0,
    uid: 1,
    gid: 2,
    path: 3,
    tag_low: 4,
    tag_high: 5,
    count: 6,
    length: 7,
    fds: FDS as u32,
    data: DATA as u32,
    size: SIZE as u32,
    inline: INLINE as u32,
};

/// The layout of a record.
#[napi]
#[must_use]
pub fn layout() -> Layout {
    LAYOUT
}

/// Opens a receiver on `sig`. What it receives is `descriptors`'. `uv` says that libuv may be asked
/// to watch it.
#[napi]
pub fn open_receiver(
    env: Env,
    sig: i32,
    uids: Vec<u32>,
    queue_bytes: u32,
    descriptors: &Descriptors,
    uv: bool,
) -> Result<Either<NativeReceiver, Failure>> {
    let options = ReceiverOptions::new().uids(&uids).queue_bytes(queue_bytes);
    let open =
        Port::from_signal(sig).and_then(|port| sendfd_core::Receiver::open_with(port, &options));
    Ok(match open {
        // All that is needed to receive is opened now: later, the descriptor table may be full.
        Ok(core) => Either::A(NativeReceiver {
            poller: Some(Poller::open(env.raw(), &core, uv)?),
            source: Some(Source::Inbox(core)),
            descriptors: descriptors.clone(),
            large: RefCell::default(),
        }),
        Err(error) => Either::B(error.into()),
    })
}

/// Starts signal mode at `sig`. What the signals bring is `descriptors`'.
#[napi]
pub fn listen(
    env: Env,
    sig: i32,
    descriptors: &Descriptors,
    uv: bool,
) -> Result<Either<NativeReceiver, Failure>> {
    Ok(match Signals::listen(sig) {
        Ok(signals) => Either::A(NativeReceiver {
            poller: Some(Poller::open(env.raw(), &signals, uv)?),
            source: Some(Source::Signals(RefCell::new(signals))),
            descriptors: descriptors.clone(),
            large: RefCell::default(),
        }),
        Err(failure) => Either::B(failure),
    })
}

/// Where messages come from.
enum Source {
    Inbox(sendfd_core::Receiver),
    Signals(RefCell<Signals>),
}

/// An open receiver.
#[napi]
pub struct NativeReceiver {
    // Before the descriptor that it watches.
    poller: Option<Poller>,
    source: Option<Source>,
    descriptors: Descriptors,
    /// Data for which a record has no room, until it is fetched or more is received.
    large: RefCell<Vec<Vec<u8>>>,
}

#[napi]
impl NativeReceiver {
    /// Receives as many messages as are there, `limit` at most, into `block`, and answers how many.
    #[napi]
    pub fn receive(&self, mut block: Uint32ArraySlice<'_>, limit: u32) -> Either<u32, Failure> {
        let Some(source) = &self.source else {
            return Either::A(0);
        };
        self.large.borrow_mut().clear();
        let mut rooms: Vec<Slot<'_>> = lent(&mut block)
            .chunks_exact_mut(SIZE)
            .take(limit as usize)
            .map(|words| Slot {
                words,
                descriptors: &self.descriptors,
                large: &self.large,
            })
            .collect();
        match source {
            Source::Inbox(core) => match core.recv_many(&mut rooms, Wait::Never) {
                Ok(count) => Either::A(count as u32),
                Err(error) if error.raw_os_error() == libc::EAGAIN => Either::A(0),
                Err(error) => Either::B(error.into()),
            },
            Source::Signals(signals) => {
                let most = rooms.len();
                let put = |nth: usize, taken, fd| rooms[nth].put_signal(taken, fd);
                match signals.borrow_mut().receive(most, put) {
                    Some(count) => Either::A(count as u32),
                    None => Either::B(Failure {
                        errno: -libc::ESHUTDOWN,
                        message: "signal mode has ended".into(),
                        hint: None,
                    }),
                }
            }
        }
    }

    /// The data of a message just received for which its record had no room.
    #[napi]
    pub fn large(&self, index: u32) -> Buffer {
        let mut large = self.large.borrow_mut();
        large
            .get_mut(index as usize)
            .map(std::mem::take)
            .unwrap_or_default()
            .into()
    }

    /// Has `ready` called whenever there is something to receive, until [`Self::stop`].
    #[napi]
    pub fn start(&self, env: Env, ready: Function<'_, (), ()>) -> Result<()> {
        match &self.poller {
            Some(poller) => poller.start(env.raw(), ready.raw()),
            None => Ok(()),
        }
    }

    /// No more calls, and the event loop is not kept alive.
    #[napi]
    pub fn stop(&self) {
        if let Some(poller) = &self.poller {
            poller.stop();
        }
    }

    /// Whether the event loop is kept alive while this is started.
    #[napi]
    pub fn keep_alive(&self, env: Env, keep: bool) {
        if let Some(poller) = &self.poller {
            poller.keep_alive(env.raw(), keep);
        }
    }

    /// How many records were dropped.
    #[napi]
    pub fn dropped(&self) -> f64 {
        match &self.source {
            None => 0.0,
            Some(Source::Inbox(core)) => core.dropped() as f64,
            Some(Source::Signals(signals)) => signals.borrow().dropped() as f64,
        }
    }

    /// Senders are refused from now on; what was sent already is still received.
    #[napi]
    pub fn retire(&self) -> Option<Failure> {
        match self.source.as_ref()? {
            Source::Inbox(core) => core.retire().err().map(Failure::from),
            Source::Signals(signals) => {
                signals.borrow_mut().end();
                None
            }
        }
    }

    /// Closes it, and with it what nobody received.
    #[napi]
    pub fn close(&mut self) {
        self.poller = None;
        self.source = None;
    }
}

/// Room for one message in the block.
struct Slot<'a> {
    words: &'a mut [u32],
    descriptors: &'a Descriptors,
    large: &'a RefCell<Vec<Vec<u8>>>,
}

impl Room for Slot<'_> {
    fn room(&self) -> (usize, usize) {
        (MAX_FDS, MAX_DATA)
    }

    fn put(&mut self, incoming: Incoming<'_>) {
        let mut count = 0;
        for (word, fd) in self.words[FDS..DATA].iter_mut().zip(incoming.fds) {
            *word = self.descriptors.take(fd).cast_unsigned();
            count += 1;
        }
        if incoming.data.len() > INLINE {
            let mut large = self.large.borrow_mut();
            self.words[DATA] = large.len() as u32;
            large.push(incoming.data.to_vec());
        } else {
            for (word, bytes) in self.words[DATA..].iter_mut().zip(incoming.data.chunks(4)) {
                let mut four = [0; 4];
                four[..bytes.len()].copy_from_slice(bytes);
                *word = u32::from_ne_bytes(four);
            }
        }
        self.write([
            (LAYOUT.pid, incoming.sender.pid),
            (LAYOUT.uid, incoming.sender.uid),
            (LAYOUT.gid, incoming.sender.gid),
            (LAYOUT.path, incoming.path as u32),
            (LAYOUT.tag_low, incoming.tag as u32),
            (LAYOUT.tag_high, (incoming.tag >> 32) as u32),
            (LAYOUT.count, count),
            (LAYOUT.length, incoming.data.len() as u32),
        ]);
    }
}

impl Slot<'_> {
    /// A signal says less than a message: neither the sender's group nor the way it came.
    fn put_signal(&mut self, taken: Taken, fd: OwnedFd) {
        self.words[FDS] = self.descriptors.take(fd).cast_unsigned();
        self.write([
            (LAYOUT.pid, taken.pid),
            (LAYOUT.uid, taken.uid),
            (LAYOUT.gid, u32::MAX),
            (LAYOUT.path, 0),
            (LAYOUT.tag_low, 0),
            (LAYOUT.tag_high, 0),
            (LAYOUT.count, 1),
            (LAYOUT.length, 0),
        ]);
    }

    fn write(&mut self, fields: [(u32, u32); 8]) {
        for (at, word) in fields {
            self.words[at as usize] = word;
        }
    }
}
