//! Records with control data of every order, size and truncation, through the kernel to a receiver: what
//! comes out is as many descriptors as its header says, and nothing is left open.
#![no_main]

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sendfd_core::{Port, Receiver, Wait};

const HEADER: usize = mem::size_of::<libc::cmsghdr>();
/// How often what is open is counted.
const LOOK: u64 = 1000;

static SENT: AtomicU64 = AtomicU64::new(0);

fn receiver() -> &'static (Receiver, usize) {
    static RECEIVER: OnceLock<(Receiver, usize)> = OnceLock::new();
    RECEIVER.get_or_init(|| {
        let receiver = Receiver::open(Port::new(5).expect("a port")).expect("it opens");
        (receiver, open())
    })
}

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// A connection that the library did not make.
fn connection(sig: i32) -> OwnedFd {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/pid").expect("/proc").ino();
    let name = format!("\0sendfd/1/{namespace}/{}/{sig}", std::process::id());
    // SAFETY: a valid address of the length that is said; the descriptor is new.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0);
        let mut address: libc::sockaddr_un = mem::zeroed();
        address.sun_family = libc::AF_UNIX as _;
        for (to, from) in address.sun_path.iter_mut().zip(name.bytes()) {
            *to = from as _;
        }
        let len = mem::offset_of!(libc::sockaddr_un, sun_path) + name.len();
        let answer = libc::connect(socket, (&raw const address).cast(), len as _);
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(socket)
    }
}

/// The control data that `recipe` describes, and how many descriptors are in it.
fn control(recipe: &mut impl Iterator<Item = u8>) -> (Vec<u8>, usize) {
    let (mut control, mut count) = (Vec::new(), 0);
    let mut byte = || recipe.next().unwrap_or(0);
    for _ in 0..byte() % 4 {
        let (level, kind) = match byte() % 8 {
            0..=2 => (libc::SOL_SOCKET, libc::SCM_RIGHTS),
            3 | 4 => (libc::SOL_SOCKET, libc::SCM_CREDENTIALS),
            5 => (libc::SOL_SOCKET, i32::from(byte())),
            6 => (i32::from(byte()), libc::SCM_RIGHTS),
            _ => (i32::from(byte()), i32::from(byte())),
        };
        let mut data = Vec::new();
        if kind == libc::SCM_CREDENTIALS {
            // SAFETY: plain calls.
            let own = unsafe { (libc::getpid(), libc::getuid(), libc::getgid()) };
            let pid = if byte() % 8 == 0 { 1 } else { own.0 };
            data.extend(pid.to_ne_bytes());
            data.extend(own.1.to_ne_bytes());
            data.extend(own.2.to_ne_bytes());
        } else {
            let fds = usize::from(byte());
            count += fds;
            for _ in 0..fds {
                let number = if byte() % 64 == 63 { -1 } else { 2 };
                data.extend(i32::to_ne_bytes(number));
            }
        }
        // Mostly right.
        let wrong = match byte() % 8 {
            0 => i64::from(byte() as i8),
            _ => 0,
        };
        let len = (HEADER + data.len()) as i64 + wrong;
        // SAFETY: zero is a value of every field.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        (header.cmsg_len, header.cmsg_level, header.cmsg_type) = (len as _, level, kind);
        // SAFETY: a struct of numbers, as bytes.
        control.extend(unsafe { mem::transmute::<libc::cmsghdr, [u8; HEADER]>(header) });
        control.extend(data);
        control.resize(control.len().next_multiple_of(8), 0);
    }
    if byte() % 8 == 0 {
        control.truncate(usize::from(byte()));
    }
    (control, count)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (receiver, before) = receiver();
    let sig = receiver.port().signal();
    let mut recipe = bytes.iter().copied();
    let (mut control, count) = control(&mut recipe);
    let says = match recipe.next().unwrap_or(0) {
        wrong @ 200.. => u16::from(wrong),
        _ => count as u16,
    };
    let mut record = b"sfd\x01".to_vec();
    record.extend([(sig - 32) as u8, 0]);
    record.extend(says.to_le_bytes());
    // The tag says what is to come with it, and which of those that were sent it is: it may come later,
    // among others.
    let before_it = SENT.load(Ordering::Relaxed);
    record.extend([0; 8]);
    record.extend((before_it << 16 | u64::from(says)).to_le_bytes());
    if let Some(len) = recipe.next().filter(|len| *len < 24) {
        record.truncate(len.into());
    }
    let socket = connection(sig);
    let mut iov = libc::iovec {
        iov_base: record.as_mut_ptr().cast(),
        iov_len: record.len(),
    };
    // SAFETY: zero is a value of every field; all that is pointed at lives during the call.
    let sent = unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len() as _;
        libc::sendmsg(
            socket.as_raw_fd(),
            &message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    drop(socket);
    if sent >= 0 {
        SENT.fetch_add(1, Ordering::Relaxed);
    }
    while let Ok(message) = receiver.recv(Wait::Never) {
        let (nth, says) = (message.tag >> 16, message.tag & 0xffff);
        assert!(nth < SENT.load(Ordering::Relaxed), "what was not sent came");
        assert_eq!(message.fds.len() as u64, says);
        // Root may name another process.
        assert!([std::process::id(), 1].contains(&message.sender.pid));
    }
    static TIMES: AtomicU64 = AtomicU64::new(0);
    if TIMES.fetch_add(1, Ordering::Relaxed) % LOOK == 0 {
        // What a stranger sent is closed by another thread.
        let until = Instant::now() + Duration::from_secs(20);
        while open() > before + 2 {
            assert!(Instant::now() < until, "{} open, {before} before", open());
            while receiver.recv(Wait::Never).is_ok() {}
            std::thread::sleep(Duration::from_millis(1));
        }
    }
});
