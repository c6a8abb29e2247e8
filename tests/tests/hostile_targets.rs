//! A target that wants to keep its senders waiting, or to get at what is another's.

mod common;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use common::{Fork, address, errno, in_child, lingering, path, port, send_raw, until};
use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept, bind, listen, socketpair};
use sendfd_core::{Paths, SendOptions, Target, TargetOptions, send_with};
use sendfd_tests::signal;

const HOSTILE: u32 = 1051;

/// Where root is to be had, the target is another user's.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn passenger() -> OwnedFd {
    std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .expect("a duplicate")
}

fn send_by(to: u32, paths: Paths) -> i32 {
    let options = SendOptions::new().paths(paths);
    errno(send_with(to, port(), &[passenger().as_fd()], &options))
}

/// A memfd named as a marker of a receiver is, at the number where senders look first.
fn plant_marker(points_at: i32, inode: u64) -> OwnedFd {
    let name = CString::new(format!("sendfd:1:{}:{points_at}:{inode}", signal(0)));
    let marker = rustix::fs::memfd_create(name.expect("no zero"), MemfdFlags::empty());
    let marker = marker.expect("a memfd");
    let place = 255 - (signal(0) - 32);
    // SAFETY: a number that nothing has.
    assert_eq!(unsafe { libc::dup2(marker.as_raw_fd(), place) }, place);
    marker
}

/// A socket pair as a receiver has it, of which the process keeps both ends and the marker says where one is.
fn plant_inbox() -> (OwnedFd, OwnedFd, OwnedFd) {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let pair = socketpair(family, kind, SocketFlags::empty(), None);
    let (rx, tx) = pair.expect("a pair");
    let name = address(std::process::id(), signal(0), "/rx/0000000000000001");
    bind(&rx, &name).expect("bound");
    let inode = rustix::fs::fstat(&tx).expect("a socket").st_ino;
    let marker = plant_marker(tx.as_raw_fd(), inode);
    (rx, tx, marker)
}

/// What a target puts into a connection of its sender's would be closed by the sender: nothing can be put there.
#[test]
fn nothing_can_be_sent_back_over_a_connection() {
    let mut target = Fork::run(|line| {
        if is_root() {
            line.become_user(HOSTILE);
        }
        let listener = common::socket();
        bind(&listener, &address(std::process::id(), signal(0), "")).expect("bound");
        listen(&listener, 8).expect("listening");
        line.say(0);
        let (lingering, _peer) = lingering();
        let mut connections = Vec::new();
        for _ in 0..2 {
            let connection = accept(&listener).expect("a connection");
            let sent = send_raw(&connection, b"x", &[lingering.as_fd()]);
            line.say(sent.map_or_else(|errno| errno.raw_os_error().into(), |()| 0));
            connections.push(connection);
        }
        line.hear();
    });
    target.hear();
    let options = TargetOptions::new().paths(Paths::NAME);
    let opened = Target::open_with(target.pid(), port(), &options).expect("it listens");
    assert_eq!(target.hear(), libc::EPIPE.into());
    drop(opened);
    assert_eq!(send_by(target.pid(), Paths::NAME), 0);
    assert_eq!(target.hear(), libc::EPIPE.into());
    target.say(0);
    target.ends_well();
}

/// What waits to be received at the sending end would be closed by who closes that last.
#[test]
fn an_inbox_that_something_waits_in_is_none() {
    let mut target = Fork::run(|line| {
        if is_root() {
            line.become_user(HOSTILE);
        }
        let (rx, tx, _marker) = plant_inbox();
        let (lingering, _peer) = lingering();
        send_raw(&rx, b"x", &[lingering.as_fd()]).expect("sent");
        drop(lingering);
        line.say(0);
        // It keeps them for as long as it lives.
        let _both = (rx, tx, line.hear());
    });
    target.hear();
    let pid = target.pid();
    Fork::run(|_| {
        let options = TargetOptions::new().paths(Paths::PIDFD);
        let refused = Target::open_with(pid, port(), &options);
        assert_eq!(errno(refused), libc::ECONNREFUSED);
    })
    .ends_well();
}

/// Nothing is fetched that is no socket: a file system in user space may keep waiting whoever asks for it. Who
/// would fetch it here is killed.
#[test]
fn a_marker_that_points_at_no_socket_is_not_followed() {
    let mut target = Fork::run(|line| {
        if is_root() {
            line.become_user(HOSTILE);
        }
        let file = std::fs::File::open("/proc/self/exe").expect("a file");
        let inode = rustix::fs::fstat(&file).expect("a file").st_ino;
        let _marker = plant_marker(file.as_raw_fd(), inode);
        line.say(0);
        line.hear();
    });
    target.hear();
    let pid = target.pid();
    in_child(false, || {
        kill_who_calls(libc::SYS_pidfd_getfd);
        assert_eq!(send_by(pid, Paths::PIDFD), libc::ECONNREFUSED);
        assert_eq!(send_by(pid, Paths::all()), libc::ECONNREFUSED);
    });
    target.say(0);
    target.ends_well();
}

fn filter(call: libc::c_long, action: seccompiler::SeccompAction) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = [(call, vec![])].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().expect("an architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("seccomp");
}

fn kill_who_calls(call: libc::c_long) {
    filter(call, seccompiler::SeccompAction::KillProcess);
}

/// Of a table full of markers, few are followed: the call is counted.
#[test]
fn few_of_many_markers_are_followed() {
    if !sendfd_tests::has("x86_64", cfg!(target_arch = "x86_64")) {
        return;
    }
    let mut target = Fork::run(|line| {
        if is_root() {
            line.become_user(HOSTILE);
        }
        common::limit_descriptors(0, 4096);
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let pair = socketpair(family, kind, SocketFlags::empty(), None).expect("a pair");
        let inode = rustix::fs::fstat(&pair.0).expect("a socket").st_ino;
        let marker = plant_marker(pair.0.as_raw_fd(), inode);
        let all: Vec<_> = std::iter::from_fn(|| marker.try_clone().ok()).collect();
        assert!(all.len() > 900, "{}", all.len());
        line.say(0);
        line.hear();
    });
    target.hear();
    let pid = target.pid();
    let counted = Fork::run(|_| {
        use std::sync::atomic::{AtomicU32, Ordering};
        static CALLS: AtomicU32 = AtomicU32::new(0);
        extern "C" fn count(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
            CALLS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the kernel passes a valid context: what the call is to have answered.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                let context = &mut *context.cast::<libc::ucontext_t>();
                context.uc_mcontext.gregs[libc::REG_RAX as usize] = -i64::from(libc::EBADF);
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = context;
        }
        // SAFETY: a handler of the SA_SIGINFO kind.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_flags = libc::SA_SIGINFO;
            action.sa_sigaction = count as *const () as usize;
            assert_eq!(
                libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()),
                0
            );
        }
        filter(libc::SYS_pidfd_getfd, seccompiler::SeccompAction::Trap);
        assert_eq!(send_by(pid, Paths::PIDFD), libc::ECONNREFUSED);
        let calls = CALLS.load(Ordering::Relaxed);
        assert!((1..=16).contains(&calls), "{calls} calls");
    });
    counted.ends_well();
    target.say(0);
    target.ends_well();
}

/// A file system in user space that answers everything but that a file is closed.
mod slow_files {
    use std::ffi::CString;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::path::Path;

    /// Mounts it, for this process and its children alone.
    pub fn mount(folder: &Path) -> Option<File> {
        let mut options = File::options();
        let device = options.read(true).write(true).open("/dev/fuse").ok()?;
        let fd = device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40777,user_id=0,group_id=0,allow_other");
        let data = CString::new(data).expect("no zero");
        let folder = CString::new(folder.to_str().expect("UTF-8")).expect("no zero");
        let (none, null) = (c"none".as_ptr(), std::ptr::null());
        // SAFETY: strings that end, of the only thread.
        let mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    none,
                    c"/".as_ptr(),
                    null,
                    libc::MS_REC | libc::MS_PRIVATE,
                    null.cast(),
                ) == 0
                && libc::mount(
                    none,
                    folder.as_ptr(),
                    c"fuse".as_ptr(),
                    0,
                    data.as_ptr().cast(),
                ) == 0
        };
        mounted.then_some(device)
    }

    /// Answers as the kernel's <linux/fuse.h> has it, with one file in the folder.
    pub fn serve(mut device: File) {
        const LOOKUP: u32 = 1;
        const FORGET: u32 = 2;
        const GETATTR: u32 = 3;
        const OPEN: u32 = 14;
        const FLUSH: u32 = 25;
        const INIT: u32 = 26;
        let mut request = vec![0; 1 << 17];
        while let Ok(length) = device.read(&mut request) {
            let word = |at: usize| -> [u8; 4] { request[at..at + 4].try_into().expect("four") };
            assert!(length >= 40);
            let opcode = u32::from_ne_bytes(word(4));
            let is_folder = request[16..24] == 1_u64.to_ne_bytes();
            let node: u64 = if is_folder && opcode != LOOKUP { 1 } else { 2 };
            let mut attributes = [0; 88];
            attributes[..8].copy_from_slice(&node.to_ne_bytes());
            let mode: u32 = if node == 1 { 0o40_777 } else { 0o100_666 };
            attributes[60..64].copy_from_slice(&mode.to_ne_bytes());
            attributes[64..68].copy_from_slice(&1_u32.to_ne_bytes());
            let body = match opcode {
                FLUSH | FORGET => continue,
                INIT => [&7_u32.to_ne_bytes()[..], &31_u32.to_ne_bytes(), &[0; 56]].concat(),
                LOOKUP => [&2_u64.to_ne_bytes()[..], &[0; 32], &attributes].concat(),
                GETATTR => [&[0; 16][..], &attributes].concat(),
                OPEN => vec![0; 16],
                _ => Vec::new(),
            };
            let error = if body.is_empty() { -libc::ENOSYS } else { 0 };
            let size = (16 + body.len()) as u32;
            let head = [
                &size.to_ne_bytes()[..],
                &error.to_ne_bytes(),
                &request[8..16],
            ];
            let _ = device.write(&[&head.concat()[..], &body].concat());
        }
    }
}

/// Who executes another program can make that last, by a descriptor that closes slowly, and all who look into it
/// wait meanwhile.
#[test]
fn a_target_that_executes_another_program_is_not_waited_for() {
    if !sendfd_tests::has_root() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("sendfd-slow-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    // It serves until it is killed, which ends all waiting.
    let mut server = Fork::run(|line| {
        let Some(device) = slow_files::mount(&folder) else {
            return line.say(0);
        };
        // SAFETY: the child becomes another program, or ends; there is one thread.
        let target = unsafe { libc::fork() };
        if target != 0 {
            line.say(target.into());
            return slow_files::serve(device);
        }
        drop(device);
        let slow = std::fs::File::open(folder.join("file")).expect("it is served");
        line.become_user(HOSTILE);
        let (_rx, tx, _marker) = plant_inbox();
        // The inbox is there for the next program. The file, which closes at exec, is not.
        let flags = rustix::io::fcntl_getfd(&slow).expect("open");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::fcntl_setfd(&tx, rustix::io::FdFlags::empty()).expect("set");
        let words = [c"/bin/sleep".as_ptr(), c"1000".as_ptr(), std::ptr::null()];
        // SAFETY: a list of words that ends.
        unsafe {
            libc::execv(words[0], words.as_ptr());
            libc::_exit(1);
        }
    });
    let pid = server.hear() as u32;
    if sendfd_tests::has("fuse", pid != 0) {
        // It has left its memory, and there is no code in the new one yet.
        until("it executes another program", || {
            let sizes = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("it lives");
            let sizes: Vec<&str> = sizes.split(' ').collect();
            sizes[0] != "0" && sizes[3] == "0"
        });
        let mut sender = Fork::run(|line| {
            for name in ["pidfd", "name"] {
                assert_eq!(send_by(pid, path(name)), libc::ECONNREFUSED, "{name}");
            }
            assert_eq!(send_by(pid, Paths::all()), libc::ECONNREFUSED);
            let report = sendfd_core::probe(pid, port()).expect("it lives");
            assert!(report.paths.iter().all(|path| path.error.is_some()));
            line.say(1);
        });
        let answer = sender.hear_or_not();
        server.kill();
        // SAFETY: it is the server's child, which nobody else knows of.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        assert_eq!(answer, Some(1), "it was not waited for");
        sender.ends_well();
    }
    let _ = std::fs::remove_dir(&folder);
}
