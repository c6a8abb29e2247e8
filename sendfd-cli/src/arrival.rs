//! A message that arrived, in words or in JSON.

use std::os::fd::OwnedFd;

use rustix::net::{getpeername, getsockname};
use sendfd_core::{Kind, Message, detect};
use serde_json::json;

/// One line.
pub(crate) fn words(message: &Message) -> String {
    let sender = match message.sender.pid {
        0 => "a process that cannot be seen from here".to_owned(),
        pid => format!("process {pid}"),
    };
    let kinds: Vec<String> = message.fds.iter().map(describe).collect();
    let mut line = format!(
        "from {sender}, user {}, by {}: {}",
        message.sender.uid,
        message.path,
        kinds.join(", ")
    );
    if message.tag != 0 {
        line += &format!("; tag {}", message.tag);
    }
    if !message.data.is_empty() {
        let shown = &message.data[..message.data.len().min(64)];
        line += &format!(
            "; {} bytes \"{}\"",
            message.data.len(),
            shown.escape_ascii()
        );
        if shown.len() < message.data.len() {
            line += "…";
        }
    }
    line
}

pub(crate) fn json(message: &Message) -> String {
    let text = std::str::from_utf8(&message.data).ok();
    json!({
        "pid": message.sender.pid,
        "uid": message.sender.uid,
        "gid": message.sender.gid,
        "path": message.path.as_str(),
        "tag": message.tag,
        "data": text,
        "data_len": message.data.len(),
        "descriptors": message.fds.iter().map(describe).collect::<Vec<_>>(),
    })
    .to_string()
}

/// What kind of open file it is, with its address where it has one.
fn describe(fd: &OwnedFd) -> String {
    let (family, kind, listening) = match detect(fd) {
        Ok(Kind::Socket {
            family,
            kind,
            listening,
            ..
        }) => (family, kind, listening),
        Ok(Kind::File) => return link(fd).unwrap_or_else(|| "a file".to_owned()),
        Ok(Kind::Directory) => return link(fd).unwrap_or_else(|| "a directory".to_owned()),
        Ok(Kind::Pipe) => return "a pipe".to_owned(),
        Ok(Kind::CharacterDevice | Kind::BlockDevice) => {
            return link(fd).unwrap_or_else(|| "a device".to_owned());
        }
        Ok(_) => return link(fd).unwrap_or_else(|| "a descriptor".to_owned()),
        Err(error) => return error.to_string(),
    };
    let family = match family {
        libc::AF_INET | libc::AF_INET6 => match kind {
            libc::SOCK_STREAM => "TCP",
            libc::SOCK_DGRAM => "UDP",
            _ => "IP",
        },
        libc::AF_UNIX => "unix",
        _ => "",
    };
    let own = getsockname(fd)
        .map(|address| show(&address))
        .unwrap_or_default();
    if listening {
        return format!("{family} listener {own}").trim_end().to_owned();
    }
    match getpeername(fd) {
        Ok(Some(peer)) => format!("{family} connection {own} from {}", show(&peer)),
        Ok(None) => format!("{family} connection {own}"),
        Err(_) => format!("{family} socket {own}"),
    }
    .trim_end()
    .to_owned()
}

fn show(address: &rustix::net::SocketAddrAny) -> String {
    use rustix::net::SocketAddrUnix;
    if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
        return address.to_string();
    }
    let Ok(address) = SocketAddrUnix::try_from(address.clone()) else {
        return String::new();
    };
    match (address.path_bytes(), address.abstract_name()) {
        (_, Some(name)) => format!("@{}", name.escape_ascii()),
        (Some(path), _) => path.escape_ascii().to_string(),
        _ => "without a name".to_owned(),
    }
}

fn link(fd: &OwnedFd) -> Option<String> {
    use std::os::fd::AsRawFd;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    Some(link.display().to_string())
}
