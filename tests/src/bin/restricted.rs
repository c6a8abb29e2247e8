//! Runs a program with something taken from it: `restricted WORD… -- PROGRAM [ARGUMENT…]`.
//!
//! The words are applied in their order. Each is one of [`WORDS`]. Where the system does not allow a
//! restriction, it exits with 77 and says why, so that a test can be skipped by name.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

const WORDS: &str = "
    getfd-eperm     pidfd_getfd(2) answers EPERM, as in Docker and containerd
    getfd-enosys    pidfd_getfd(2) answers ENOSYS, as before Linux 5.6
    getfd-kill      pidfd_getfd(2) kills the process
    pidfd-enosys    no system call about pidfds at all
    no-recvmmsg     recvmmsg(2) answers ENOSYS
    docker          what Docker's default profile refuses to a container without capabilities
    no-proc         a mount namespace without /proc
    hidepid         a mount namespace whose /proc is mounted with hidepid=2
    netns           another network namespace
    pidns           another pid namespace, in which the program is process 1
    userns          another user namespace, in which the user is root
    uid=N           another user, from here on
    no-caps         root without capabilities
    landlock        no abstract socket and no signal outside this sandbox (Landlock's scopes)
    nofile=N        RLIMIT_NOFILE
    sigpending=N    RLIMIT_SIGPENDING
    memory=N        RLIMIT_AS, in MiB
";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(end) = words.iter().position(|word| word == "--") else {
        eprintln!("usage: restricted WORD… -- PROGRAM [ARGUMENT…]\n{WORDS}");
        std::process::exit(2);
    };
    for word in &words[..end] {
        if let Err(error) = restrict(word) {
            eprintln!("restricted {word}: {error}");
            std::process::exit(77);
        }
    }
    let mut command = Command::new(&words[end + 1]);
    let error = command.args(&words[end + 2..]).exec();
    eprintln!("restricted: {}: {error}", words[end + 1]);
    std::process::exit(77);
}

type Answer = Result<(), Box<dyn std::error::Error>>;

fn restrict(word: &str) -> Answer {
    let errno = |errno: i32| SeccompAction::Errno(errno as u32);
    let getfd = [libc::SYS_pidfd_getfd];
    if let Some((name, value)) = word.split_once('=') {
        let value: u64 = value.parse()?;
        return match name {
            "nofile" => limit(Resource::Nofile, value),
            "sigpending" => limit(Resource::Sigpending, value),
            "uid" => {
                let uid = u32::try_from(value)?;
                // SAFETY: plain calls; the list of groups is empty.
                unsafe {
                    done(libc::setgroups(0, std::ptr::null()))?;
                    done(libc::setgid(uid))?;
                    done(libc::setuid(uid))
                }
            }
            "memory" => limit(Resource::As, value << 20),
            _ => Err("unknown".into()),
        };
    }
    match word {
        "getfd-eperm" => refuse(&getfd, errno(libc::EPERM)),
        "getfd-enosys" => refuse(&getfd, errno(libc::ENOSYS)),
        "getfd-kill" => refuse(&getfd, SeccompAction::KillProcess),
        "pidfd-enosys" => refuse(
            &[
                libc::SYS_pidfd_open,
                libc::SYS_pidfd_getfd,
                libc::SYS_pidfd_send_signal,
            ],
            errno(libc::ENOSYS),
        ),
        "no-recvmmsg" => refuse(&[libc::SYS_recvmmsg], errno(libc::ENOSYS)),
        "docker" => {
            // The C library falls back to clone(2).
            refuse(&[libc::SYS_clone3], errno(libc::ENOSYS))?;
            refuse(&docker(), errno(libc::EPERM))
        }
        "no-proc" => {
            unshare(libc::CLONE_NEWNS)?;
            mount(c"none", c"/proc", c"tmpfs", c"")
        }
        "hidepid" => {
            unshare(libc::CLONE_NEWNS)?;
            mount(c"proc", c"/proc", c"proc", c"hidepid=2")
        }
        "netns" => unshare(libc::CLONE_NEWNET),
        "pidns" => {
            unshare(libc::CLONE_NEWPID)?;
            as_first_process()
        }
        "userns" => {
            // SAFETY: plain calls.
            let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
            unshare(libc::CLONE_NEWUSER)?;
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
            Ok(())
        }
        "no-caps" => no_capabilities(),
        "landlock" => landlock(),
        _ => Err("unknown".into()),
    }
}

fn done(answer: i32) -> Answer {
    match answer {
        0.. => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

fn limit(resource: Resource, value: u64) -> Answer {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    Ok(setrlimit(resource, limit)?)
}

fn refuse(calls: &[libc::c_long], action: SeccompAction) -> Answer {
    let rules: BTreeMap<i64, Vec<_>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

/// Which calls a container without capabilities is refused: what the profile does not list, and so
/// whatever is newer than it.
fn docker() -> Vec<libc::c_long> {
    const NEWEST: libc::c_long = 462;
    let mut refused = vec![
        libc::SYS_acct,
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_chroot,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_fanotify_init,
        libc::SYS_finit_module,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_get_mempolicy,
        libc::SYS_init_module,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
        libc::SYS_kcmp,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_mbind,
        libc::SYS_migrate_pages,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_move_pages,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_perf_event_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_process_madvise,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_reboot,
        libc::SYS_request_key,
        libc::SYS_set_mempolicy,
        libc::SYS_setdomainname,
        libc::SYS_sethostname,
        libc::SYS_setns,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_userfaultfd,
        libc::SYS_vhangup,
    ];
    refused.extend(NEWEST..NEWEST + 100);
    refused
}

fn unshare(flags: libc::c_int) -> Answer {
    // SAFETY: flags only; there is one thread.
    done(unsafe { libc::unshare(flags) })?;
    if flags & libc::CLONE_NEWNS != 0 {
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: C strings; nothing spreads to where this namespace came from.
        done(unsafe {
            libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                flags,
                std::ptr::null(),
            )
        })?;
    }
    Ok(())
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: &std::ffi::CStr,
    data: &std::ffi::CStr,
) -> Answer {
    // SAFETY: C strings.
    done(unsafe {
        let data = data.as_ptr().cast();
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, data)
    })
}

/// Goes on in a child, which dies with this process; this one waits for it.
fn as_first_process() -> Answer {
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
        // SAFETY: numbers only.
        0 => done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }),
        child if child > 0 => {
            let mut status = 0;
            // SAFETY: our child; a valid place for its status.
            unsafe {
                // Its standard input and output are the child's alone.
                libc::close(0);
                libc::close(1);
                libc::waitpid(child, &mut status, 0);
            }
            std::process::exit(libc::WEXITSTATUS(status));
        }
        failed => done(failed),
    }
}

fn no_capabilities() -> Answer {
    for capability in 0..=63 {
        // SAFETY: numbers only. Those that the kernel does not know are refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    // The rights of root come back at exec, unless it is said that they do not.
    const SECBIT_NOROOT: libc::c_int = 1 | 2;
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0) })
}

fn landlock() -> Answer {
    #[repr(C)]
    struct Ruleset {
        files: u64,
        network: u64,
        scoped: u64,
    }
    const ABSTRACT_SOCKETS_AND_SIGNALS: u64 = 1 | 2;
    let ruleset = Ruleset {
        files: 0,
        network: 0,
        scoped: ABSTRACT_SOCKETS_AND_SIGNALS,
    };
    // SAFETY: a valid ruleset of the size that is said.
    unsafe {
        let size = size_of::<Ruleset>();
        let fd = libc::syscall(libc::SYS_landlock_create_ruleset, &ruleset, size, 0) as i32;
        done(fd)?;
        done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        done(libc::syscall(libc::SYS_landlock_restrict_self, fd, 0) as i32)?;
        done(libc::close(fd))
    }
}
