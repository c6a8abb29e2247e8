//! How much one message carries.

/// How many descriptors one message carries at most: the kernel's SCM_MAX_FD.
pub const MAX_FDS: usize = 253;

/// How many bytes of data one message carries at most. Above 4096 they travel in a sealed memfd, which
/// takes the place of one of the descriptors: [`MAX_FDS`] - 1 can go with them.
pub const MAX_DATA: usize = 1 << 20;
