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
