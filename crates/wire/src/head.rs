//! Heads of frames from the server: final, not masked (RFC 6455, section 5.2).

use bytes::Bytes;

/// Longest head of a frame that is not masked.
pub(crate) const SERVER_HEAD_BYTES_MAX: usize = 10;

/// What a frame is (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(crate) const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a frame, as long as its payload needs.
#[derive(Clone, Copy)]
pub(crate) struct ServerHead {
    bytes: [u8; SERVER_HEAD_BYTES_MAX],
    len: usize,
}

impl ServerHead {
    pub(crate) fn new(opcode: Opcode, payload_len: usize) -> Self {
        let mut bytes = [0; SERVER_HEAD_BYTES_MAX];
        bytes[0] = 0x80 | opcode.bits();
        let len = if let Ok(len @ 0..=125) = u8::try_from(payload_len) {
            bytes[1] = len;
            2
        } else if let Ok(len) = u16::try_from(payload_len) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        };
        Self { bytes, len }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A binary message from the server.
pub(crate) fn binary_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Binary, payload)
}

/// A frame in an allocation of its exact size.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let head = ServerHead::new(opcode, payload.len());
    let mut bytes = Vec::with_capacity(head.as_bytes().len() + payload.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(payload);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_have_minimal_lengths() {
        fn check(payload_len: usize, expected: &[u8]) {
            assert_eq!(
                ServerHead::new(Opcode::Text, payload_len).as_bytes(),
                expected,
                "{payload_len}"
            );
        }
        check(0, &[0x81, 0]);
        check(125, &[0x81, 125]);
        check(126, &[0x81, 126, 0, 126]);
        check(65_535, &[0x81, 126, 0xFF, 0xFF]);
        check(65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn opcodes_come_back() {
        for bits in 0..=u8::MAX {
            if let Some(opcode) = Opcode::from_bits(bits) {
                assert_eq!(opcode.bits(), bits);
            }
        }
        assert_eq!((0..=u8::MAX).filter_map(Opcode::from_bits).count(), 6);
    }
}
