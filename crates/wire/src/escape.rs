//! Text as a JSON string.

/// Appends `text` as a JSON string, quotes included (RFC 8259, section 7).
///
/// Only what must be escaped is: quote, backslash and the C0 controls. All other scalar values stand for themselves.
pub fn escape_into(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    hex(control >> 4),
                    hex(control & 15),
                ]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Appends `value` in decimal.
pub(crate) fn integer_into(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape_into(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes() {
        fn check(input: &str, expected: &str) {
            assert_eq!(escaped(input), expected);
        }
        check("", r#""""#);
        check("弾幕 🎉", r#""弾幕 🎉""#);
        check("a\"b\\c/", r#""a\"b\\c/""#);
        check(
            "\n\r\t\u{0}\u{1f}\u{7f}",
            "\"\\n\\r\\t\\u0000\\u001f\u{7f}\"",
        );
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_json(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&escaped(&text)).unwrap(), text);
        }

        #[test]
        fn text_full_of_escapes_comes_back_from_json(text in "[\"\\\\\\x00-\\x20a弾🎉]{0,64}") {
            prop_assert_eq!(serde_json::from_str::<String>(&escaped(&text)).unwrap(), text);
        }
    }
}
