//! A worker of the pool with mio, in an event loop written by hand. What it has to do is in
//! ../pool/README.md.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::{TcpStream, UnixStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use sendfd_core::{Cause, Port, Receiver, Wait};

const RECEIVER: Token = Token(0);
const STOP: Token = Token(1);

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client, what it has sent so far, and until when it may take.
struct Client {
    connection: TcpStream,
    request: Vec<u8>,
    until: Instant,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = Port::from_signal(std::env::var("SENDFD_PORT")?.parse()?)?;
    let (told, stop) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, told)?;
    stop.set_nonblocking(true)?;
    let mut stop = UnixStream::from_std(stop);
    let receiver = Receiver::open(port)?;

    let mut poll = Poll::new()?;
    let number = receiver.as_raw_fd();
    let mut source = SourceFd(&number);
    poll.registry()
        .register(&mut source, RECEIVER, Interest::READABLE)?;
    poll.registry()
        .register(&mut stop, STOP, Interest::READABLE)?;

    let mut clients = HashMap::new();
    let mut open = true;
    let mut next = 2;
    while open || !clients.is_empty() {
        let mut events = Events::with_capacity(64);
        match poll.poll(&mut events, Some(Duration::from_secs(1))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                RECEIVER if open => {
                    open = receive(&receiver, poll.registry(), &mut clients, &mut next)?;
                    // mio tells of changes alone. Registered again, the receiver is reported if there
                    // is still something: one round does not take any number of messages.
                    poll.registry()
                        .reregister(&mut source, RECEIVER, Interest::READABLE)?;
                }
                RECEIVER => {}
                // What was sent before is still received, to the last.
                STOP => receiver.retire()?,
                token => {
                    if let Some(client) = clients.get_mut(&token)
                        && is_done(client)
                    {
                        clients.remove(&token);
                    }
                }
            }
        }
        clients.retain(|_, client| client.until > Instant::now());
    }
    Ok(())
}

/// Takes some messages. False once the receiver has retired and all was received.
fn receive(
    receiver: &Receiver,
    registry: &Registry,
    clients: &mut HashMap<Token, Client>,
    next: &mut usize,
) -> Result<bool, Box<dyn std::error::Error>> {
    for _ in 0..64 {
        let message = match receiver.recv(Wait::Never) {
            Ok(message) => message,
            Err(error) => match error.cause() {
                Cause::Empty => break,
                Cause::Retired => return Ok(false),
                // The message stays until clients have gone.
                Cause::TableFull => {
                    std::thread::sleep(Duration::from_millis(20));
                    break;
                }
                _ => return Err(error.into()),
            },
        };
        for fd in message.fds {
            let connection = std::net::TcpStream::from(fd);
            connection.set_nonblocking(true)?;
            let mut client = Client {
                connection: TcpStream::from_std(connection),
                request: Vec::new(),
                until: Instant::now() + PATIENCE,
            };
            let token = Token(*next);
            *next += 1;
            registry.register(&mut client.connection, token, Interest::READABLE)?;
            clients.insert(token, client);
        }
    }
    Ok(true)
}

/// Reads what has come, and answers when that is a request. Whether the client needs nothing more.
fn is_done(client: &mut Client) -> bool {
    let mut part = [0; 4096];
    loop {
        match client.connection.read(&mut part) {
            Ok(0) => return true,
            Ok(length) => client.request.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It went away.
            Err(_) => return true,
        }
    }
    let is_whole = client.request.windows(4).any(|end| end == b"\r\n\r\n");
    if is_whole {
        let body = format!("mio {}\n", std::process::id());
        // So short an answer fits into the socket's buffer.
        let _ = write!(
            client.connection,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    is_whole
}
