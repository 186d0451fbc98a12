//! Parses an event stream (WHATWG HTML section 9.2.6) into its events.

/// Largest text that is kept of an incomplete event.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Takes an event stream in pieces of any size and returns its events.
///
/// Lines may end with LF or CR LF; a lone CR, which the standard also allows, ends no line here.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    text: Vec<u8>,
    /// Where the first unread line begins.
    unread: usize,
    data: Vec<u8>,
    has_data: bool,
    id: Option<String>,
}

/// One event: its data, and the last `id` of the stream so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SseEvent {
    pub(crate) id: Option<String>,
    pub(crate) data: Vec<u8>,
}

impl SseParser {
    /// The buffer to append the next piece of text to.
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        self.text.drain(..self.unread);
        self.unread = 0;
        &mut self.text
    }

    /// Whether it holds more of one event than any server sends.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.text.len() - self.unread + self.data.len() > EVENT_BYTES_MAX
    }

    /// The next complete event.
    pub(crate) fn next(&mut self) -> Option<SseEvent> {
        loop {
            let rest = &self.text[self.unread..];
            let len = rest.iter().position(|byte| *byte == b'\n')?;
            let line = rest[..len].strip_suffix(b"\r").unwrap_or(&rest[..len]);
            if line.is_empty() {
                self.unread += len + 1;
                if let Some(event) = self.dispatch() {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = match line.iter().position(|byte| *byte == b':') {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &b""[..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => {
                    if self.has_data {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value);
                    self.has_data = true;
                }
                b"id" => self.id = Some(String::from_utf8_lossy(value).into_owned()),
                // A comment, or a field this client has no use for.
                _ => {}
            }
            self.unread += len + 1;
        }
    }

    /// Ends an event. Without data it is not one.
    fn dispatch(&mut self) -> Option<SseEvent> {
        std::mem::take(&mut self.has_data).then(|| SseEvent {
            id: self.id.clone(),
            data: std::mem::take(&mut self.data),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&str]) -> Vec<(Option<String>, String)> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.text().extend_from_slice(piece.as_bytes());
            while let Some(SseEvent { id, data }) = parser.next() {
                events.push((id, String::from_utf8(data).unwrap()));
            }
        }
        events
    }

    fn check(text: &str, expected: &[(Option<&str>, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(id, data)| (id.map(str::to_owned), (*data).to_owned()))
            .collect();
        assert_eq!(events(&[text]), expected, "{text:?}");
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let pieces: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(events(&pieces), expected, "{text:?} in pieces");
    }

    #[test]
    fn events_end_with_an_empty_line() {
        check("data: {}\n\n", &[(None, "{}")]);
        check("data: {}\n", &[]);
        check(
            "id: 7:41\ndata: a\n\ndata: b\n\n",
            &[(Some("7:41"), "a"), (Some("7:41"), "b")],
        );
        check("data:a\r\ndata:  b\r\n\r\n", &[(None, "a\n b")]);
    }

    #[test]
    fn comments_and_unknown_fields_are_skipped() {
        check(":\n\n: x\nretry: 5\nevent: e\ndata: a\n\n", &[(None, "a")]);
        check("id: 7:1\n\ndata: a\n\n", &[(Some("7:1"), "a")]);
        check("data\n\n", &[(None, "")]);
    }
}
