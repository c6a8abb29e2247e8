//! The receiver, and the form in which its messages cross into JavaScript.

use napi::bindgen_prelude::{Env, Function, JsValue, Uint32ArraySlice};
use napi::{Either, Result};
use napi_derive::napi;
use sendfd_core::{Incoming, MAX_DATA, MAX_FDS, Port, ReceiverOptions, Room, Wait};

use crate::Failure;
use crate::descriptors::Descriptors;
use crate::poller::Poller;

/// The words before the descriptors: pid, uid, gid, path, the tag's halves, and both counts.
const HEAD: usize = 8;

/// How many 32-bit words one message takes in the block that JavaScript lends.
#[napi]
pub const MESSAGE_WORDS: u32 = (HEAD + MAX_FDS + MAX_DATA / 4) as u32;

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
            core: Some(core),
            descriptors: descriptors.clone(),
        }),
        Err(error) => Either::B(error.into()),
    })
}

/// An open receiver.
#[napi]
pub struct NativeReceiver {
    // Before the descriptor that it watches.
    poller: Option<Poller>,
    core: Option<sendfd_core::Receiver>,
    descriptors: Descriptors,
}

#[napi]
impl NativeReceiver {
    /// Receives as many messages as are there, `limit` at most, into `block`, and answers how many.
    #[napi]
    pub fn receive(&self, mut block: Uint32ArraySlice<'_>, limit: u32) -> Either<u32, Failure> {
        let Some(core) = &self.core else {
            return Either::A(0);
        };
        #[allow(unsafe_code)]
        // SAFETY: `lib/` keeps the block to itself, and no JavaScript runs before this returns.
        let words = unsafe { block.as_mut() };
        let mut rooms: Vec<Slot<'_>> = words
            .chunks_exact_mut(MESSAGE_WORDS as usize)
            .take(limit as usize)
            .map(|words| Slot {
                words,
                descriptors: &self.descriptors,
            })
            .collect();
        match core.recv_many(&mut rooms, Wait::Never) {
            Ok(count) => Either::A(count as u32),
            Err(error) if error.raw_os_error() == libc::EAGAIN => Either::A(0),
            Err(error) => Either::B(error.into()),
        }
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
        self.core.as_ref().map_or(0.0, |core| core.dropped() as f64)
    }

    /// Closes it, and with it what nobody received.
    #[napi]
    pub fn close(&mut self) {
        self.poller = None;
        self.core = None;
    }
}

/// Room for one message in the block.
struct Slot<'a> {
    words: &'a mut [u32],
    descriptors: &'a Descriptors,
}

impl Room for Slot<'_> {
    fn room(&self) -> (usize, usize) {
        (MAX_FDS, MAX_DATA)
    }

    fn put(&mut self, incoming: Incoming<'_>) {
        let (head, rest) = self.words.split_at_mut(HEAD);
        let (fds, data) = rest.split_at_mut(MAX_FDS);
        let mut count = 0;
        for (word, fd) in fds.iter_mut().zip(incoming.fds) {
            *word = self.descriptors.take(fd).cast_unsigned();
            count += 1;
        }
        for (word, bytes) in data.iter_mut().zip(incoming.data.chunks(4)) {
            let mut four = [0; 4];
            four[..bytes.len()].copy_from_slice(bytes);
            *word = u32::from_ne_bytes(four);
        }
        head.copy_from_slice(&[
            incoming.sender.pid,
            incoming.sender.uid,
            incoming.sender.gid,
            incoming.path as u32,
            incoming.tag as u32,
            (incoming.tag >> 32) as u32,
            count,
            incoming.data.len() as u32,
        ]);
    }
}
