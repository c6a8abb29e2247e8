//! A worker of the pool, in Rust. What it has to do is in README.md.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sendfd_core::{Cause, Message, Port, Receiver, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sig = std::env::var("SENDFD_PORT")?.parse()?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;

    let receiver = Receiver::open(Port::from_signal(sig)?)?;
    // Told to stop, it still serves what was sent before.
    while let Some(message) = next(&receiver, &stop)? {
        for fd in message.fds {
            // A client that went away is no reason to stop.
            let _ = answer(TcpStream::from(fd));
        }
    }
    Ok(())
}

/// The next message; nothing once it was told to stop and has served what there was.
fn next(receiver: &Receiver, stop: &AtomicBool) -> sendfd_core::Result<Option<Message>> {
    loop {
        let ending = stop.load(Ordering::Relaxed);
        // The signal may come just before the wait, so that no wait is for ever.
        let wait = if ending {
            Wait::Never
        } else {
            Wait::For(Duration::from_millis(200))
        };
        match receiver.recv(wait) {
            Ok(message) => return Ok(Some(message)),
            Err(error) if error.raw_os_error() == rustix::io::Errno::AGAIN.raw_os_error() => {
                return Ok(None);
            }
            Err(error) => match error.cause() {
                Cause::NeverCame | Cause::Interrupted | Cause::TableFull => {}
                _ => return Err(error),
            },
        }
    }
}

fn answer(connection: TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(&connection);
    let mut line = String::new();
    // The request ends with an empty line.
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = format!("rust {}\n", std::process::id());
    write!(
        &connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
