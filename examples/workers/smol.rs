//! A worker of the pool with smol, or whatever else uses async-io. What it has to do is in
//! ../pool/README.md.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use sendfd_core::{Cause, Message, Port, Receiver, Wait};
use smol::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use smol::{Async, Timer, future};

/// A receiver whose descriptor async-io watches. It is asked before it is waited for, and reported as long
/// as it is readable, so that nothing has to be drained.
type Watched = Async<Receiver>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = Port::from_signal(std::env::var("SENDFD_PORT")?.parse()?)?;
    let (told, stop) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, told)?;
    let stop = Async::new(stop)?;
    let receiver = Arc::new(Async::new_nonblocking(Receiver::open(port)?)?);
    let executor = smol::LocalExecutor::new();

    // Told to stop, it still serves what was sent before.
    let retire = executor.spawn({
        let receiver = Arc::clone(&receiver);
        async move {
            stop.readable().await?;
            receiver
                .as_ref()
                .get_ref()
                .retire()
                .map_err(io::Error::from)
        }
    });
    let mut clients = Vec::new();
    future::block_on(executor.run(async {
        while let Some(message) = next(&receiver).await? {
            clients.retain(|client: &smol::Task<()>| !client.is_finished());
            clients.extend(message.fds.into_iter().map(|fd| {
                executor.spawn(async {
                    let late = async {
                        Timer::after(Duration::from_secs(5)).await;
                        Ok(())
                    };
                    // A client that went away is no reason to stop.
                    let _ = future::or(answer(TcpStream::from(fd)), late).await;
                })
            }));
        }
        for client in clients {
            client.await;
        }
        retire.await?;
        Ok(())
    }))
}

/// The next message; nothing once the receiver has retired and all was received.
async fn next(receiver: &Watched) -> sendfd_core::Result<Option<Message>> {
    loop {
        let error = match receiver.get_ref().recv(Wait::Never) {
            Ok(message) => return Ok(Some(message)),
            Err(error) => error,
        };
        match error.cause() {
            Cause::Empty => {
                // Fails only where the descriptor can no longer be watched; then asking again tells.
                let _ = receiver.readable().await;
            }
            // The message stays until there is room for it.
            Cause::TableFull => {
                Timer::after(Duration::from_millis(20)).await;
            }
            Cause::Retired => return Ok(None),
            _ => return Err(error),
        }
    }
}

async fn answer(connection: TcpStream) -> io::Result<()> {
    let mut connection = BufReader::new(Async::new(connection)?);
    let mut line = String::new();
    // The request ends with an empty line.
    while connection.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let body = format!("smol {}\n", std::process::id());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.get_mut().write_all(answer.as_bytes()).await
}
