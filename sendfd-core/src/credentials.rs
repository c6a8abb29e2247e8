//! Who sent a message.

/// Who sent a message, vouched for by the kernel. Numbers are those of the receiver's namespaces.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_CREDENTIALS`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Process id; 0 if the sender cannot be seen from the receiver's pid namespace.
    ///
    /// It says who sent, and is no address to answer to: the sender may have exited by then, and its pid
    /// be another process's. Who wants an answer sends one end of a socket pair along.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id; the greatest number where it is not known, which is so on the `syscall` path.
    pub gid: u32,
}

/// What the kernel shows for a user or group that has no number in a user namespace.
pub(crate) const OVERFLOW: u32 = 65534;

/// The lines of a uid_map: the first user inside, the first outside, how many.
///
/// # References
/// - [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)
pub(crate) fn extents(map: &[u8]) -> impl Iterator<Item = [u64; 3]> {
    let lines = map.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let mut next = || words.next()?.parse::<u32>().ok().map(u64::from);
        Some([next()?, next()?, next()?])
    })
}

/// Whether they leave nobody out, so that [`OVERFLOW`] is an ordinary user.
pub(crate) fn maps_everybody(map: &[u8]) -> bool {
    // The highest number is no user.
    extents(map).map(|[_, _, count]| count).sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        assert!(maps_everybody(b"         0          0 4294967295\n"));
        assert!(maps_everybody(b"0 0 1000\n1000 1000 4294966295\n"));
        assert!(!maps_everybody(b"0 100000 65536\n"));
        assert!(!maps_everybody(b""));
    }
}
