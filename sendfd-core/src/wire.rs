//! The record that carries a message through an inbox: a header, then the sender's bytes, with the
//! descriptors as SCM_RIGHTS beside them.
//!
//! All numbers are little-endian:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | magic, `"sfd\x01"`; the last byte is the version |
//! | 4 | 1 | signal, counted from the kernel's first real-time signal |
//! | 5 | 1 | flags: 1 if the data is in a sealed memfd, which travels as one descriptor more, the last |
//! | 6 | 2 | number of descriptors, 1 to 253, and to 252 beside a memfd |
//! | 8 | 4 | length of the data, 0 to 4096, or up to 1 MiB in a memfd |
//! | 12 | 4 | reserved, 0 |
//! | 16 | 8 | tag |

use crate::limits::{MAX_DATA, MAX_FDS};
use crate::signal;

/// How many bytes of data a record has room for; more travels in a memfd.
pub(crate) const INLINE_DATA: usize = 4096;

/// The flag of a record whose data is in a memfd.
const SEALED: u8 = 1;

const MAGIC: [u8; 4] = *b"sfd\x01";

/// The length of an encoded header.
pub(crate) const HEADER_LEN: usize = 24;

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sig: i32,
    pub(crate) nfds: u16,
    pub(crate) data_len: u32,
    pub(crate) tag: u64,
    /// The data is not in the record but in a memfd, a descriptor that `nfds` does not count.
    pub(crate) sealed: bool,
}

impl Header {
    /// The bytes of this header.
    #[must_use]
    #[inline]
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        // A checked signal is between the kernel's first and last.
        bytes[4] = signal::index(self.sig) as u8;
        bytes[5] = if self.sealed { SEALED } else { 0 };
        bytes[6..8].copy_from_slice(&self.nfds.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.data_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tag.to_le_bytes());
        bytes
    }

    /// The header that a whole record begins with, if it is one and its length is what it says.
    /// How many descriptors really came is for the caller to compare.
    #[must_use]
    #[inline]
    pub(crate) fn parse(record: &[u8]) -> Option<Header> {
        let (bytes, data) = record.split_first_chunk::<HEADER_LEN>()?;
        let header = Header {
            sig: i32::from(bytes[4]) + signal::KERNEL_RTMIN,
            nfds: u16::from_le_bytes([bytes[6], bytes[7]]),
            data_len: u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            tag: u64::from_le_bytes([
                bytes[16], bytes[17], bytes[18], bytes[19], bytes[20], bytes[21], bytes[22],
                bytes[23],
            ]),
            sealed: bytes[5] == SEALED,
        };
        let data_len = header.data_len as usize;
        let well_sized = match header.sealed {
            false => data_len <= INLINE_DATA && data_len == data.len(),
            true => (INLINE_DATA + 1..=MAX_DATA).contains(&data_len) && data.is_empty(),
        };
        let valid = bytes[0..4] == MAGIC
            && usize::from(bytes[4]) < signal::COUNT
            && bytes[5] <= SEALED
            && bytes[12..16] == [0; 4]
            && (1..=MAX_FDS).contains(&header.descriptors())
            && header.nfds > 0
            && well_sized;
        valid.then_some(header)
    }

    /// How many descriptors the record comes with.
    #[inline]
    pub(crate) fn descriptors(&self) -> usize {
        usize::from(self.nfds) + usize::from(self.sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            sig: 40,
            nfds: 3,
            data_len: 5,
            tag: 0x0102_0304_0506_0708,
            sealed: false,
        }
    }

    fn sealed(data_len: u32) -> Header {
        Header {
            data_len,
            sealed: true,
            ..header()
        }
    }

    fn record() -> Vec<u8> {
        let mut record = header().encode().to_vec();
        record.extend_from_slice(b"hello");
        record
    }

    #[test]
    fn round_trip() {
        assert_eq!(Header::parse(&record()), Some(header()));
    }

    #[test]
    fn known_bytes() {
        // Two versions of the library meet on one machine: the layout may not drift.
        let bytes = [
            b's', b'f', b'd', 1, 8, 0, 3, 0, 5, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1,
        ];
        assert_eq!(header().encode(), bytes);
        let bytes = [
            b's', b'f', b'd', 1, 8, 1, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1,
        ];
        assert_eq!(sealed(MAX_DATA as u32).encode(), bytes);
        assert_eq!(Header::parse(&bytes), Some(sealed(MAX_DATA as u32)));
    }

    #[test]
    fn a_memfd_carries_what_the_record_cannot() {
        let parse = |header: Header| Header::parse(&header.encode());
        for data_len in [4097, 65_536, 1 << 20] {
            assert_eq!(
                parse(sealed(data_len)).map(|header| header.descriptors()),
                Some(4)
            );
        }
        for data_len in [0, 1, 4096, (1 << 20) + 1, u32::MAX] {
            assert_eq!(parse(sealed(data_len)), None, "{data_len}");
        }
        for (nfds, known) in [(0, false), (1, true), (252, true), (253, false)] {
            let header = Header {
                nfds,
                ..sealed(4097)
            };
            assert_eq!(parse(header).is_some(), known, "{nfds}");
        }
        // Nothing else is in the record then.
        let mut record = sealed(4097).encode().to_vec();
        record.push(0);
        assert_eq!(Header::parse(&record), None);
        record.resize(HEADER_LEN + 4097, 0);
        assert_eq!(Header::parse(&record), None);
    }

    #[test]
    fn flags_that_nobody_knows_are_refused() {
        for flags in 2..=u8::MAX {
            let mut record = sealed(4097).encode();
            record[5] = flags;
            assert_eq!(Header::parse(&record), None, "{flags}");
        }
    }

    #[test]
    fn every_shorter_or_longer_record_is_refused() {
        let record = record();
        for length in 0..record.len() {
            assert_eq!(Header::parse(&record[..length]), None, "{length} bytes");
        }
        let mut longer = record;
        longer.push(0);
        assert_eq!(Header::parse(&longer), None);
    }

    #[test]
    fn every_fixed_byte_counts() {
        for at in [0, 1, 2, 3, 5, 7, 9, 10, 11, 12, 13, 14, 15] {
            let mut record = record();
            record[at] ^= 0x80;
            assert_eq!(Header::parse(&record), None, "byte {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_parses_says_what_it_is(record: Vec<u8>) {
            check(&record);
        }

        /// Most random bytes are no record, so these begin like one.
        #[test]
        fn whatever_begins_well_does_too(
            sig: u8, sealed: bool, nfds: u16, len: u32, tag: u64, data: Vec<u8>
        ) {
            let mut record = MAGIC.to_vec();
            record.extend([sig, sealed.into()]);
            record.extend((nfds % 300).to_le_bytes());
            record.extend(if sealed { len >> 11 } else { len % 300 }.to_le_bytes());
            record.extend([0; 4]);
            record.extend(tag.to_le_bytes());
            record.extend(if sealed { Vec::new() } else { data });
            check(&record);
        }
    }

    fn check(record: &[u8]) {
        if let Some(header) = Header::parse(record) {
            assert_eq!(header.encode(), record[..HEADER_LEN]);
            let inline = if header.sealed {
                0
            } else {
                header.data_len as usize
            };
            assert_eq!(inline, record.len() - HEADER_LEN);
            assert!((1..=MAX_FDS).contains(&header.descriptors()));
        }
    }
}
