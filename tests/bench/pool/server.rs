//! The same handler behind the pool and as one of several that listen with SO_REUSEPORT: who it is; at
//! /mixed, one in ten takes 20 ms.
//!
//! ```text
//! server [PORT]
//! ```
#![allow(missing_docs, unsafe_code)]

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sendfd_core::{Port, Receiver, Wait};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        match std::env::args().nth(1) {
            Some(port) => listen(port.parse()?).await,
            None => receive().await,
        }
    })
}

async fn listen(port: u16) -> Result<(), Failure> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(4096)?;
    let count = Rc::new(Cell::new(0));
    loop {
        let (connection, _) = listener.accept().await?;
        spawn_local(serve(connection, Rc::clone(&count)));
    }
}

/// Until SIGTERM, and then what was sent before.
async fn receive() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let receiver = Receiver::open(Port::from_signal(std::env::var("SENDFD_PORT")?.parse()?)?)?;
    // SAFETY: an OwnedFd is the same descriptor until it is dropped, with what polls it.
    let polled = unsafe { AsyncFd::register(receiver.as_fd().try_clone_to_owned()?) }?;
    let count = Rc::new(Cell::new(0));
    let mut served = Vec::new();
    let mut ending = false;
    loop {
        let mut ready = None;
        if !ending {
            tokio::select! {
                guard = polled.readable() => ready = Some(guard?),
                _ = terminate.recv() => ending = true,
            }
        }
        while let Ok(message) = receiver.recv(Wait::Never) {
            for fd in message.fds {
                let connection = std::net::TcpStream::from(fd);
                connection.set_nonblocking(true)?;
                let connection = TcpStream::from_std(connection)?;
                served.push(spawn_local(serve(connection, Rc::clone(&count))));
            }
        }
        if let Some(mut ready) = ready {
            ready.clear_ready();
        }
        served.retain(|task| !task.is_finished());
        if ending {
            break;
        }
    }
    drop(receiver);
    for task in served {
        let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
    }
    Ok(())
}

async fn serve(mut connection: TcpStream, count: Rc<Cell<u64>>) {
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            match connection.read_buf(&mut head).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if text.starts_with("get /mixed") {
            count.set(count.get() + 1);
            if count.get() % 10 == 0 {
                // Work, not waiting: nothing else gets on in this process meanwhile.
                let end = Instant::now() + Duration::from_millis(20);
                while Instant::now() < end {}
            }
        }
        let asks = |word: &str| {
            text.lines()
                .any(|line| line == format!("connection: {word}"))
        };
        let keep = asks("keep-alive") || (text.contains(" http/1.1") && !asks("close"));
        let body = format!("{}\n", std::process::id());
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n{body}",
            body.len(),
            if keep { "keep-alive" } else { "close" }
        );
        if connection.write_all(answer.as_bytes()).await.is_err() || !keep {
            return;
        }
        head.clear();
    }
}
