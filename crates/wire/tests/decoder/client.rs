//! Frames as clients send them, and how to decode them.

use danmaku_wire::{ClientDecoder, ClientEvent, DecodeError};

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

pub(crate) const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A masked frame with a minimal length; `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        len @ 0..=125 => vec![len as u8],
        len @ 126..=0xFFFF => [&[126][..], &(len as u16).to_be_bytes()].concat(),
        len => [&[127][..], &(len as u64).to_be_bytes()].concat(),
    };
    frame_with_length(first, &length, payload)
}

/// A masked frame with this encoding of its length.
pub(crate) fn frame_with_length(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | length[0]];
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// An event that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

impl Event {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The events, and how decoding ended.
pub(crate) type Decoded = (Vec<Event>, Result<(), DecodeError>);

pub(crate) const MESSAGE_BYTES_MAX: u32 = 4096;

/// Decodes pieces that arrive one after the other.
pub(crate) fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = ClientDecoder::new(MESSAGE_BYTES_MAX);
    let mut events = Vec::new();
    for piece in pieces {
        let decoded = decoder.decode(&mut piece.to_vec(), |event| {
            events.push(match event {
                ClientEvent::Text(text) => Event::Text(String::from_utf8(text.to_vec()).unwrap()),
                ClientEvent::Binary(bytes) => Event::Binary(bytes.to_vec()),
                ClientEvent::Ping(payload) => Event::Ping(payload.to_vec()),
                ClientEvent::Pong(payload) => Event::Pong(payload.to_vec()),
                ClientEvent::Close(code) => Event::Close(code),
            });
        });
        if decoded.is_err() {
            return (events, decoded);
        }
    }
    (events, Ok(()))
}
