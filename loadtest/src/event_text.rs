//! Parses one server-sent event as this server writes it, in place.

/// One event of a stream, or a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventText<'a> {
    /// A message.
    Message {
        /// What its `id` line says.
        id: Option<&'a [u8]>,
        /// The JSON of its `data` line.
        json: &'a [u8],
    },
    /// A comment line.
    Heartbeat,
}

/// What ends an event.
pub(crate) const EVENT_END: &[u8] = b"\n\n";
/// What ends a flushed piece of a deflate stream: an empty stored block (RFC 1951 section 3.2.4).
pub(crate) const FLUSH_END: &[u8] = b"\x00\x00\xFF\xFF";

impl<'a> EventText<'a> {
    /// Parses one event with the empty line that ends it. `None` unless it is an optional `id` and one `data` line, or a comment.
    #[inline]
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = text.strip_suffix(EVENT_END)?;
        if text.starts_with(b":") {
            return (!text.contains(&b'\n')).then_some(Self::Heartbeat);
        }
        let (id, data) = match text.strip_prefix(b"id: ") {
            Some(rest) => {
                let end = rest.iter().position(|byte| *byte == b'\n')?;
                (Some(&rest[..end]), &rest[end + 1..])
            }
            None => (None, text),
        };
        let json = data.strip_prefix(b"data: ")?;
        Some(Self::Message { id, json })
    }
}

/// Cuts what ends with `end` off the start of `input`; `from` is where to look for it. `None` when more bytes are needed.
#[inline]
pub(crate) fn cut<'a>(input: &'a [u8], from: usize, end: &[u8]) -> Option<&'a [u8]> {
    let found = memchr::memmem::find(input.get(from..)?, end)?;
    Some(&input[..from + found + end.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_apart() {
        let message = |id: Option<&'static str>, json: &'static str| {
            Some(EventText::Message {
                id: id.map(str::as_bytes),
                json: json.as_bytes(),
            })
        };
        let parse = |text: &'static str| EventText::parse(text.as_bytes());
        assert_eq!(parse("data: {}\n\n"), message(None, "{}"));
        assert_eq!(parse("id: 7:41\ndata: {}\n\n"), message(Some("7:41"), "{}"));
        assert_eq!(parse(":\n\n"), Some(EventText::Heartbeat));
        for odd in [
            "data: {}\n",
            "id: 7:41\n\n",
            "event: x\ndata: {}\n\n",
            ":\ndata: {}\n\n",
            "",
        ] {
            assert_eq!(parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn pieces_are_cut_where_they_end() {
        let input = b"data: a\n\ndata: b\n";
        assert_eq!(cut(input, 0, EVENT_END), Some(&input[..9]));
        assert_eq!(cut(&input[9..], 0, EVENT_END), None);
        let input = b"\x01\x00\x00\x00\xFF\xFF\x02\x00\x00\xFF\xFF";
        assert_eq!(cut(input, 0, FLUSH_END), Some(&input[..6]));
        assert_eq!(cut(input, 6, FLUSH_END), Some(&input[..]));
        assert_eq!(cut(input, 40, FLUSH_END), None);
    }
}
