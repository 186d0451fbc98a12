//! A strict decoder of frames from clients, without I/O (RFC 6455, section 5).

use std::mem;

use fastwebsockets::unmask;

use crate::close::CloseReason;
use crate::head::Opcode;
use crate::limits::{CONTROL_PAYLOAD_BYTES_MAX, FRAGMENTS_MAX};

/// Longest head of a masked frame: two bytes, eight of length, four of mask.
const CLIENT_HEAD_BYTES_MAX: usize = 14;

/// Decodes what one client sends.
///
/// Between messages it takes 16 bytes and no heap: complete messages are unmasked and handed out in place. Only incomplete
/// data is copied and kept, and never more than the given limit.
#[derive(Debug)]
pub struct ClientDecoder {
    partial: Option<Box<Partial>>,
    message_bytes_max: u32,
    state: State,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'a> {
    /// A text message: valid UTF-8, which may be overwritten.
    Text(&'a mut [u8]),
    /// A binary message.
    Binary(&'a mut [u8]),
    /// A ping, whose payload must be sent back in a pong.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// A close, with its code if it has one. Nothing after it is decoded.
    Close(Option<u16>),
}

/// How a client broke the protocol. The connection must be closed with [`DecodeError::close_reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A reserved bit is set; no extension was agreed on (section 5.2).
    #[error("a reserved bit is set")]
    ReservedBits,
    /// The opcode is reserved (section 5.2).
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A frame is not masked (section 5.1).
    #[error("a frame is not masked")]
    Unmasked,
    /// A control frame is fragmented (section 5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame has more than 125 bytes (section 5.5).
    #[error("a control frame is too long")]
    LongControl,
    /// A length is not written in the shortest way (section 5.2).
    #[error("a length is not minimal")]
    NonMinimalLength,
    /// The top bit of a 64-bit length is set (section 5.2).
    #[error("the top bit of a length is set")]
    LengthTopBit,
    /// A continuation with nothing to continue (section 5.4).
    #[error("a continuation frame has nothing to continue")]
    UnexpectedContinuation,
    /// A new message inside a fragmented one (section 5.4).
    #[error("the previous message is incomplete")]
    InterleavedMessage,
    /// A close frame with a payload of one byte (section 5.5.1).
    #[error("a close frame has an incomplete code")]
    HalfCloseCode,
    /// A close code that must not be sent (section 7.4).
    #[error("close code {0} must not be sent")]
    BadCloseCode(u16),
    /// A text message or a close reason is not UTF-8 (section 8.1).
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A message, fragments combined, is over the limit.
    #[error("a message is too big")]
    TooBig,
    /// A message has more than [`FRAGMENTS_MAX`] fragments.
    #[error("a message has too many fragments")]
    TooManyFragments,
}

impl DecodeError {
    /// What to close the connection with.
    #[must_use]
    pub const fn close_reason(self) -> CloseReason {
        match self {
            Self::TooBig => CloseReason::TooBig,
            Self::InvalidUtf8 => CloseReason::InvalidData,
            Self::TooManyFragments => CloseReason::Flooding,
            _ => CloseReason::ProtocolError,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// After a close frame or an error: further input is ignored.
    Done,
}

/// A frame header that passed every check.
#[derive(Debug, Clone, Copy)]
struct Head {
    is_final: bool,
    opcode: Opcode,
    mask: [u8; 4],
    payload_len: usize,
}

/// State kept between two reads.
#[derive(Debug, Default)]
struct Partial {
    /// The bytes of an incomplete header.
    head: [u8; CLIENT_HEAD_BYTES_MAX],
    head_len: usize,
    /// The frame whose payload is still arriving, and how much of it has arrived.
    frame: Option<(Head, usize)>,
    /// The payload of a control frame so far.
    control: Vec<u8>,
    /// The message so far; control frames may come in between its fragments.
    message: Vec<u8>,
    /// Set from the first fragment until the message is complete.
    fragmented: Option<Opcode>,
    /// The fragments so far.
    fragments: u32,
}

impl ClientDecoder {
    /// A decoder that refuses messages over `message_bytes_max`.
    #[must_use]
    pub const fn new(message_bytes_max: u32) -> Self {
        Self {
            partial: None,
            message_bytes_max,
            state: State::Open,
        }
    }

    /// Decodes `input`, which is overwritten, and calls `on_event` for each complete event.
    ///
    /// All of `input` is consumed. After an error or a close, all further input is ignored.
    ///
    /// # Errors
    /// The client's first protocol violation.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        mut on_event: impl FnMut(ClientEvent<'_>),
    ) -> Result<(), DecodeError> {
        let decoded = self.decode_open(input, &mut on_event);
        if decoded.is_err() {
            self.finish();
        }
        decoded
    }

    fn decode_open(
        &mut self,
        mut input: &mut [u8],
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(), DecodeError> {
        while self.state == State::Open && !input.is_empty() {
            let delivered = if let Some(partial) = &mut self.partial {
                let (used, delivered) = partial.feed(input, self.message_bytes_max, on_event)?;
                input = &mut input[used..];
                if partial.is_idle() {
                    self.partial = None;
                }
                delivered
            } else {
                match Head::parse(input, None, self.message_bytes_max)? {
                    Some((head, head_len))
                        if head.stands_alone() && input.len() - head_len >= head.payload_len =>
                    {
                        let (frame, rest) = input.split_at_mut(head_len + head.payload_len);
                        let payload = &mut frame[head_len..];
                        unmask(payload, head.mask);
                        input = rest;
                        deliver(head.opcode, payload, on_event)?
                    }
                    _ => {
                        self.partial = Some(Box::default());
                        continue;
                    }
                }
            };
            if delivered == Delivered::Close {
                self.finish();
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.state = State::Done;
        self.partial = None;
    }
}

impl Head {
    /// Reads a header from the front of `input`: `None` if it is incomplete. Every check is made as soon as its bytes
    /// are there. `fragmented` is how much of a fragmented message came already.
    fn parse(
        input: &[u8],
        fragmented: Option<usize>,
        message_bytes_max: u32,
    ) -> Result<Option<(Self, usize)>, DecodeError> {
        let &[first, second, ..] = input else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(DecodeError::ReservedBits);
        }
        let bits = first & 0x0F;
        let opcode = Opcode::from_bits(bits).ok_or(DecodeError::ReservedOpcode(bits))?;
        let is_final = first & 0x80 != 0;
        if opcode.is_control() && !is_final {
            return Err(DecodeError::FragmentedControl);
        }
        match opcode {
            Opcode::Continuation if fragmented.is_none() => {
                return Err(DecodeError::UnexpectedContinuation);
            }
            Opcode::Text | Opcode::Binary if fragmented.is_some() => {
                return Err(DecodeError::InterleavedMessage);
            }
            _ => {}
        }
        if second & 0x80 == 0 {
            return Err(DecodeError::Unmasked);
        }
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(DecodeError::LongControl);
        }
        let Some((payload_len, mask_at)) = payload_len(short, &input[2..])? else {
            return Ok(None);
        };
        let message_len = if opcode.is_control() {
            0
        } else {
            fragmented.unwrap_or(0) as u64 + payload_len
        };
        if message_len > u64::from(message_bytes_max) {
            return Err(DecodeError::TooBig);
        }
        let Some(mask) = input
            .get(mask_at..)
            .and_then(|rest| rest.first_chunk().copied())
        else {
            return Ok(None);
        };
        // The limit was checked above, so this holds on every target.
        let payload_len = usize::try_from(payload_len).map_err(|_| DecodeError::TooBig)?;
        Ok(Some((
            Self {
                is_final,
                opcode,
                mask,
                payload_len,
            },
            mask_at + mask.len(),
        )))
    }

    /// Whether the frame is a whole message or a control frame.
    fn stands_alone(self) -> bool {
        self.is_final && self.opcode != Opcode::Continuation
    }
}

/// The length of the payload, and where the mask begins; `None` if bytes are missing.
fn payload_len(short: u8, extended: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
    match short {
        126 => {
            let Some(bytes) = extended.first_chunk() else {
                return Ok(None);
            };
            let len = u64::from(u16::from_be_bytes(*bytes));
            if len < 126 {
                Err(DecodeError::NonMinimalLength)
            } else {
                Ok(Some((len, 4)))
            }
        }
        127 => {
            let Some(bytes) = extended.first_chunk() else {
                return Ok(None);
            };
            let len = u64::from_be_bytes(*bytes);
            if len >> 63 != 0 {
                Err(DecodeError::LengthTopBit)
            } else if len <= u64::from(u16::MAX) {
                Err(DecodeError::NonMinimalLength)
            } else {
                Ok(Some((len, 10)))
            }
        }
        short => Ok(Some((u64::from(short), 2))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivered {
    /// Nothing, or something after which the connection goes on.
    Other,
    Close,
}

impl Partial {
    /// Takes the rest of a head or of a payload from the front of `input`; says how many bytes that were.
    fn feed(
        &mut self,
        input: &[u8],
        message_bytes_max: u32,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(usize, Delivered), DecodeError> {
        let Some((head, received)) = self.frame else {
            return self.feed_head(input, message_bytes_max, on_event);
        };
        let used = input.len().min(head.payload_len - received);
        let kept = if head.opcode.is_control() {
            &mut self.control
        } else {
            &mut self.message
        };
        let start = kept.len();
        kept.extend_from_slice(&input[..used]);
        let mut mask = head.mask;
        mask.rotate_left(received % 4);
        unmask(&mut kept[start..], mask);
        self.frame = Some((head, received + used));
        Ok((used, self.complete(on_event)?))
    }

    fn feed_head(
        &mut self,
        input: &[u8],
        message_bytes_max: u32,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(usize, Delivered), DecodeError> {
        let before = self.head_len;
        let copied = input.len().min(CLIENT_HEAD_BYTES_MAX - before);
        self.head[before..before + copied].copy_from_slice(&input[..copied]);
        self.head_len += copied;
        let fragmented = self.fragmented.map(|_| self.message.len());
        let Some((head, head_len)) =
            Head::parse(&self.head[..self.head_len], fragmented, message_bytes_max)?
        else {
            return Ok((copied, Delivered::Other));
        };
        self.head_len = 0;
        self.frame = Some((head, 0));
        Ok((head_len - before, self.complete(on_event)?))
    }

    /// Hands out the frame, or the message it completes, once its payload is complete.
    fn complete(
        &mut self,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<Delivered, DecodeError> {
        let Some((head, received)) = self.frame else {
            return Ok(Delivered::Other);
        };
        if received < head.payload_len {
            return Ok(Delivered::Other);
        }
        self.frame = None;
        if head.opcode.is_control() {
            return deliver(head.opcode, &mut mem::take(&mut self.control), on_event);
        }
        let opcode = self.fragmented.unwrap_or(head.opcode);
        if !head.is_final {
            self.fragmented = Some(opcode);
            self.fragments += 1;
            if self.fragments >= FRAGMENTS_MAX {
                return Err(DecodeError::TooManyFragments);
            }
            return Ok(Delivered::Other);
        }
        self.fragmented = None;
        self.fragments = 0;
        deliver(opcode, &mut mem::take(&mut self.message), on_event)
    }

    /// Whether there is nothing left to keep.
    fn is_idle(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.fragmented.is_none()
    }
}

/// Checks a complete payload and hands it out.
fn deliver(
    opcode: Opcode,
    payload: &mut [u8],
    on_event: &mut impl FnMut(ClientEvent<'_>),
) -> Result<Delivered, DecodeError> {
    match opcode {
        Opcode::Text => {
            check_utf8(payload)?;
            on_event(ClientEvent::Text(payload));
        }
        // A continuation is delivered under the opcode of its first fragment, so none arrives here.
        Opcode::Binary | Opcode::Continuation => on_event(ClientEvent::Binary(payload)),
        Opcode::Ping => on_event(ClientEvent::Ping(payload)),
        Opcode::Pong => on_event(ClientEvent::Pong(payload)),
        Opcode::Close => {
            on_event(ClientEvent::Close(close_code(payload)?));
            return Ok(Delivered::Close);
        }
    }
    Ok(Delivered::Other)
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, DecodeError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(DecodeError::HalfCloseCode)
        };
    };
    let code = u16::from_be_bytes(*code);
    // Section 7.4: 1004-1006 and 1015 never stand on the wire; 1012-1014 are registered with IANA; 3000-4999 are for
    // libraries and applications.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(DecodeError::BadCloseCode(code));
    }
    check_utf8(reason)?;
    Ok(Some(code))
}

fn check_utf8(bytes: &[u8]) -> Result<(), DecodeError> {
    simdutf8::basic::from_utf8(bytes)
        .map(|_| ())
        .map_err(|_| DecodeError::InvalidUtf8)
}
