//! How much one message carries.

/// How many descriptors one message carries at most: the kernel's SCM_MAX_FD.
pub const MAX_FDS: usize = 253;

/// How many bytes of data one message carries at most.
pub const MAX_DATA: usize = 4096;
