//! docs/protocol.md is enough to write a sender: the one that it shows is run as it stands there.

use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use sendfd_core::{Port, Receiver, Wait};
use sendfd_tests::has;

/// The first block of Python in the page.
fn program() -> &'static str {
    let page = include_str!("../../docs/protocol.md");
    let (_, rest) = page.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn a_sender_without_the_library() {
    let version = Command::new("python3").arg("--version").output();
    if !has(
        "python3",
        version.is_ok_and(|output| output.status.success()),
    ) {
        return;
    }
    let port = Port::new(11).unwrap();
    let receiver = Receiver::open(port).unwrap();
    let file = memfd_create("stdin", MemfdFlags::CLOEXEC).unwrap();
    let mut file = std::fs::File::from(file);
    file.write_all(b"from a file").unwrap();
    file.rewind().unwrap();
    let mut sender = Command::new("python3")
        .args(["-c", program()])
        .arg(std::process::id().to_string())
        .arg(port.signal().to_string())
        .arg("and words beside it")
        .stdin(Stdio::from(file))
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    assert!(sender.wait().unwrap().success());
    let message = receiver
        .recv(Wait::For(Duration::from_secs(60)))
        .expect("what was sent before the sender ended");
    assert_eq!(message.sender.pid, sender.id());
    assert_eq!(message.tag, 7);
    assert_eq!(message.data, b"and words beside it");
    let [fd] = <[_; 1]>::try_from(message.fds).expect("one descriptor");
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    assert_eq!(text, "from a file");
}
