//! Makes text from the server safe to print: it cannot move the cursor, start a line or flood the output.

/// Characters kept, not counting the mark for the rest.
const CHARACTERS_MAX: usize = 100;
/// Stands for what was left out.
const MORE: char = '…';

/// The text as one short line. Characters a terminal would not show as themselves (control characters, line ends, zero-width
/// and direction-changing characters) become `\u{…}`. Safe text stays as it is, so quoting twice does no harm.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut line = String::new();
    let mut length = 0;
    for character in text.chars() {
        let escaped = (!is_plain(character)).then(|| character.escape_unicode());
        length += escaped.as_ref().map_or(1, ExactSizeIterator::len);
        if length > CHARACTERS_MAX {
            line.push(MORE);
            break;
        }
        match escaped {
            Some(escaped) => line.extend(escaped),
            None => line.push(character),
        }
    }
    line
}

/// Whether a character is shown as itself. Quotation marks and the backslash are; `escape_debug` knows the tables for the rest.
fn is_plain(character: char) -> bool {
    matches!(character, '\'' | '"' | '\\') || character.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let line = quoted(text);
        assert_eq!(line, expected);
        assert_eq!(quoted(&line), line, "quoted twice");
    }

    #[test]
    fn readable_text_stays_as_it_is() {
        for text in [
            "",
            "rate_limited",
            r#"it's "so\n""#,
            "503 Service Unavailable: 弹幕 пример é 🎉",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        check("\x1b[2Jx", r"\u{1b}[2Jx");
        check("x\r\n\nPASS: good", r"x\u{d}\u{a}\u{a}PASS: good");
        check("\u{7}\0\u{9b}31m\u{7f}", r"\u{7}\u{0}\u{9b}31m\u{7f}");
    }

    #[test]
    fn misleading_characters_are_escaped() {
        check("a\u{202e}b\u{2066}c", r"a\u{202e}b\u{2066}c");
        check(
            "a\u{200b}\u{200d}\u{feff}\u{ad}",
            r"a\u{200b}\u{200d}\u{feff}\u{ad}",
        );
        check("a\u{2028}b\u{301}", r"a\u{2028}b\u{301}");
        check("a\u{a0}b\u{e0041}", r"a\u{a0}b\u{e0041}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        check(&"x".repeat(100), &"x".repeat(100));
        check(&"弹".repeat(101), &format!("{}…", "弹".repeat(100)));
        // Seventeen escapes of six characters do not fit.
        check(
            &"\x1b".repeat(1 << 20),
            &format!("{}…", r"\u{1b}".repeat(16)),
        );
    }
}
