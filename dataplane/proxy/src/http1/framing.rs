//! Where a body ends (RFC 9112, section 6), and how one is written.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName};

/// How a body is delimited.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body. What a `Content-Length` says is said of another message (HEAD, 304).
    None,
    Length(u64),
    Chunked,
    /// Only towards or from one that closes afterwards.
    UntilClose,
}

/// Fields that frame, route or authenticate a message, or say how to read it, may not come after it (RFC 9110,
/// section 6.5.1).
static NOT_IN_TRAILERS: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

pub(crate) fn put_field(text: &mut BytesMut, name: &[u8], value: &[u8]) {
    text.reserve(name.len() + value.len() + 4);
    text.put_slice(name);
    text.put_slice(b": ");
    text.put_slice(value);
    text.put_slice(b"\r\n");
}

/// Before a chunk's bytes.
pub(crate) fn put_chunk_start(text: &mut BytesMut, length: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        text.put_u8(HEX[(length >> (digit * 4)) & 0xf]);
    }
    text.put_slice(b"\r\n");
}

/// After a chunk's bytes.
pub(crate) const CHUNK_END: &[u8] = b"\r\n";

/// The end of a chunked body, with the trailers that may be there.
pub(crate) fn put_last_chunk(text: &mut BytesMut, trailers: Option<&HeaderMap>) {
    text.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| !NOT_IN_TRAILERS.contains(name)) {
        put_field(text, name.as_str().as_bytes(), value.as_bytes());
    }
    text.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal_without_leading_zeros() {
        for (length, expected) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0x1f_a0b, "1fa0b\r\n")] {
            let mut text = BytesMut::new();
            put_chunk_start(&mut text, length);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn trailers_do_not_reframe_the_message() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "5".parse().unwrap());
        trailers.insert(header::CONTENT_LENGTH, "7".parse().unwrap());
        trailers.insert(header::TRANSFER_ENCODING, "chunked".parse().unwrap());
        let mut text = BytesMut::new();
        put_last_chunk(&mut text, Some(&trailers));
        assert_eq!(text, "0\r\nx-sum: 5\r\n\r\n");
    }
}
