//! A worker of the pool, in Rust. What it has to do is in README.md.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sendfd_core::{Port, Receiver, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sig = std::env::args().next_back().unwrap_or_default().parse()?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;

    let receiver = Receiver::open(Port::from_signal(sig)?)?;
    while !stop.load(Ordering::Relaxed) {
        // The signal may come just before the wait, so that no wait is for ever.
        let Ok(message) = receiver.recv(Wait::For(Duration::from_millis(200))) else {
            continue;
        };
        for fd in message.fds {
            // A client that went away is no reason to stop.
            let _ = answer(TcpStream::from(fd));
        }
    }
    Ok(())
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
