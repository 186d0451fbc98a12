//! What must hold for any bytes from outside: one function per fuzz target.
//!
//! `crates/wire/tests/fuzz_targets.rs` runs the same functions over seeded input with a stable compiler.

use danmaku_wire::limits::MESSAGE_BYTES_MAX;
use danmaku_wire::{
    ClientDecoder, ClientEvent, ClientMessage, Comment, CommentLimits, DecodeError, Posted,
    parse_client_message, parse_posted,
};

/// The decoder never panics, returns only valid events, and gives the same for any split of its input.
///
/// The first byte says where the input is split, the rest is what the client sends.
pub fn decoder(data: &[u8]) {
    let Some((&cut, sent)) = data.split_first() else {
        return;
    };
    let whole = decode([sent]);
    assert_eq!(whole, decode(sent.chunks(1)));
    assert_eq!(whole, decode(sent.chunks(1 + usize::from(cut))));
}

/// A message is refused, or parsed into values that give the same when written and parsed again.
pub fn client_message(data: &[u8]) {
    if let Ok(ClientMessage::Comment { comment, .. }) =
        parse_client_message(&mut data.to_vec(), &CommentLimits::default())
    {
        check_fragment(&comment);
    }
}

/// A body is refused as a whole, or all its comments give the same when written and parsed again.
pub fn posted(data: &[u8]) {
    let limits = CommentLimits::default();
    match parse_posted(&mut data.to_vec(), &limits) {
        Ok(Posted::One(comment)) => check_fragment(&comment),
        Ok(Posted::Many(comments)) => {
            assert!((1..=limits.posted_comments_max).contains(&comments.len()));
            comments.iter().for_each(check_fragment);
        }
        Err(error) => assert!(!error.message().is_empty()),
    }
}

type Decoded = (Vec<(&'static str, Vec<u8>)>, Result<(), DecodeError>);

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = ClientDecoder::new(MESSAGE_BYTES_MAX);
    let mut events = Vec::new();
    for piece in pieces {
        let decoded = decoder.decode(&mut piece.to_vec(), |event| {
            let (name, bytes) = match event {
                ClientEvent::Text(text) => {
                    assert!(std::str::from_utf8(text).is_ok());
                    ("text", text.to_vec())
                }
                ClientEvent::Binary(bytes) => ("binary", bytes.to_vec()),
                ClientEvent::Ping(payload) => ("ping", payload.to_vec()),
                ClientEvent::Pong(payload) => ("pong", payload.to_vec()),
                ClientEvent::Close(code) => (
                    "close",
                    code.map(u16::to_be_bytes).map_or(vec![], Into::into),
                ),
            };
            assert!(bytes.len() <= MESSAGE_BYTES_MAX as usize);
            events.push((name, bytes));
        });
        if decoded.is_err() {
            return (events, decoded);
        }
    }
    (events, Ok(()))
}

/// A batch's JSON of a comment has the comment's values.
fn check_fragment(comment: &Comment) {
    let mut json = [b"{", comment.fragment().as_bytes(), b"}"].concat();
    let again = parse_posted(&mut json, &CommentLimits::default());
    assert_eq!(again, Ok(Posted::One(comment.clone())));
}
