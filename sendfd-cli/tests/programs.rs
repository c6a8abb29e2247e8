//! Programs that nobody here wrote, which take a listening socket from `sendfd recv -- COMMAND`.
#![allow(missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{PATIENCE, Running, sendfd};
use sendfd_tests::has;

/// Where a program is: the Python environment of this repository has some.
fn find(program: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([own, "/usr/sbin".into()]);
    let found = folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.exists()));
    // One of an environment that is closed to this user does not run.
    let runs = |path: &PathBuf| {
        ["-v", "--version"].iter().any(|flag| {
            let output = Command::new(path).arg(flag).output();
            output.is_ok_and(|output| output.status.success())
        })
    };
    let found = found.filter(runs);
    has(program, found.is_some()).then_some(found).flatten()
}

/// Starts `command` with a listening socket, asks it by HTTP, and gives its answer's body.
fn ask(port: &str, command: &[&str], folder: &Path, prepare: impl Fn(u16)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    prepare(address.port());
    let mut words = vec!["recv", port, "--timeout", PATIENCE, "--"];
    words.extend(command);
    let mut program = Running::start(sendfd(&words).current_dir(folder));
    let pid = program.pid();
    let send = ["send", &pid, port, "--fd", "0", "--timeout", PATIENCE];
    let status = sendfd(&send).stdin(OwnedFd::from(listener)).status();
    assert!(status.expect("it runs").success());

    // The socket listens: this waits in its queue until the program accepts.
    let mut client = TcpStream::connect(address).expect("it listens");
    client
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let request = "GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    client.read_to_string(&mut text).expect("an answer");
    // As a person would, so that it can end what it has started.
    let end = Command::new("kill").arg(&pid).status();
    assert!(end.expect("it runs").success());
    let _ = program.child.wait();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
}

#[test]
fn nginx() {
    let Some(program) = find("nginx") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!(
        "NGINX='3;' exec {} -p . -c nginx.conf -e stderr",
        program.display()
    );
    let body = ask("21", &["sh", "-c", &script], folder.path(), |port| {
        // Its workers would be another user, to whom this folder is closed.
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let config = format!(
            "{user} daemon off; pid nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c;\n\
             uwsgi_temp_path d; scgi_temp_path e;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 'from nginx'; }} }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).expect("written");
    });
    assert_eq!(body, "from nginx");
}

#[test]
fn haproxy() {
    let Some(program) = find("haproxy") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let config = "defaults\n mode http\n timeout client 60s\n timeout server 60s\n timeout connect 60s\n\
        frontend all\n bind fd@3\n http-request return status 200 content-type text/plain string from-haproxy\n";
    std::fs::write(folder.path().join("haproxy.cfg"), config).expect("written");
    let program = program.display().to_string();
    let body = ask(
        "22",
        &[&program, "-f", "haproxy.cfg"],
        folder.path(),
        |_| {},
    );
    assert_eq!(body, "from-haproxy");
}

#[test]
fn gunicorn() {
    let Some(program) = find("gunicorn") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let app = "def app(environ, start_response):\n    start_response('200 OK', [('Content-Length', '13')])\n    return [b'from gunicorn']\n";
    std::fs::write(folder.path().join("app.py"), app).expect("written");
    let program = program.display().to_string();
    let body = ask("23", &[&program, "app:app"], folder.path(), |_| {});
    assert_eq!(body, "from gunicorn");
}

#[test]
fn uvicorn() {
    let Some(program) = find("uvicorn") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let app = "async def app(scope, receive, send):\n    if scope['type'] != 'http':\n        return\n    \
        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'12')]})\n    \
        await send({'type': 'http.response.body', 'body': b'from uvicorn'})\n";
    std::fs::write(folder.path().join("app.py"), app).expect("written");
    let program = program.display().to_string();
    let body = ask(
        "24",
        &[&program, "--fd", "3", "--lifespan", "off", "app:app"],
        folder.path(),
        |_| {},
    );
    assert_eq!(body, "from uvicorn");
}
