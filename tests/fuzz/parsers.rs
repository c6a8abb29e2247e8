//! Whatever another process may write, read by each parser of the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sendfd_core::fuzzing::parse(bytes));
