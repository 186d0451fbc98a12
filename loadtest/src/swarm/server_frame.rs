//! Frames of a server as a viewer reads them (RFC 6455 section 5.2): found in place, nothing is copied.

/// One whole frame at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerFrame<'a> {
    /// What the frame is.
    pub kind: FrameKind,
    /// Its payload.
    pub payload: &'a [u8],
    /// Bytes of head and payload.
    pub bytes: usize,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A text message.
    Text,
    /// A binary message.
    Binary,
    /// A close.
    Close,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
}

/// What a server must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// RSV bits without an extension.
    #[error("a frame with RSV bits")]
    ReservedBits,
    /// An opcode RFC 6455 does not know.
    #[error("a frame with an unknown opcode")]
    Opcode,
    /// Servers do not mask.
    #[error("a masked frame")]
    Masked,
    /// No server known to this harness splits its messages, and a split one would hide what the audit looks for.
    #[error("a fragmented message")]
    Fragmented,
    /// A length in more bytes than it needs.
    #[error("a frame with an overlong length")]
    Overlong,
    /// More than the harness takes.
    #[error("a frame over 16 MiB")]
    TooBig,
}

/// Largest payload that is taken.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 16 << 20;
const CONTROL_PAYLOAD_BYTES_MAX: u64 = 125;

impl<'a> ServerFrame<'a> {
    /// The frame at the start of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Bytes that are no frame a server may send, noticed as soon as they show.
    #[inline]
    pub fn parse(input: &'a [u8]) -> Result<Option<Self>, FrameFault> {
        let [first, second, rest @ ..] = input else {
            return Ok(None);
        };
        let kind = kind(*first)?;
        if second & 0x80 != 0 {
            return Err(FrameFault::Masked);
        }
        let (len, body) = match second & 0x7F {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, body)) => (u64::from(u16::from_be_bytes(*len)), body),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, body)) => (u64::from_be_bytes(*len), body),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let head_bytes = input.len() - body.len();
        let shortest = if len < 126 {
            2
        } else if len <= 0xFFFF {
            4
        } else {
            10
        };
        if head_bytes != shortest {
            return Err(FrameFault::Overlong);
        }
        let control = matches!(kind, FrameKind::Close | FrameKind::Ping | FrameKind::Pong);
        if len > PAYLOAD_BYTES_MAX || (control && len > CONTROL_PAYLOAD_BYTES_MAX) {
            return Err(FrameFault::TooBig);
        }
        let len = usize::try_from(len).map_err(|_| FrameFault::TooBig)?;
        Ok(body.get(..len).map(|payload| Self {
            kind,
            payload,
            bytes: head_bytes + len,
        }))
    }

    /// The code of a close frame; 1005 when it has none.
    #[must_use]
    pub fn close_code(&self) -> u16 {
        self.payload
            .split_first_chunk::<2>()
            .map_or(1005, |(code, _)| u16::from_be_bytes(*code))
    }
}

fn kind(first: u8) -> Result<FrameKind, FrameFault> {
    if first & 0x70 != 0 {
        return Err(FrameFault::ReservedBits);
    }
    let kind = match first & 0x0F {
        0 => return Err(FrameFault::Fragmented),
        1 => FrameKind::Text,
        2 => FrameKind::Binary,
        8 => FrameKind::Close,
        9 => FrameKind::Ping,
        10 => FrameKind::Pong,
        _ => return Err(FrameFault::Opcode),
    };
    if first & 0x80 == 0 {
        return Err(FrameFault::Fragmented);
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(u8::try_from(len).unwrap()),
            len @ 126..=0xFFFF => {
                frame.push(126);
                frame.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                frame.push(127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn a_frame_of_any_length_is_found_only_once_it_is_complete() {
        for len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000] {
            let payload = vec![b'x'; len];
            let mut bytes = frame(0x82, &payload);
            let whole = bytes.len();
            bytes.extend_from_slice(b"\x81\x01y");
            for cut in [0, 1, 2, 3, 9, whole - 1] {
                assert_eq!(
                    ServerFrame::parse(&bytes[..cut.min(whole - 1)]),
                    Ok(None),
                    "length {len} cut at {cut}"
                );
            }
            let parsed = ServerFrame::parse(&bytes).unwrap().unwrap();
            assert_eq!(
                (parsed.kind, parsed.bytes, parsed.payload),
                (FrameKind::Binary, whole, &payload[..])
            );
        }
    }

    #[test]
    fn invalid_frames_are_detected_at_their_head() {
        let check = |bytes: &[u8], fault| {
            assert_eq!(ServerFrame::parse(bytes), Err(fault), "for {bytes:?}");
        };
        check(&[0xC1, 0], FrameFault::ReservedBits);
        check(&[0x83, 0], FrameFault::Opcode);
        check(&[0x81, 0x80], FrameFault::Masked);
        check(&[0x01, 0], FrameFault::Fragmented);
        check(&[0x80, 0], FrameFault::Fragmented);
        check(&[0x81, 126, 0, 125], FrameFault::Overlong);
        check(
            &[0x81, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            FrameFault::Overlong,
        );
        check(&[0x81, 127, 0x40, 0, 0, 0, 0, 0, 0, 0], FrameFault::TooBig);
        check(&[0x89, 126, 0, 126], FrameFault::TooBig);
    }

    #[test]
    fn close_codes() {
        let code = |payload: &[u8]| {
            ServerFrame::parse(&frame(0x88, payload))
                .unwrap()
                .unwrap()
                .close_code()
        };
        assert_eq!(code(&4001_u16.to_be_bytes()), 4001);
        assert_eq!(code(b""), 1005);
    }
}
