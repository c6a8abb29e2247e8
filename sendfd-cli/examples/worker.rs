//! A worker for the tests of the pool: it says who it is on every connection, and behaves as it is told.
//!
//! ```text
//! worker [slow | never | exit | stuck | parent | gate FILE | exec]
//! ```
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use sendfd_core::{Message, Port, Receiver, ReceiverOptions, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = Port::from_signal(std::env::var("SENDFD_PORT")?.parse()?)?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let how = words.first().map_or("", String::as_str);
    println!("says {how}");
    eprintln!("complains {how}");
    match how {
        "exit" => std::process::exit(3),
        "never" => loop {
            std::thread::park();
        },
        "parent" => {
            let child = std::process::Command::new("sleep").arg("1000").spawn()?;
            println!("child {}", child.id());
        }
        _ => {}
    }
    let ending = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&ending))?;
    let options = ReceiverOptions::new().queue_bytes(4096);
    let receiver = Receiver::open_with(port, &options)?;
    if how == "exec" {
        // Once something waits, without a word to anybody, and with the same pid.
        poll(&mut [PollFd::new(&receiver, PollFlags::IN)], None)?;
        let error = std::process::Command::new("sleep").arg("1000").exec();
        return Err(error.into());
    }
    if how == "gate" {
        while !Path::new(&words[1]).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    loop {
        let ending = ending.load(Ordering::Relaxed) && how != "stuck";
        let wait = if ending {
            Wait::Never
        } else {
            Wait::For(Duration::from_millis(20))
        };
        match receiver.recv(wait) {
            Ok(message) => answer(message, how),
            Err(_) if ending => return Ok(()),
            Err(_) => {}
        }
    }
}

/// `PID UID LIMIT tag=TAG DATA`. A slow one answers once the client has said something.
fn answer(message: Message, how: &str) {
    let data = String::from_utf8_lossy(&message.data).into_owned();
    let tag = message.tag;
    for fd in message.fds {
        // Whatever stream it is, it reads and writes as TCP does.
        let mut stream = TcpStream::from(fd);
        if how == "slow" || how == "stuck" {
            let _ = stream.read(&mut [0; 1]);
        }
        let status = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let limit = status
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .unwrap_or("?");
        let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
        let _ = write!(stream, "{pid} {uid} {limit} tag={tag} {data}");
    }
}
