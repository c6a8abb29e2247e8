#![allow(missing_docs)]
use sendfd_core::*;
use std::os::fd::AsFd;

#[test]
fn to_self_by_both_paths() {
    let sig = rtmin() + 1;
    let receiver = Receiver::open(sig).expect("open");
    let pid = std::process::id() as i32;
    for path in [Paths::PIDFD, Paths::NAME] {
        let file = std::fs::File::open("/dev/null").expect("null");
        let options = SendOptions {
            paths: path,
            tag: 7,
            data: b"hello",
            ..Default::default()
        };
        send_with(pid, sig, &[file.as_fd(), file.as_fd()], &options).expect("send");
        let message = receiver
            .recv(Wait::For(std::time::Duration::from_secs(5)))
            .expect("recv");
        assert_eq!(
            (message.fds.len(), &message.data[..], message.tag),
            (2, &b"hello"[..], 7)
        );
        assert_eq!(message.sender.pid, pid);
        assert_eq!(Paths::from(message.path), path);
    }
    println!("{:#?}", probe(pid, sig));
}
