//! send, recv, doctor, list and watch, as a shell uses them.
#![allow(missing_docs, unsafe_code)]

mod common;

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use common::{PATIENCE, Running, fails, ok, run, send, sendfd, stderr, stdout, terminal};
use sendfd_tests::{has, has_root};

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let path = file.path().display().to_string();
    (file, path)
}

#[test]
fn a_file_and_the_activation_protocol() {
    let (_file, path) = file("hello\n");
    let script = "echo $LISTEN_FDS $LISTEN_FDNAMES $SENDFD_TAG $SENDFD_DATA; test $LISTEN_PID = $$ && cat <&3";
    let target = Running::recv(&["1", "--name", "greeting", "--", "sh", "-c", script]);
    send(
        &target,
        "1",
        &["--open", &path, "--tag", "9", "--data", "some words"],
    );
    let (text, status) = target.end();
    assert_eq!(text, "1 greeting 9 some words\nhello\n");
    assert!(status.success());
}

#[test]
fn the_three_forms_of_a_port() {
    for port in ["RTMAX-2", "SIGRTMAX-2", "2"] {
        let target = Running::recv(&["2", "--", "true"]);
        send(&target, port, &["--fd", "0"]);
        assert!(target.end().1.success());
    }
    let target = Running::recv(&["RTMIN+3", "--", "true"]);
    send(&target, "SIGRTMIN+3", &["--fd", "0"]);
    assert!(target.end().1.success());
}

/// The table of docs/command.md: what fdsend and fdrecv of util-linux do.
mod fdsend {
    use super::*;

    #[test]
    fn stdin() {
        let (_file, path) = file("to standard input\n");
        let target = Running::recv(&["3", "--stdin", "--", "cat"]);
        send(&target, "3", &["--open", &path]);
        assert_eq!(target.end().0, "to standard input\n");
    }

    #[test]
    fn stdout_and_stderr() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let script = "echo out; echo err >&2";
        let target = Running::recv(&["4", "-n2", "--stdout", "--stderr", "--", "sh", "-c", script]);
        let pid = target.pid();
        for _ in 0..2 {
            let words = ["send", &pid, "4", "--fd", "0", "--timeout", PATIENCE];
            let writer = writer.try_clone().expect("a duplicate");
            assert!(
                sendfd(&words)
                    .stdin(writer)
                    .status()
                    .expect("runs")
                    .success()
            );
        }
        drop(writer);
        let mut text = String::new();
        (&reader).read_to_string(&mut text).expect("read");
        assert_eq!(text, "out\nerr\n");
        assert!(target.end().1.success());
    }

    #[test]
    fn several_numbers_in_the_order_named() {
        let ((_one, first), (_two, second)) = (file("first "), file("second"));
        let script = "cat <&5; cat <&4";
        let target = Running::recv(&[
            "5", "-n2", "--fd", "5", "--fd", "4", "--", "sh", "-c", script,
        ]);
        send(&target, "5", &["--open", &first]);
        send(&target, "5", &["--open", &second]);
        assert_eq!(target.end().0, "first second");
    }

    #[test]
    fn several_in_one_message_in_the_order_of_the_command_line() {
        let ((_one, first), (_two, second)) = (file("first "), file("second "));
        let script = "cat <&3; cat <&4; cat <&5";
        let target = Running::recv(&["5", "--", "sh", "-c", script]);
        let pid = target.pid();
        let words = [
            "send",
            &pid,
            "5",
            "--timeout",
            PATIENCE,
            "--open",
            &first,
            "--fd",
            "0",
            "--open",
            &second,
        ];
        let (mut third, _path) = file("between ").0.into_parts();
        third.seek(SeekFrom::Start(0)).expect("rewound");
        assert!(
            sendfd(&words)
                .stdin(third)
                .status()
                .expect("runs")
                .success()
        );
        assert_eq!(target.end().0, "first between second ");
    }

    #[test]
    fn a_descriptor_of_a_third_process() {
        let (mut own, _path) = file("0123456789").0.into_parts();
        own.seek(SeekFrom::Start(4)).expect("moved");
        let (pid, number) = (std::process::id(), own.as_raw_fd());
        // The very same open file, as --pid --dup: its offset is shared.
        let same = Running::recv(&["6", "--stdin", "--", "cat"]);
        send(&same, "6", &["--from", &format!("{pid}:{number}")]);
        assert_eq!(same.end().0, "456789");
        // Opened anew, as --pid alone.
        let anew = Running::recv(&["6", "--stdin", "--", "cat"]);
        send(&anew, "6", &["--open", &format!("/proc/{pid}/fd/{number}")]);
        assert_eq!(anew.end().0, "0123456789");
        assert!(
            fails(&["send", "1", "6", "--from", &format!("{pid}:999999")], 64)
                .contains("/proc/PID/fd")
        );
    }

    #[test]
    fn how_the_command_ended() {
        for (script, code, signal) in [("exit 7", Some(7), None), ("kill -9 $$", None, Some(9))] {
            let target = Running::recv(&["7", "--", "sh", "-c", script]);
            send(&target, "7", &["--fd", "0"]);
            let status = target.end().1;
            assert_eq!((status.code(), status.signal()), (code, signal));
        }
        let (_file, path) = file("no program");
        for (program, code) in [("/nonexistent/program", 127), (path.as_str(), 126)] {
            let target = Running::recv(&["7", "--", program]);
            send(&target, "7", &["--fd", "0"]);
            assert_eq!(target.end().1.code(), Some(code));
        }
    }
}

#[test]
fn what_comes_without_a_command_is_said() {
    let target = Running::recv(&["8"]);
    send(
        &target,
        "8",
        &["--listen", "127.0.0.1:0", "--tag", "3", "--data", "x\ny"],
    );
    let (text, _) = target.end();
    assert!(text.contains("TCP listener 127.0.0.1:"), "{text}");
    assert!(text.contains("; tag 3; 3 bytes \"x\\ny\""), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    let target = Running::recv(&["8", "--json"]);
    send(&target, "8", &["--open", "/dev/null", "--fd", "0"]);
    let value: serde_json::Value = serde_json::from_str(&target.end().0).expect("JSON");
    assert_eq!(
        value["descriptors"],
        serde_json::json!(["/dev/null", "/dev/null"])
    );
    assert_eq!(value["tag"], 0);
}

#[test]
fn watch_shows_all_that_arrives() {
    let mut watch = Running::start(sendfd(&["watch", "9"]).stderr(std::process::Stdio::null()));
    for tag in ["1", "2", "3"] {
        send(&watch, "9", &["--fd", "0", "--tag", tag]);
        let line = watch.line();
        assert!(line.ends_with(&format!("; tag {tag}")), "{line}");
    }
}

#[test]
fn a_listening_socket_that_a_program_accepts_from() {
    if !has(
        "python3",
        Command::new("python3").arg("-V").output().is_ok(),
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket").display().to_string();
    let program =
        "import socket; s = socket.socket(fileno=3); c, _ = s.accept(); c.sendall(b'served')";
    let target = Running::recv(&["10", "--", "python3", "-c", program]);
    send(&target, "10", &["--listen", &path]);
    let mut text = String::new();
    let mut client = std::os::unix::net::UnixStream::connect(&path).expect("bound");
    client.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "served");
    assert!(target.end().1.success());
}

#[test]
fn exit_codes() {
    let (_file, path) = file("not a pid");
    let own = std::process::id().to_string();
    // A pid that was and is no more.
    let mut gone = Command::new("true").spawn().expect("runs");
    let gone_pid = gone.id().to_string();
    gone.wait().expect("ended");

    for words in [
        &["send", "1", "1"][..],
        &["send", "zero", "1", "--fd", "0"],
        &["send", "1", "30", "--fd", "0"],
        &["send", "1", "RTMIN+40", "--fd", "0"],
        &["send", "1", "1", "--fd", "77"],
        &["send", "1", "1", "--from", "1"],
        &["send", &format!("file:{path}"), "1", "--fd", "0"],
        &["send", "1", "1", "--fd", "0", "--timeout", "5 apples"],
        &["recv", "1", "--stdin"],
        &["send", "1", "1", "--listen", "nowhere"],
        &["nonsense"],
    ] {
        fails(words, 64);
    }
    let text = fails(&["send", &gone_pid, "1", "--fd", "0"], 68);
    assert!(text.contains("there is no such process"), "{text}");
    fails(&["send", "file:/nonexistent/pid", "1", "--fd", "0"], 68);
    let text = fails(&["send", &own, "1", "--fd", "0"], 69);
    assert!(text.contains("give a timeout"), "{text}");
    fails(&["send", &own, "1", "--open", "/nonexistent"], 71);
    fails(&["send", &own, "1", "--fd", "0", "--timeout", "10ms"], 75);
    fails(&["recv", "1", "--timeout", "0"], 75);
    fails(&["recv", "1", "--timeout", "10ms"], 75);
    assert!(fails(&["doctor", &own, "1"], 69).contains("does not listen there"));
    assert!(fails(&["doctor", &own], 69).contains("listens on no port"));
    fails(&["doctor", &gone_pid, "1"], 68);
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_pid_file() {
    let target = Running::recv(&["11", "--", "true"]);
    let (_file, path) = file(&format!("{}\n", target.pid()));
    ok(&[
        "send",
        &format!("file:{path}"),
        "11",
        "--fd",
        "0",
        "--timeout",
        PATIENCE,
    ]);
    assert!(target.end().1.success());
}

#[test]
fn another_user_is_refused() {
    if !has_root()
        || !has(
            "setpriv",
            Command::new("setpriv").arg("-V").output().is_ok(),
        )
    {
        return;
    }
    // The build folder may be closed to others.
    let folder = tempfile::Builder::new().tempdir().expect("a folder");
    let copy = folder.path().join("sendfd");
    std::fs::copy(env!("CARGO_BIN_EXE_sendfd"), &copy).expect("a copy");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("open to all");

    let as_nobody = |target: &Running, words: &[&str]| {
        let pid = target.pid();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .arg(&copy)
            .args([words[0], &pid, "12"])
            .args(&words[1..]);
        command
            .stdin(std::process::Stdio::null())
            .output()
            .expect("runs")
    };
    let mut target = Running::recv(&["12"]);
    // Only once it listens can it refuse.
    let output = as_nobody(&target, &["send", "--fd", "0", "--timeout", PATIENCE]);
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    let output = as_nobody(&target, &["doctor"]);
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("does not accept user 65534"),
        "{}",
        stderr(&output)
    );
    assert!(
        stdout(&output).contains("change: let the target name this user"),
        "{}",
        stdout(&output)
    );
    target.kill();

    let target = Running::recv(&["12", "--uid", "65534"]);
    let output = as_nobody(&target, &["send", "--fd", "0", "--timeout", PATIENCE]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(target.end().0.contains("user 65534"));
}

#[test]
fn list_and_doctor_find_who_listens() {
    let target = Running::recv(&["13"]);
    // It listens from when it can be reached: a send that is refused for its data sends nothing.
    let pid = target.pid();
    while !ok(&["list"]).lines().any(|line| {
        line.split_ascii_whitespace()
            .take(2)
            .eq([pid.as_str(), "13"])
    }) {
        std::thread::yield_now();
    }
    let text = ok(&["list", "--json"]);
    let rows = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let row = rows
        .into_iter()
        .find(|row| row["pid"].as_u64() == pid.parse().ok())
        .expect("listed");
    assert_eq!((&row["port"], &row["signal"]), (&"13".into(), &51.into()));

    let text = ok(&["doctor", &pid]);
    assert!(text.contains("at port 13 (signal 51)"), "{text}");
    assert!(text.contains("is the one that a send takes"), "{text}");
    let value: serde_json::Value =
        serde_json::from_str(&ok(&["doctor", &pid, "13", "--json"])).expect("JSON");
    assert!(value["error"].is_null());
    assert!(
        value["paths"]
            .as_array()
            .is_some_and(|paths| paths.len() == 3)
    );
    send(&target, "13", &["--fd", "0"]);
    assert!(target.end().1.success());
}

/// A filter as a container has it, in the command alone.
fn refusing(words: &[&str], errno: i32) -> std::process::Output {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = [(libc::SYS_pidfd_getfd, vec![])].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().expect("known");
    let refuse = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).expect("a filter");
    let program = BpfProgram::try_from(filter).expect("a program");
    let mut command = sendfd(words);
    // SAFETY: two system calls, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&program).map_err(|_| std::io::ErrorKind::Other.into())
        })
    };
    command.output().expect("runs")
}

#[test]
fn doctor_names_what_a_sandbox_refuses() {
    let target = Running::recv(&["14", "--", "true"]);
    let pid = target.pid();
    while run(&["doctor", &pid, "14"]).status.code() == Some(69) {
        std::thread::yield_now();
    }
    let output = refusing(&["doctor", &pid, "14"], libc::EPERM);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        text.contains("a seccomp filter refuses pidfd_getfd"),
        "{text}"
    );
    assert!(
        text.contains("change: allow pidfd_getfd in the container's seccomp profile"),
        "{text}"
    );
    assert!(text.contains("seccomp here: a filter"), "{text}");
    assert!(
        text.contains("name     works, and is the one that a send takes"),
        "{text}"
    );

    let output = refusing(&["doctor", &pid, "14"], libc::ENOSYS);
    let text = stdout(&output);
    assert!(
        text.contains("Linux 5.6 or later has pidfd_getfd"),
        "{text}"
    );

    // Never less than the library's own error.
    let narrowed = |words: &[&str]| {
        let output = sendfd(words)
            .env("SENDFD_PATHS", "syscall")
            .output()
            .expect("runs");
        (output.status.code(), stderr(&output))
    };
    let (code, sent) = narrowed(&["send", &pid, "14", "--fd", "0"]);
    let diagnosed = narrowed(&["doctor", &pid, "14"]);
    assert_eq!(diagnosed, (code, sent));
    send(&target, "14", &["--fd", "0"]);
    assert!(target.end().1.success());
}

#[test]
fn no_colours_in_a_pipe_or_with_no_color() {
    assert!(!ok(&["doctor"]).contains('\x1b'));
    let colours = |no_color: bool| {
        let (mut master, slave) = terminal()?;
        let mut command = sendfd(&["doctor"]);
        command.stdout(slave).env("TERM", "xterm");
        command.env_remove("NO_COLOR").env_remove("CI");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let mut child = command.spawn().expect("runs");
        drop(command);
        let mut bytes = Vec::new();
        // A terminal whose other side is closed answers EIO, not the end.
        let _ = master.read_to_end(&mut bytes);
        assert!(child.wait().expect("ours").success());
        assert!(!bytes.is_empty());
        Some(bytes.contains(&0x1b))
    };
    if let Some(shown) = colours(false) {
        assert!(shown);
        assert_eq!(colours(true), Some(false));
    }
}

#[test]
fn a_closed_pipe_is_no_error_to_talk_about() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = sendfd(&["doctor"]).stdout(writer).output().expect("runs");
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(141), String::new())
    );
}

#[test]
fn completions_and_man_pages() {
    for shell in ["bash", "zsh", "fish", "elvish"] {
        assert!(ok(&["completions", shell]).contains("doctor"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    ok(&["manual", &folder.path().display().to_string()]);
    for page in ["sendfd.1", "sendfd-send.1", "sendfd-recv.1"] {
        let text = std::fs::read_to_string(folder.path().join(page)).expect("written");
        assert!(text.contains(".SH NAME"), "{page}");
    }
}

/// Beside what was sent, COMMAND has what it would have without sendfd.
#[test]
fn only_what_was_sent_is_open_in_the_command() {
    let script = "for n in $(seq 0 300); do test -e /proc/$$/fd/$n && echo $n; done; true";
    let numbers = |text: &str| -> std::collections::BTreeSet<String> {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    };
    let mut plain = Command::new("sh");
    plain
        .args(["-c", script])
        .stdin(std::process::Stdio::null());
    let mut expected = numbers(&Running::start(&mut plain).end().0);
    expected.extend(["3", "4"].map(str::to_owned));

    let target = Running::recv(&["15", "--", "sh", "-c", script]);
    send(&target, "15", &["--fd", "0", "--fd", "0"]);
    assert_eq!(numbers(&target.end().0), expected);
}

#[test]
fn listen_addresses_that_cannot_be_had() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let own = std::process::id().to_string();
    let text = fails(&["send", &own, "1", "--listen", &address], 71);
    assert!(text.contains("another program listens there"), "{text}");
    let text = fails(&["send", &own, "1", "--listen", "203.0.113.1:1"], 71);
    assert!(text.contains("no interface"), "{text}");
}
