//! A worker of the pool, in Rust. What it has to do is in README.md.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sendfd_core::{Cause, Port, Receiver, Wait};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sig = std::env::var("SENDFD_PORT")?.parse()?;
    let receiver = Arc::new(Receiver::open(Port::from_signal(sig)?)?);
    let mut signals = Signals::new([SIGTERM])?;
    let retiring = Arc::clone(&receiver);
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            retiring.retire()
        } else {
            Ok(())
        }
    });
    loop {
        match receiver.recv(Wait::Forever) {
            Ok(message) => {
                for fd in message.fds {
                    // A client that went away is no reason to stop.
                    let _ = answer(TcpStream::from(fd));
                }
            }
            Err(error) => match error.cause() {
                // Told to stop, it has served all that was sent before.
                Cause::Retired => return Ok(()),
                Cause::Interrupted => {}
                // The message waits.
                Cause::TableFull => thread::sleep(Duration::from_millis(10)),
                _ => return Err(error.into()),
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
