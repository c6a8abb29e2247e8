//! The workers of the pool, each with another event loop: requests all the time, a stop in the middle, and
//! none that is lost.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sendfd_core::{Cause, Port, SendOptions, Wait, WaitFor, send_with};

fn serves(name: &str, program: &str, nth: u32) {
    let port = Port::new(nth).unwrap();
    let mut worker = Command::new(program)
        .env("SENDFD_PORT", port.signal().to_string())
        .spawn()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let request = |stays: bool| {
        let client = TcpStream::connect(address).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let (connection, _) = listener.accept().unwrap();
        let mut options = SendOptions::new().wait(Wait::For(Duration::from_secs(60)));
        if !stays {
            options = options.wait_for(WaitFor::Room);
        }
        let sent = send_with(worker.id(), port, &[connection.as_fd()], &options);
        match sent {
            Ok(()) => Some(client),
            Err(error) if !stays => {
                let gone = [Cause::NotListening, Cause::NoSuchProcess];
                assert!(gone.contains(&error.cause()), "{error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    };
    let expected = format!("{name} {}\n", worker.id());
    let answered = |mut client: TcpStream| {
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
        assert!(answer.ends_with(&expected), "{answer:?}");
    };

    for _ in 0..20 {
        answered(request(true).unwrap());
    }
    // Many that are connected and ask nothing yet, one that goes away, and then a stop.
    let clients: Vec<TcpStream> = (0..100).map(|_| request(true).unwrap()).collect();
    drop(request(true));
    let pid = Pid::from_raw(worker.id() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let last = request(false);
    clients.into_iter().chain(last).for_each(answered);
    assert!(worker.wait().unwrap().success());
}

#[test]
fn tokio() {
    serves("tokio", env!("CARGO_BIN_EXE_worker-tokio"), 0);
}

#[test]
fn smol() {
    serves("smol", env!("CARGO_BIN_EXE_worker-smol"), 1);
}

#[test]
fn mio() {
    serves("mio", env!("CARGO_BIN_EXE_worker-mio"), 2);
}
