//! A worker of the pool in a tokio runtime. What it has to do is in ../pool/README.md.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use sendfd_core::tokio::Receiver;
use sendfd_core::{Message, Port};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = Port::from_signal(std::env::var("SENDFD_PORT")?.parse()?)?;
    let mut stop = signal(SignalKind::terminate())?;
    let mut receiver = Receiver::open(port)?;
    let mut clients = JoinSet::new();
    loop {
        // Whatever `select!` does not take is dropped, and nothing is lost by that.
        tokio::select! {
            message = receiver.next() => match message {
                Some(Ok(message)) => serve(message, &mut clients),
                // A full table, for one: the stream tries again when it is asked for the next.
                Some(Err(error)) => eprintln!("{error}"),
                // Retired, and all that was sent before has come.
                None => break,
            },
            _ = stop.recv() => receiver.get_ref().retire()?,
            // What has ended is forgotten.
            Some(_) = clients.join_next() => {}
        }
    }
    clients.join_all().await;
    Ok(())
}

fn serve(message: Message, clients: &mut JoinSet<()>) {
    for fd in message.fds {
        clients.spawn(async {
            let answered =
                tokio::time::timeout(Duration::from_secs(5), answer(TcpStream::from(fd)));
            // A client that went away is no reason to stop.
            let _ = answered.await;
        });
    }
}

async fn answer(connection: TcpStream) -> io::Result<()> {
    connection.set_nonblocking(true)?;
    let mut connection = BufReader::new(tokio::net::TcpStream::from_std(connection)?);
    let mut line = String::new();
    // The request ends with an empty line.
    while connection.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let body = format!("tokio {}\n", std::process::id());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}
