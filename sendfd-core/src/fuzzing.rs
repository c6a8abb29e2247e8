//! What `make fuzz` calls; not part of the library. See tests/fuzz.

use crate::{address, admission, marker, process, signal, sys, wire};

/// Reads `bytes` as each of the things that other processes write. Panics where a parser contradicts
/// itself.
pub fn parse(bytes: &[u8]) {
    if let Some(header) = wire::Header::parse(bytes) {
        assert!(bytes.starts_with(&header.encode()), "{header:?}");
    }
    marker::fuzz(bytes);
    address::fuzz(bytes);
    process::fuzz(bytes);
    admission::fuzz(bytes);
    sys::fuzz_control(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(port) = text.parse::<signal::Port>() {
            assert_eq!(port.to_string().parse(), Ok(port), "{text:?}");
        }
    }
}
