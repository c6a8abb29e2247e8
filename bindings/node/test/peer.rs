//! The other process of the tests, in another language: speaks to Node with the core alone.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use sendfd_core::{Kind, Port, Receiver, SendOptions, Target, TargetOptions, Wait, detect};

type Answer = Result<(), Box<dyn std::error::Error>>;

const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

fn main() -> Answer {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["receive", sig, count] => receive(sig.parse()?, count.parse()?),
        ["greet", sig] => greet(sig.parse()?),
        ["send", pid, sig, count, text] => send(pid.parse()?, sig.parse()?, count.parse()?, text),
        ["hold", sig] => hold(sig.parse()?),
        ["leaderless", sig] => leaderless(sig.parse()?),
        _ => Err(
            "peer receive SIG COUNT | greet SIG | send PID SIG COUNT TEXT | hold SIG | leaderless SIG"
                .into(),
        ),
    }
}

/// Says what arrives, a line for each message.
fn receive(sig: i32, count: u32) -> Answer {
    let receiver = Receiver::open(Port::from_signal(sig)?)?;
    println!("ready");
    for _ in 0..count {
        let message = receiver.recv(PATIENCE)?;
        let kinds: Vec<&str> = message.fds.iter().map(|fd| name(fd)).collect();
        println!(
            "pid={} tag={} data={} kinds={}",
            message.sender.pid,
            message.tag,
            String::from_utf8_lossy(&message.data),
            kinds.join(","),
        );
    }
    Ok(())
}

fn name(fd: &OwnedFd) -> &'static str {
    match detect(fd) {
        Ok(Kind::Socket {
            listening: true, ..
        }) => "listener",
        Ok(Kind::Socket { .. }) => "socket",
        Ok(Kind::File) => "file",
        Ok(Kind::Pipe) => "pipe",
        _ => "other",
    }
}

/// Answers over each connection that arrives: its data, then the first byte that it reads.
fn greet(sig: i32) -> Answer {
    let receiver = Receiver::open(Port::from_signal(sig)?)?;
    println!("ready");
    loop {
        let mut message = receiver.recv(Wait::Forever)?;
        let mut stream = TcpStream::from(message.fds.remove(0));
        stream.set_nonblocking(false)?;
        let mut rest = [0; 64];
        let length = stream.read(&mut rest)?;
        stream.write_all(b"rust got ")?;
        stream.write_all(&message.data)?;
        stream.write_all(&rest[..length])?;
    }
}

/// Sends a file with `text` in it, `count` times, tagged from 0 on.
fn send(pid: u32, sig: i32, count: u64, text: &str) -> Answer {
    let mut file = File::from(memfd()?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    let target = Target::open_with(
        pid,
        Port::from_signal(sig)?,
        &TargetOptions::new().wait(PATIENCE),
    )?;
    for tag in 0..count {
        let options = SendOptions::new()
            .wait(PATIENCE)
            .tag(tag)
            .data(text.as_bytes());
        target.send(&[file.as_fd()], &options)?;
    }
    Ok(())
}

/// Listens and receives nothing, until its input ends.
fn hold(sig: i32) -> Answer {
    let _receiver = Receiver::open(Port::from_signal(sig)?)?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The same, in a thread that goes on when the main thread has exited.
#[allow(unsafe_code)]
fn leaderless(sig: i32) -> Answer {
    std::thread::spawn(move || {
        // Its descriptors are gone a moment after it has exited.
        while std::fs::read_dir("/proc/self/fd").is_ok_and(|mut fds| fds.next().is_some()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        hold(sig).expect("held");
        std::process::exit(0);
    });
    // SAFETY: ends this thread alone, which holds nothing.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Ok(())
}

#[allow(unsafe_code)]
fn memfd() -> std::io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name ends in a zero; what is answered is a new descriptor or -1.
    match unsafe { libc::memfd_create(c"peer".as_ptr(), libc::MFD_CLOEXEC) } {
        -1 => Err(std::io::Error::last_os_error()),
        // SAFETY: new, and nobody else's.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}
