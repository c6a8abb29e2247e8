//! What the pool says of itself on standard error, and what it passes on of its workers: a line each.
//!
//! Two threads write the lines, one for each stream: who does not read them keeps nobody from being served.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::paint::{BAD, DIM};

/// How many lines wait to be written. Beyond them, they are counted and left out.
const ROOM: usize = 4096;

/// How long the end of the pool waits for its last lines to be read.
const PATIENCE: Duration = Duration::from_secs(1);

static ERRORS: OnceLock<Writer> = OnceLock::new();
static OUTPUT: OnceLock<Writer> = OnceLock::new();

/// What goes to the thread.
enum Line {
    Text(String),
    /// All before it was written.
    Flushed(SyncSender<()>),
}

struct Writer {
    lines: SyncSender<Line>,
    left_out: &'static AtomicU64,
}

pub(crate) fn note(text: impl std::fmt::Display) {
    errors().write(format!("{DIM}pool:{DIM:#} {text}\n"));
}

pub(crate) fn trouble(text: impl std::fmt::Display) {
    errors().write(format!("{BAD}pool:{BAD:#} {text}\n"));
}

/// A line of a worker's, as it came.
pub(crate) fn pass_on(name: &str, text: &str, is_error: bool) {
    let writer = if is_error { errors() } else { output() };
    writer.write(format!("{name}: {text}\n"));
}

/// Waits until all lines were written, or for a second where nobody reads them.
pub(crate) fn flush() {
    let end = Instant::now() + PATIENCE;
    for writer in [ERRORS.get(), OUTPUT.get()].into_iter().flatten() {
        writer.flush(end);
    }
}

fn errors() -> &'static Writer {
    static LEFT_OUT: AtomicU64 = AtomicU64::new(0);
    ERRORS.get_or_init(|| {
        let mut stream = anstream::stderr();
        Writer::start(&LEFT_OUT, move |text| {
            // Nobody may read it any more: that is no reason to end.
            let _ = stream.write_all(text.as_bytes());
        })
    })
}

fn output() -> &'static Writer {
    static LEFT_OUT: AtomicU64 = AtomicU64::new(0);
    OUTPUT.get_or_init(|| {
        Writer::start(&LEFT_OUT, |text| {
            let mut stream = std::io::stdout().lock();
            let _ = stream.write_all(text.as_bytes());
            let _ = stream.flush();
        })
    })
}

impl Writer {
    fn start(left_out: &'static AtomicU64, write: impl FnMut(&str) + Send + 'static) -> Self {
        let (lines, waiting) = sync_channel(ROOM);
        // Without a thread, no line is written: the pool serves all the same.
        let thread = std::thread::Builder::new().stack_size(128 * 1024);
        let _ = thread.spawn(move || write_all(&waiting, left_out, write));
        Writer { lines, left_out }
    }

    fn write(&self, text: String) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(text)) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, end: Instant) {
        let (flushed, wait) = sync_channel(1);
        let mut line = Line::Flushed(flushed);
        while let Err(TrySendError::Full(back)) = self.lines.try_send(line) {
            if Instant::now() >= end {
                return;
            }
            line = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn write_all(lines: &Receiver<Line>, left_out: &AtomicU64, mut write: impl FnMut(&str)) {
    for line in lines {
        match line {
            Line::Text(text) => write(&text),
            Line::Flushed(flushed) => drop(flushed.try_send(())),
        }
        let count = left_out.swap(0, Ordering::Relaxed);
        if count > 0 {
            write(&format!(
                "{BAD}pool:{BAD:#} {count} lines were left out: nobody read what came before\n"
            ));
        }
    }
}
