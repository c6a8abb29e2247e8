//! How many of the pool's connections a process still has open.

use std::collections::HashSet;

use super::listener::Listener;
use crate::address::Address;

/// By the inodes of its sockets and the kernel's tables of sockets. 0 where they cannot be read.
pub(crate) fn connections(pid: u32, listeners: &[Listener]) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let sockets: HashSet<String> = links
        .filter_map(|entry| {
            let link = std::fs::read_link(entry.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    let (tcp, unix) = (read("tcp") + &read("tcp6"), read("unix"));
    let of_tcp = tcp.lines().filter(|line| {
        let mut words = line.split_ascii_whitespace();
        let own = words.nth(1).and_then(|address| address.rsplit(':').next());
        let port = own.and_then(|port| u16::from_str_radix(port, 16).ok());
        let is_ours = listeners.iter().any(|listener| {
            matches!(listener.address, Address::Tcp(address) if Some(address.port()) == port)
        });
        is_ours && words.nth(7).is_some_and(|inode| sockets.contains(inode))
    });
    let of_unix = unix.lines().filter(|line| {
        let mut words = line.split_ascii_whitespace().skip(6);
        let (inode, name) = (words.next(), words.next().unwrap_or_default());
        let is_ours = listeners.iter().any(|listener| {
            !matches!(listener.address, Address::Tcp(_)) && listener.address.to_string() == name
        });
        is_ours && inode.is_some_and(|inode| sockets.contains(inode))
    });
    of_tcp.count() + of_unix.count()
}
