//! A process that does what it is told on standard input and answers on standard output, a line
//! each: `ok WORDS` or `error ERRNO TEXT`. What every language's peer understands is written in
//! `tests/PEER.md`; the rest is for tests of this one.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sendfd_core::{
    Message, Paths, Port, Receiver, ReceiverOptions, SI_SENDFD, SendOptions, Target, TargetOptions,
    Wait, listen, probe, send_with, unlisten,
};

/// What went wrong: an errno and a text.
type Failure = (i32, String);
type Answer = Result<String, Failure>;

#[derive(Default)]
struct Peer {
    receivers: HashMap<i32, Receiver>,
    target: Option<Target>,
    kept: Vec<Message>,
    taken: Vec<OwnedFd>,
    filler: Vec<OwnedFd>,
}

fn main() {
    raise_limit_of_descriptors();
    let mut peer = Peer::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("UTF-8");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match peer.act(&words) {
            Ok(answer) => println!("ok {answer}"),
            Err((errno, text)) => println!("error {errno} {text}"),
        }
        std::io::stdout().flush().expect("somebody listens");
    }
}

/// Arguments by name: `tag=7`.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number<T: std::str::FromStr>(words: &[&str], name: &str, default: T) -> T {
    match option(words, name) {
        Some(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        None => default,
    }
}

fn wait(words: &[&str]) -> Wait {
    Wait::from_millis(number(words, "ms", 0))
}

fn paths(words: &[&str]) -> Paths {
    let list = option(words, "paths").unwrap_or("");
    let known = sendfd_core::Path::ALL;
    let named = list
        .split(',')
        .filter_map(|word| known.into_iter().find(|path| path.as_str() == word));
    named.map(Paths::from).collect()
}

fn port(sig: i32) -> Result<Port, Failure> {
    Port::from_signal(sig).map_err(failure)
}

/// As the library has pids, in which what is none is 0.
fn u(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

fn fds(count: usize) -> Vec<OwnedFd> {
    let make = |_| rustix::fs::memfd_create(c"passenger", MemfdFlags::CLOEXEC);
    (0..count)
        .map(make)
        .collect::<Result<_, _>>()
        .expect("memfds")
}

fn inodes(fds: impl IntoIterator<Item = impl AsFd>) -> String {
    let inode = |fd| rustix::fs::fstat(fd).expect("open").st_ino.to_string();
    let all: Vec<_> = fds.into_iter().map(inode).collect();
    all.join(",")
}

fn numbers(fds: impl IntoIterator<Item = impl AsFd>) -> String {
    let number = |fd: &dyn AsFd| fd.as_fd().as_raw_fd().to_string();
    let all: Vec<_> = fds.into_iter().map(|fd| number(&fd)).collect();
    all.join(",")
}

fn failure(error: sendfd_core::Error) -> Failure {
    (error.raw_os_error(), error.to_string())
}

fn kernel(error: rustix::io::Errno) -> Failure {
    (error.raw_os_error(), error.to_string())
}

impl Peer {
    fn act(&mut self, words: &[&str]) -> Answer {
        let sig = number(words, "sig", 0);
        let pid = number(words, "pid", 0);
        match words[0] {
            "open" => {
                let list = option(words, "uids").unwrap_or("");
                let uids: Vec<u32> = list.split(',').filter_map(|uid| uid.parse().ok()).collect();
                let options = ReceiverOptions::new()
                    .uids(&uids)
                    .queue_bytes(number(words, "queue", 0));
                let receiver = Receiver::open_with(port(sig)?, &options).map_err(failure)?;
                self.receivers.insert(sig, receiver);
                Ok(String::new())
            }
            "close" => {
                self.receivers.remove(&sig);
                Ok(String::new())
            }
            "send" => {
                let port = port(sig)?;
                self.send(words, |fds, options| send_with(u(pid), port, fds, options))
            }
            "target" => {
                let options = TargetOptions::new().paths(paths(words)).wait(wait(words));
                let target = Target::open_with(u(pid), port(sig)?, &options).map_err(failure)?;
                let path = target.path();
                self.target = Some(target);
                Ok(format!("path={path}"))
            }
            "tsend" => {
                let target = self.target.as_ref().expect("a target was opened");
                self.send(words, |fds, options| target.send(fds, options))
            }
            "untarget" => {
                self.target = None;
                Ok(String::new())
            }
            "self" => Ok("language=rust signals=yes".to_owned()),
            "recv" => self.recv(words, sig),
            "take" => self.take(words, sig),
            "forget" => {
                self.kept.clear();
                self.taken.clear();
                Ok(String::new())
            }
            "show" => Ok(format!("{:?}", self.receivers[&sig])),
            "dropped" => Ok(self.receivers[&sig].dropped().to_string()),
            "ready" => {
                let receiver = &self.receivers[&sig];
                let mut fds = [rustix::event::PollFd::new(
                    receiver,
                    rustix::event::PollFlags::IN,
                )];
                let now = rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                Ok(rustix::event::poll(&mut fds, Some(&now))
                    .map_err(kernel)?
                    .to_string())
            }
            "probe" => {
                let report = probe(u(pid), port(sig)?).map_err(failure)?;
                let words = report.paths.map(|path| match path.error {
                    None => format!("{}=works", path.path),
                    Some(error) => format!("{}: {error}.", path.path),
                });
                Ok(words.join(" "))
            }
            "count" => Ok(count().to_string()),
            "setuid" => {
                let uid = number(words, "uid", 0_u32);
                // SAFETY: plain calls; the list of groups is empty.
                let answers = unsafe {
                    [
                        libc::setgroups(0, std::ptr::null()),
                        libc::setgid(uid),
                        libc::setuid(uid),
                    ]
                };
                assert_eq!(answers, [0, 0, 0]);
                Ok(String::new())
            }
            "euid" => {
                // SAFETY: a plain call.
                assert_eq!(unsafe { libc::seteuid(number(words, "uid", 0)) }, 0);
                Ok(String::new())
            }
            "nofile" => {
                limit(Resource::Nofile, number(words, "n", 0));
                Ok(String::new())
            }
            "sigpending" => {
                limit(Resource::Sigpending, number(words, "n", 0));
                Ok(String::new())
            }
            "fill" => {
                let null = std::fs::File::open("/dev/null").map(OwnedFd::from);
                let mut next = null.ok();
                while let Some(fd) = next {
                    next = fd.try_clone().ok();
                    self.filler.push(fd);
                }
                let leave = number(words, "leave", 0);
                self.filler
                    .truncate(self.filler.len().saturating_sub(leave));
                Ok(self.filler.len().to_string())
            }
            "unfill" => {
                let n = number(words, "n", usize::MAX).min(self.filler.len());
                self.filler.truncate(self.filler.len() - n);
                Ok(String::new())
            }
            "occupy" => {
                self.filler = fds(number(words, "n", 0));
                Ok(String::new())
            }
            "refuse" => {
                let call = match option(words, "call") {
                    Some("memfd_create") => libc::SYS_memfd_create,
                    Some("pidfd_open") => libc::SYS_pidfd_open,
                    None => libc::SYS_pidfd_getfd,
                    Some(call) => panic!("no such call here: {call}"),
                };
                refuse(call, number(words, "errno", 0));
                Ok(String::new())
            }
            "killed-after-send" => killed_after_send(words, pid, sig),
            "flood" => flood(words, pid, sig),
            "drain" => self.drain(words, sig),
            "count-in" => self.count_in(words, sig),
            "retire" => {
                self.receivers[&sig].retire().map_err(failure)?;
                Ok(String::new())
            }
            "fork" => {
                // SAFETY: a plain call: the kernel reaps the children.
                unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
                let ms = number(words, "ms", 0);
                // Until the child runs, it holds what it inherited: its end of the pipe tells.
                let (mut reader, writer) = std::io::pipe().expect("a pipe");
                fork(|| {
                    // SAFETY: a number of its own, which is not used any more.
                    unsafe { libc::close(writer.as_raw_fd()) };
                    std::thread::sleep(Duration::from_millis(ms));
                });
                drop(writer);
                std::io::Read::read(&mut reader, &mut [0]).expect("a pipe");
                Ok(String::new())
            }
            "exec" => {
                println!("ok");
                let error = std::process::Command::new("/proc/self/exe").exec();
                panic!("exec: {error}")
            }
            "fork-hold" => {
                // Answers when the child runs: until then it has not closed what it inherited.
                let (mut reader, writer) = std::io::pipe().expect("a pipe");
                let child = fork(|| {
                    let _ = (&writer).write(b"!");
                    std::thread::sleep(Duration::from_secs(20));
                });
                std::io::Read::read_exact(&mut reader, &mut [0]).expect("the child runs");
                Ok(child.to_string())
            }
            "fork-open" => Ok(fork(|| {
                let receiver = Receiver::open(port(sig).expect("a port"))
                    .expect("a receiver of the child's own");
                if let Some(sig) = option(words, "signals") {
                    let sig = sig.parse().expect("a number");
                    block(sig);
                    listen(port(sig).expect("a port")).expect("signal mode");
                }
                loop {
                    let _ = receiver.recv(Wait::For(Duration::from_secs(60)));
                }
            })
            .to_string()),
            "bare" => {
                // A program that never heard of the library: the call, by the advertised number.
                let number =
                    std::fs::read_to_string("/proc/sys/kernel/sendfd_nr").expect("the call");
                let number: libc::c_long = number.trim().parse().expect("a number");
                let passenger = fds(1);
                // SAFETY: three numbers, which the kernel checks.
                match unsafe { libc::syscall(number, pid, sig, passenger[0].as_raw_fd()) } {
                    0 => Ok(inodes(&passenger)),
                    _ => {
                        let error = std::io::Error::last_os_error();
                        Err((error.raw_os_error().unwrap_or(0), error.to_string()))
                    }
                }
            }
            "catch" => {
                // A program that never heard of the library: it permits it by sigaction(2).
                match option(words, "how") {
                    Some("handler") => {
                        act(sig, on_signal as *const () as usize, SA_EXPECTFD);
                    }
                    _ => {
                        block(sig);
                        act(sig, libc::SIG_DFL, SA_EXPECTFD);
                    }
                }
                Ok(String::new())
            }
            // A child that does what this process does, and nothing else.
            "fork-idle" => {
                let (mut started, starts) = std::io::pipe().expect("a pipe");
                let child = fork(|| {
                    let _ = (&starts).write_all(b"!");
                    std::thread::sleep(Duration::from_secs(60));
                });
                started.read_exact(&mut [0]).expect("the child lives");
                Ok(child.to_string())
            }
            "fork-recv" => self.fork_recv(sig),
            "raw" => raw(words, pid, sig),
            "squat" => squat(pid, sig),
            "listen" => listen_how(words, sig),
            "unlisten" => unlisten(port(sig)?)
                .map(|()| String::new())
                .map_err(failure),
            "signals" => signals(words, sig),
            "block" => {
                block(sig);
                Ok(String::new())
            }
            other => panic!("unknown command {other}"),
        }
    }

    fn send(
        &self,
        words: &[&str],
        send: impl Fn(&[BorrowedFd<'_>], &SendOptions<'_>) -> sendfd_core::Result<()>,
    ) -> Answer {
        let inherited = option(words, "fds").map(|list| list.split_terminator(',').map(str::parse));
        let fds = match inherited {
            Some(_) => Vec::new(),
            None => fds(number(words, "n", 1)),
        };
        let mut borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        for number in inherited.into_iter().flatten() {
            // SAFETY: the driver keeps it open, or wants to see it refused.
            borrowed.push(unsafe { BorrowedFd::borrow_raw(number.expect("a number")) });
        }
        if let Some(bad) = option(words, "bad") {
            let number = bad.parse().expect("a number");
            // SAFETY: only handed to the kernel, which is to find out that it is not open.
            borrowed.push(unsafe { BorrowedFd::borrow_raw(number) });
        }
        let filler = vec![b'x'; number(words, "bytes", 0)];
        let options = SendOptions::new()
            .paths(paths(words))
            .wait(wait(words))
            .data(option(words, "data").map_or(&filler, str::as_bytes));
        for nth in 0..number(words, "times", 1) {
            let options = options.tag(number(words, "tag", 0) + nth);
            send(&borrowed, &options).map_err(|error| {
                let (errno, text) = failure(error);
                (errno, format!("after {nth}: {text}"))
            })?;
        }
        Ok(inodes(&fds))
    }

    fn recv(&mut self, words: &[&str], sig: i32) -> Answer {
        let receiver = &self.receivers[&sig];
        let message = receiver.recv(wait(words)).map_err(failure)?;
        for fd in &message.fds {
            let flags = rustix::io::fcntl_getfd(fd).map_err(kernel)?;
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        let answer = format!(
            "pid={} uid={} gid={} tag={} path={} fds={} at={} data={}",
            message.sender.pid,
            message.sender.uid,
            message.sender.gid,
            message.tag,
            message.path,
            inodes(&message.fds),
            numbers(&message.fds),
            String::from_utf8_lossy(&message.data),
        );
        if option(words, "keep").is_some() {
            self.kept.push(message);
        }
        Ok(answer)
    }

    /// Takes one signal of signal mode and keeps its descriptor.
    fn take(&mut self, words: &[&str], sig: i32) -> Answer {
        let ms: u64 = number(words, "ms", 0);
        let wait = libc::timespec {
            tv_sec: (ms / 1000) as _,
            tv_nsec: (ms % 1000 * 1_000_000) as libc::c_long,
        };
        // SAFETY: valid pointers; the kernel fills what it returns.
        let info = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            if libc::sigtimedwait(&set_of(sig), &mut info, &wait) != sig {
                let error = std::io::Error::last_os_error();
                return Err((error.raw_os_error().unwrap_or(0), error.to_string()));
            }
            info
        };
        assert!(is_ours(info.si_code), "si_code {}", info.si_code);
        // SAFETY: the fields of a queued signal, and the descriptor that it gave to us.
        let (pid, uid, fd) = unsafe {
            let value = number_in(info.si_value());
            (info.si_pid(), info.si_uid(), OwnedFd::from_raw_fd(value))
        };
        let answer = format!("pid={pid} uid={uid} at={}", fd.as_raw_fd());
        self.taken.push(fd);
        Ok(answer)
    }

    /// Receives `total` messages with several threads, which must be those of `flood`: each once,
    /// and those of each sender in order.
    fn drain(&mut self, words: &[&str], sig: i32) -> Answer {
        let total: usize = number(words, "total", 0);
        let threads: usize = number(words, "threads", 1);
        let many: usize = number(words, "many", 1);
        let receiver = &self.receivers[&sig];
        let left = std::sync::atomic::AtomicUsize::new(total);
        let seen: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let run = || {
                let mut messages: Vec<_> = (0..many).map(|_| Message::default()).collect();
                let mut seen = Vec::new();
                while left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                    // The last message may go to another thread while this one waits.
                    let wait = Wait::For(Duration::from_millis(100));
                    match receiver.recv_many(&mut messages, wait) {
                        Ok(count) => {
                            left.fetch_sub(count, std::sync::atomic::Ordering::Relaxed);
                            for message in &mut messages[..count] {
                                assert_eq!(message.fds.len(), 1);
                                message.fds.clear();
                                seen.push(message.tag);
                            }
                        }
                        Err(error) => assert_eq!(error.raw_os_error(), libc::ETIMEDOUT, "{error}"),
                    }
                }
                seen
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().expect("no panic"))
                .collect()
        });
        for seen in &seen {
            let mut last = HashMap::new();
            for tag in seen {
                let (sender, nth) = (tag >> 32, tag & 0xffff_ffff);
                if let Some(before) = last.insert(sender, nth) {
                    assert!(before < nth, "sender {sender}: {nth} after {before}");
                }
            }
        }
        let mut all: Vec<u64> = seen.concat();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(count, all.len(), "each message once");
        Ok(format!("received={count}"))
    }

    /// Receives `total` messages without tags with several threads.
    fn count_in(&mut self, words: &[&str], sig: i32) -> Answer {
        use std::sync::atomic::{AtomicI64, Ordering};
        let left = AtomicI64::new(number(words, "total", 0));
        let total = left.load(Ordering::Relaxed);
        let receiver = &self.receivers[&sig];
        std::thread::scope(|scope| {
            for _ in 0..number(words, "threads", 1) {
                scope.spawn(|| {
                    while left.load(Ordering::Relaxed) > 0 {
                        match receiver.recv(Wait::For(Duration::from_millis(100))) {
                            Ok(_) => left.fetch_sub(1, Ordering::Relaxed),
                            Err(error) => {
                                assert_eq!(error.raw_os_error(), libc::ETIMEDOUT, "{error}");
                                0
                            }
                        };
                    }
                });
            }
        });
        let left = left.into_inner();
        Ok(format!("received={}", total - left))
    }

    /// What a forked child gets from the receiver it inherited.
    fn fork_recv(&mut self, sig: i32) -> Answer {
        let receiver = &self.receivers[&sig];
        let port = port(sig)?;
        let inherited = count();
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let child = fork(|| {
            let result = match receiver.recv(Wait::For(Duration::from_millis(50))) {
                Ok(_) => "received".to_owned(),
                Err(error) => format!("errno={}", error.raw_os_error()),
            };
            // A receiver of the child's own works.
            let own = Receiver::open(port).is_ok();
            // The pipe's two ends are not of the parent's count.
            let _ = write!(
                writer,
                "{result} own={own} inherited={}",
                count() as i64 - inherited as i64 - 2
            );
        });
        drop(writer);
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut reader, &mut answer).expect("the child writes");
        reap(child);
        Ok(answer)
    }
}

fn count() -> usize {
    // The folder itself is open while it is read.
    std::fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}

/// Sets the soft limit, so that a user who is not root can raise it again.
fn limit(resource: Resource, n: u64) {
    let hard = getrlimit(resource).maximum.map(|hard| hard.max(n));
    let limit = Rlimit {
        current: Some(n),
        maximum: hard,
    };
    setrlimit(resource, limit).expect("allowed");
}

/// How many descriptors of a user may be in flight is the soft limit of the sender, for all its
/// processes together: tests that run at the same time would exceed the usual 1,024.
fn raise_limit_of_descriptors() {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    limit(Resource::Nofile, hard.min(20_000));
}

/// Runs `f` in a child, which then ends without running anything of its parent's.
fn fork(f: impl FnOnce()) -> i32 {
    // SAFETY: this process has a single thread.
    match unsafe { libc::fork() } {
        0 => {
            f();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    }
}

fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: a valid pointer.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

/// A seccomp filter that answers a call, as Docker's default does pidfd_getfd(2) (EPERM) or as an old
/// kernel would (ENOSYS). The crate that makes filters knows these architectures alone.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
fn refuse(_call: i64, _errno: u32) {
    panic!("no filters on this architecture");
}

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
fn refuse(call: i64, errno: u32) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let arch = std::env::consts::ARCH
        .try_into()
        .expect("an architecture with seccomp");
    let rules = [(call, vec![])].into_iter().collect();
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(errno));
    let filter = SeccompFilter::new(rules, allow, refuse, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("seccomp");
}

/// Children that send and are gone in the next instruction.
fn killed_after_send(words: &[&str], pid: i32, sig: i32) -> Answer {
    let (port, wait) = (port(sig)?, Wait::For(Duration::from_secs(20)));
    let opening = TargetOptions::new().paths(paths(words)).wait(wait);
    let passenger = fds(1);
    for nth in 0..number(words, "times", 1_u64) {
        let child = fork(|| {
            let tagged = option(words, "untagged").is_none();
            let options = SendOptions::new()
                .wait(wait)
                .tag(if tagged { nth } else { 0 });
            // Opened anew: nothing of the connection may outlive this process.
            let target = Target::open_with(u(pid), port, &opening);
            let sent = target.and_then(|target| {
                target.send(&[passenger[0].as_fd()], &options)?;
                // SAFETY: ends this process.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                Ok(())
            });
            eprintln!("{sent:?}");
        });
        let status = reap(child);
        if !libc::WIFSIGNALED(status) || libc::WTERMSIG(status) != libc::SIGKILL {
            return Err((libc::EIO, format!("child {nth} could not send")));
        }
    }
    Ok(String::new())
}

/// Threads that send numbered messages as fast as they can.
fn flood(words: &[&str], pid: i32, sig: i32) -> Answer {
    let threads: u64 = number(words, "threads", 1);
    let each: u64 = number(words, "each", 1);
    let (port, wait) = (port(sig)?, Wait::For(Duration::from_secs(60)));
    let opening = TargetOptions::new().paths(paths(words)).wait(wait);
    let shared = match option(words, "shared") {
        Some(_) => Some(Target::open_with(u(pid), port, &opening).map_err(failure)?),
        None => None,
    };
    let passenger = fds(1);
    let untagged = option(words, "untagged").is_some();
    let run = |thread: u64| -> sendfd_core::Result<()> {
        let own;
        let target = match &shared {
            Some(target) => target,
            None => {
                own = Target::open_with(u(pid), port, &opening)?;
                &own
            }
        };
        for nth in 0..each {
            let options =
                SendOptions::new()
                    .wait(wait)
                    .tag(if untagged { 0 } else { thread << 32 | nth });
            target.send(&[passenger[0].as_fd()], &options)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        handles
            .into_iter()
            .try_for_each(|handle| handle.join().expect("no panic"))
    })
    .map_err(failure)?;
    Ok(String::new())
}

/// Connects to the target's address without asking anybody and sends a record that was not made by
/// the library. `len=` bytes of the given text, or a header with the given `flags=` that `says=` how much
/// data there is; with the writing end of a pipe, `n=` times, and perhaps a `file=` behind it. Answers what
/// became of that end: `closed=true` if nobody else has it.
fn raw(words: &[&str], pid: i32, sig: i32) -> Answer {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let socket = connect_to(pid, sig)?;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut bytes = option(words, "text").unwrap_or("").as_bytes().to_vec();
    let file = option(words, "file").map(data_file).transpose()?;
    if option(words, "header").is_some() {
        // A good header, so that only its sender can be wrong with it.
        let data = number(words, "says", 0_u32).to_le_bytes();
        let flags = number(words, "flags", 0);
        let fixed = [(sig - 32) as u8, flags, 1, 0];
        bytes = [b"sfd\x01", &fixed[..], &data, &[0; 12]].concat();
    }
    bytes.resize(number(words, "len", bytes.len()), b'?');
    let mut copies = vec![writer.as_fd(); number(words, "n", 1)];
    copies.extend(file.as_ref().map(AsFd::as_fd));
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !copies.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&copies)));
    }
    let parts = [std::io::IoSlice::new(&bytes)];
    match rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL) {
        // Who is not accepted may find the connection closed already.
        Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => {}
        Err(errno) => return Err(kernel(errno)),
    }
    drop(writer);
    // End of file comes once the last writing end is closed.
    let mut fds = [rustix::event::PollFd::new(
        &reader,
        rustix::event::PollFlags::IN,
    )];
    let patience = rustix::event::Timespec {
        tv_sec: number(words, "s", 5),
        tv_nsec: 0,
    };
    let ended = rustix::event::poll(&mut fds, Some(&patience)).map_err(kernel)?;
    Ok(format!("closed={}", ended > 0))
}

/// What somebody might pass off as data of 5000 bytes: for each kind, as many as nobody can change.
fn data_file(kind: &str) -> Result<OwnedFd, Failure> {
    use rustix::fs::{SealFlags as Seals, fcntl_add_seals, ftruncate, memfd_create};
    let memfd = |len, seals| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create(c"data", flags).map_err(kernel)?;
        ftruncate(&memfd, len).map_err(kernel)?;
        fcntl_add_seals(&memfd, seals).map_err(kernel)?;
        Ok(memfd)
    };
    let all = Seals::WRITE | Seals::SHRINK | Seals::GROW;
    match kind {
        "sealed" => memfd(5000, all),
        "unsealed" => memfd(5000, Seals::empty()),
        "sealing" => memfd(5000, Seals::SEAL),
        "written" => memfd(5000, all - Seals::WRITE),
        "only-later" => memfd(5000, (all - Seals::WRITE) | Seals::FUTURE_WRITE),
        "shrinking" => memfd(5000, all - Seals::SHRINK),
        "growing" => memfd(5000, all - Seals::GROW),
        "short" => memfd(4999, all),
        "long" => memfd(5001, all),
        "huge" => memfd(1 << 40, all),
        "empty" => memfd(0, all),
        "pipe" => Ok(std::io::pipe().expect("a pipe").0.into()),
        "directory" => Ok(std::fs::File::open("/proc").expect("/proc").into()),
        "zero" => Ok(std::fs::File::open("/dev/zero").expect("/dev").into()),
        "file" => Ok(std::fs::File::open("/proc/self/exe").expect("/proc").into()),
        _ => panic!("no such file: {kind}"),
    }
}

fn address(pid: i32, sig: i32) -> rustix::net::SocketAddrUnix {
    let namespace = rustix::fs::stat("/proc/self/ns/pid").expect("/proc").st_ino;
    let name = format!("sendfd/1/{namespace}/{pid}/{sig}");
    rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("short")
}

fn unix_socket() -> OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket")
}

fn connect_to(pid: i32, sig: i32) -> Result<OwnedFd, Failure> {
    let socket = unix_socket();
    rustix::net::connect(&socket, &address(pid, sig)).map_err(kernel)?;
    Ok(socket)
}

/// Sits on another process's address. Answers, when told so, whether anything came.
fn squat(pid: i32, sig: i32) -> Answer {
    let listener = unix_socket();
    rustix::net::bind(&listener, &address(pid, sig)).map_err(kernel)?;
    rustix::net::listen(&listener, 64).map_err(kernel)?;
    std::thread::spawn(move || {
        while let Ok(connection) = rustix::net::accept(&listener) {
            let mut buffer = [0; 64];
            let flags = rustix::net::RecvFlags::empty();
            if let Ok((1.., _)) = rustix::net::recv(&connection, &mut buffer, flags) {
                // Whoever trusted the name is found out by the test.
                std::process::abort();
            }
        }
    });
    Ok(String::new())
}

// ---------------------------------------------------------------- signal mode

static HANDLED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// `sival_int`, which stands first in the union whatever the byte order.
fn number_in(value: libc::sigval) -> i32 {
    // SAFETY: the union is at least as large, and aligned for a pointer.
    unsafe { (&raw const value).cast::<i32>().read() }
}

/// Whether a signal with this si_code carries a descriptor.
fn is_ours(code: i32) -> bool {
    code == libc::SI_QUEUE || code == SI_SENDFD
}

fn describe(code: i32, pid: i32, uid: u32, value: i32) -> String {
    assert!(is_ours(code), "si_code {code}");
    // SAFETY: the signal gave it to us.
    let fd = unsafe { OwnedFd::from_raw_fd(value) };
    let flags = rustix::io::fcntl_getfd(&fd).expect("a descriptor of our own");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    format!("pid={pid} uid={uid} fd={}", inodes([&fd]))
}

extern "C" fn on_signal(_sig: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; tests raise one signal at a time, so the lock is
    // free and allocation harmless.
    let (code, pid, uid, value) = unsafe {
        let value = number_in((*info).si_value());
        ((*info).si_code, (*info).si_pid(), (*info).si_uid(), value)
    };
    HANDLED
        .lock()
        .expect("free")
        .push(describe(code, pid, uid, value));
}

fn set_of(sig: i32) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::zeroed();
    // SAFETY: sigemptyset initialises it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), sig);
        set.assume_init()
    }
}

fn block(sig: i32) {
    // SAFETY: a valid set.
    assert_eq!(
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set_of(sig), std::ptr::null_mut()) },
        0
    );
}

/// The flag of sigaction(2) by which a program permits others to send it files with the signal.
const SA_EXPECTFD: libc::c_int = 0x1000;

fn act(sig: i32, handler: libc::sighandler_t, flags: libc::c_int) {
    // SAFETY: a valid action, with no handler or one of the SA_SIGINFO kind.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | flags;
        action.sa_sigaction = handler;
        assert_eq!(libc::sigaction(sig, &action, std::ptr::null_mut()), 0);
    }
}

fn listen_how(words: &[&str], sig: i32) -> Answer {
    match option(words, "how") {
        Some("handler") => act(sig, on_signal as *const () as usize, 0),
        Some("blocked") => block(sig),
        _ => {}
    }
    listen(port(sig)?).map(|()| String::new()).map_err(failure)
}

/// Takes `n` signals, one of three ways.
fn signals(words: &[&str], sig: i32) -> Answer {
    let n: usize = number(words, "n", 1);
    let mut taken = Vec::new();
    match option(words, "how").expect("how") {
        "handler" => {
            while taken.len() < n {
                std::thread::sleep(Duration::from_millis(1));
                taken.append(&mut HANDLED.lock().expect("free"));
            }
        }
        "sigwaitinfo" => {
            while taken.len() < n {
                // SAFETY: valid pointers.
                let info = unsafe {
                    let mut info: libc::siginfo_t = std::mem::zeroed();
                    assert_eq!(libc::sigwaitinfo(&set_of(sig), &mut info), sig);
                    info
                };
                // SAFETY: the fields of a queued signal.
                let (pid, uid, value) = unsafe { (info.si_pid(), info.si_uid(), info.si_value()) };
                taken.push(describe(info.si_code, pid, uid, number_in(value)));
            }
        }
        "signalfd" => {
            // SAFETY: a valid set; the descriptor is new.
            let fd = unsafe {
                OwnedFd::from_raw_fd(libc::signalfd(-1, &set_of(sig), libc::SFD_CLOEXEC))
            };
            while taken.len() < n {
                // SAFETY: the kernel fills the whole of it.
                let info = unsafe {
                    let mut info: libc::signalfd_siginfo = std::mem::zeroed();
                    let len = size_of_val(&info);
                    assert_eq!(
                        libc::read(fd.as_raw_fd(), (&raw mut info).cast(), len),
                        len as isize
                    );
                    info
                };
                taken.push(describe(
                    info.ssi_code,
                    info.ssi_pid as i32,
                    info.ssi_uid,
                    info.ssi_int,
                ));
            }
        }
        other => panic!("unknown way {other}"),
    }
    Ok(taken.join(";"))
}
