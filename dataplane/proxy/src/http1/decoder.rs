//! A body read off a connection, by its framing (RFC 9112, sections 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::framing::Framing;
use crate::limits::{CHUNK_LINE_BYTES, MAX_FIELDS, TRAILER_BYTES};

/// How far a body is read.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Length(u64),
    ChunkSize,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

/// What the bytes that were read give.
#[derive(Debug)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// More must be read first.
    More,
    Done,
    /// It ended early, or is no body of its framing.
    Broken,
}

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes are still to come, where the framing says it.
    pub fn exact(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Takes the next piece off `read`. `ended`: nothing will follow.
    pub fn next(&mut self, read: &mut BytesMut, ended: bool) -> Step {
        loop {
            let needs_more = if ended { Step::Broken } else { Step::More };
            match self.state {
                State::Done => return Step::Done,
                State::UntilClose if read.is_empty() && ended => {
                    self.state = State::Done;
                    return Step::Done;
                }
                State::UntilClose if read.is_empty() => return Step::More,
                State::UntilClose => return Step::Data(read.split().freeze()),
                State::Length(_) | State::Chunk(_) if read.is_empty() => return needs_more,
                State::Length(left) => {
                    let (data, left) = take(read, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Step::Data(data);
                }
                State::Chunk(left) => {
                    let (data, left) = take(read, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Step::Data(data);
                }
                State::ChunkSize => match httparse::parse_chunk_size(read) {
                    Ok(httparse::Status::Complete((length, size))) if length <= CHUNK_LINE_BYTES => {
                        read.advance(length);
                        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                    }
                    Ok(httparse::Status::Partial) if read.len() <= CHUNK_LINE_BYTES => return needs_more,
                    _ => return Step::Broken,
                },
                State::ChunkEnd => match read[..] {
                    [b'\r', b'\n', ..] => {
                        read.advance(2);
                        self.state = State::ChunkSize;
                    }
                    [] | [b'\r'] => return needs_more,
                    _ => return Step::Broken,
                },
                State::Trailers => match take_trailers(read) {
                    Some(trailers) => {
                        self.state = State::Done;
                        return match trailers {
                            Ok(trailers) if trailers.is_empty() => Step::Done,
                            Ok(trailers) => Step::Trailers(trailers),
                            Err(Malformed) => Step::Broken,
                        };
                    }
                    None => return needs_more,
                },
            }
        }
    }
}

fn take(read: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
    (read.split_to(taken).freeze(), left - taken as u64)
}

#[derive(Debug)]
struct Malformed;

/// The fields after the last chunk; `None` until their empty line is there.
fn take_trailers(read: &mut BytesMut) -> Option<Result<HeaderMap, Malformed>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(read, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) => {
            let trailers = collect(fields);
            read.advance(length);
            Some(trailers)
        }
        Ok(httparse::Status::Partial) if read.len() <= TRAILER_BYTES => None,
        _ => Some(Err(Malformed)),
    }
}

fn collect(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?;
        trailers.try_append(name, value).map_err(|_| Malformed)?;
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All data, the trailers' number, and how it ended, whatever the pieces in which `text` arrives.
    fn decode(framing: Framing, text: &[u8], piece: usize) -> (Vec<u8>, usize, bool, Vec<u8>) {
        let mut decoder = Decoder::new(framing);
        let (mut read, mut data, mut trailers) = (BytesMut::new(), Vec::new(), 0);
        let mut pieces = text.chunks(piece.max(1));
        let mut ended = false;
        loop {
            match decoder.next(&mut read, ended) {
                Step::Data(bytes) => data.extend_from_slice(&bytes),
                Step::Trailers(map) => trailers += map.len(),
                Step::More => match pieces.next() {
                    Some(piece) => read.extend_from_slice(piece),
                    None => ended = true,
                },
                Step::Done => return (data, trailers, true, read.to_vec()),
                Step::Broken => return (data, trailers, false, read.to_vec()),
            }
        }
    }

    #[test]
    fn each_framing_ends_at_its_end_and_leaves_the_rest() {
        for piece in [1, 3, 1000] {
            let (data, _, whole, rest) = decode(Framing::Length(3), b"abcNEXT", piece);
            assert!(data == b"abc" && whole && b"NEXT".starts_with(&rest[..]));
            let (data, trailers, whole, _) =
                decode(Framing::Chunked, b"3;x=\"y\"\r\nabc\r\n01\r\nd\r\n0\r\nA: b\r\n\r\nNEXT", piece);
            assert_eq!((&data[..], trailers, whole), (&b"abcd"[..], 1, true));
            let (data, _, whole, _) = decode(Framing::UntilClose, b"abc", piece);
            assert!(data == b"abc" && whole);
        }
    }

    #[test]
    fn a_body_that_ends_early_or_is_malformed_is_broken() {
        for (framing, text) in [
            (Framing::Length(4), &b"abc"[..]),
            (Framing::Chunked, b"3\r\nabc\r\n"),
            (Framing::Chunked, b"3\r\nabcX\r\n0\r\n\r\n"),
            (Framing::Chunked, b"x\r\n"),
            (Framing::Chunked, b"ffffffffffffffffff\r\n"),
            (Framing::Chunked, b"0\r\nno colon\r\n\r\n"),
            (Framing::Chunked, b"0\r\n"),
        ] {
            assert!(!decode(framing, text, 2).2, "{}", String::from_utf8_lossy(text));
        }
        let line = [b"1;".to_vec(), vec![b'a'; CHUNK_LINE_BYTES]].concat();
        assert!(!decode(Framing::Chunked, &line, 100).2, "a chunk extension has a limit");
        let trailers = [b"0\r\nx: ".to_vec(), vec![b'a'; TRAILER_BYTES]].concat();
        assert!(!decode(Framing::Chunked, &trailers, 4000).2, "trailers have a limit");
    }

    proptest! {
        #[test]
        fn what_is_written_in_chunks_is_read_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8), piece in 1_usize..20) {
            let mut text = BytesMut::new();
            for chunk in &chunks {
                super::super::framing::put_chunk_start(&mut text, chunk.len());
                text.extend_from_slice(chunk);
                text.extend_from_slice(super::super::framing::CHUNK_END);
            }
            super::super::framing::put_last_chunk(&mut text, None);
            let (data, _, whole, rest) = decode(Framing::Chunked, &text, piece);
            prop_assert!(whole && rest.is_empty());
            prop_assert_eq!(data, chunks.concat());
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..20) {
            decode(Framing::Chunked, &text, piece);
            let mut read = BytesMut::from(&text[..]);
            let _ = super::super::head::take_request(&mut read, &mut super::super::head::HeadFinder::default(), 100, &mut HeaderMap::new());
        }
    }
}
