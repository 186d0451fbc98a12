//! Unpacking a batch: the reading side of the encodings.

use std::io::Read;

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use danmaku_wire::Dialect;

/// Largest plain text of one batch: what a hostile or broken server may make a client hold.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// How much the inflater's output grows when it is full.
const OUTPUT_STEP_BYTES: usize = 16 << 10;

/// Turns the packed bytes of one connection into plain text, in the order they came.
///
/// `deflate` over WebSocket and `gzip` over Server-Sent Events are one stream for the whole connection, so an unpacker must
/// see all of it.
pub struct Unpacker {
    inflater: Inflater,
}

enum Inflater {
    None,
    Member,
    /// A deflate stream of lines, one for each payload.
    Lines(Box<Decompress>),
    /// A deflate stream without boundaries between its pieces.
    Stream(Box<Decompress>),
}

impl Unpacker {
    /// An unpacker for a connection of this dialect. It takes whole payloads of WebSocket batches, or any pieces of an SSE
    /// body after the header of the gzip member.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        let stream = || Box::new(Decompress::new(false));
        let inflater = match dialect {
            Dialect::WsIdentity | Dialect::SseIdentity => Inflater::None,
            Dialect::WsGzip => Inflater::Member,
            Dialect::WsDeflate => Inflater::Lines(stream()),
            Dialect::SseGzip => Inflater::Stream(stream()),
        };
        Self { inflater }
    }

    /// Appends the plain text of some bytes to `plain`, without the newline that ends a `deflate` batch.
    ///
    /// # Errors
    /// A payload that does not unpack, or unpacks to more than 16 MiB.
    pub fn unpack(&mut self, payload: &[u8], plain: &mut Vec<u8>) -> Result<(), UnpackError> {
        match &mut self.inflater {
            Inflater::None => plain.extend_from_slice(payload),
            Inflater::Member => gunzip(payload, plain)?,
            Inflater::Stream(stream) => inflate(stream, payload, plain)?,
            Inflater::Lines(stream) => {
                inflate(stream, payload, plain)?;
                if plain.pop() != Some(b'\n') {
                    return Err(UnpackError::Unfinished);
                }
            }
        }
        Ok(())
    }
}

fn gunzip(payload: &[u8], plain: &mut Vec<u8>) -> Result<(), UnpackError> {
    let mut member = GzDecoder::new(payload).take(BATCH_BYTES_MAX as u64 + 1);
    let read = member
        .read_to_end(plain)
        .map_err(|_| UnpackError::Corrupt)?;
    if read > BATCH_BYTES_MAX {
        return Err(UnpackError::TooBig);
    }
    if !member.into_inner().into_inner().is_empty() {
        return Err(UnpackError::TrailingBytes);
    }
    Ok(())
}

/// Feeds `payload` into a raw-deflate stream and appends everything it gives.
fn inflate(
    stream: &mut Decompress,
    payload: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), UnpackError> {
    let start = plain.len();
    let mut rest = payload;
    loop {
        if plain.len() - start > BATCH_BYTES_MAX {
            return Err(UnpackError::TooBig);
        }
        plain.reserve(OUTPUT_STEP_BYTES);
        let consumed_before = stream.total_in();
        let status = stream
            .decompress_vec(rest, plain, FlushDecompress::Sync)
            .map_err(|_| UnpackError::Corrupt)?;
        let consumed = usize::try_from(stream.total_in() - consumed_before)
            .map_err(|_| UnpackError::Corrupt)?;
        rest = &rest[consumed..];
        match status {
            // A shared stream never ends: an end marker would strand every later batch.
            Status::StreamEnd => return Err(UnpackError::StreamEnded),
            Status::Ok | Status::BufError if plain.len() < plain.capacity() => {
                return if rest.is_empty() {
                    Ok(())
                } else {
                    Err(UnpackError::Corrupt)
                };
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Why a payload does not unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The bytes are not valid in this encoding, or refer to bytes this connection never got.
    #[error("the bytes do not decompress")]
    Corrupt,
    /// The plain text does not end where the batch ends.
    #[error("the plain text does not end with the batch")]
    Unfinished,
    /// The deflate stream was closed by an end marker.
    #[error("the deflate stream ended inside the connection")]
    StreamEnded,
    /// Bytes after the gzip member.
    #[error("bytes follow the gzip member")]
    TrailingBytes,
    /// Not the head of a gzip member without extras, which is what the server writes.
    #[error("the body does not begin as a gzip member")]
    Head,
    /// More plain text than a client accepts.
    #[error("the plain text is over 16 MiB")]
    TooBig,
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn unpack(unpacker: &mut Unpacker, payload: &[u8]) -> Result<String, UnpackError> {
        let mut plain = Vec::new();
        unpacker.unpack(payload, &mut plain)?;
        Ok(String::from_utf8(plain).unwrap())
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(compress: &mut Compress, text: &str, flush: FlushCompress) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 * text.len() + 1024);
        compress
            .compress_vec(text.as_bytes(), &mut out, flush)
            .unwrap();
        out
    }

    #[test]
    fn gzip_members_are_independent() {
        let mut unpacker = Unpacker::new(Dialect::WsGzip);
        assert_eq!(unpack(&mut unpacker, &gzip("one")).as_deref(), Ok("one"));
        let mut trailing = gzip("two");
        trailing.push(0);
        assert_eq!(
            unpack(&mut unpacker, &trailing),
            Err(UnpackError::TrailingBytes)
        );
        let cut = gzip("three");
        assert_eq!(
            unpack(&mut unpacker, &cut[..cut.len() - 3]),
            Err(UnpackError::Corrupt)
        );
    }

    #[test]
    fn deflate_is_one_stream() {
        let mut compress = Compress::new(Compression::default(), false);
        let long = "x".repeat(3 * OUTPUT_STEP_BYTES);
        let pieces: Vec<Vec<u8>> = ["first batch\n", "first batch again\n", &format!("{long}\n")]
            .iter()
            .map(|text| deflate(&mut compress, text, FlushCompress::Sync))
            .collect();
        let mut unpacker = Unpacker::new(Dialect::WsDeflate);
        assert_eq!(
            unpack(&mut unpacker, &pieces[0]).as_deref(),
            Ok("first batch")
        );
        assert_eq!(
            unpack(&mut unpacker, &pieces[1]).as_deref(),
            Ok("first batch again")
        );
        assert_eq!(unpack(&mut unpacker, &pieces[2]), Ok(long));
        let mut fresh = Unpacker::new(Dialect::WsDeflate);
        assert_eq!(unpack(&mut fresh, &pieces[1]), Err(UnpackError::Corrupt));
    }

    #[test]
    fn an_end_marker_or_a_missing_newline_is_an_error() {
        let mut compress = Compress::new(Compression::default(), false);
        let ended = deflate(&mut compress, "last\n", FlushCompress::Finish);
        assert_eq!(
            unpack(&mut Unpacker::new(Dialect::WsDeflate), &ended),
            Err(UnpackError::StreamEnded)
        );
        let mut compress = Compress::new(Compression::default(), false);
        let open = deflate(&mut compress, "no newline", FlushCompress::Sync);
        assert_eq!(
            unpack(&mut Unpacker::new(Dialect::WsDeflate), &open),
            Err(UnpackError::Unfinished)
        );
    }

    #[test]
    fn a_decompression_bomb_is_refused() {
        let bomb = gzip(&"0".repeat(BATCH_BYTES_MAX + 1));
        assert_eq!(
            unpack(&mut Unpacker::new(Dialect::WsGzip), &bomb),
            Err(UnpackError::TooBig)
        );
    }
}
