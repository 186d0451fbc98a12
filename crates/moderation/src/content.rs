//! What kind of text a comment is.

use linkify::{LinkFinder, LinkKind};
use unicode_properties::{GeneralCategory, UnicodeEmoji, UnicodeGeneralCategory, emoji};

use crate::fold::Folded;

/// Ends of host names that make a link of `word.end` without `http://` and without a path. Any end would do with them.
const BARE_LINK_ENDS: [&str; 32] = [
    "app", "biz", "cc", "club", "cn", "co", "com", "de", "dev", "fr", "gg", "info", "io", "jp",
    "kr", "link", "live", "ly", "me", "net", "online", "org", "ru", "shop", "site", "store", "to",
    "top", "tv", "uk", "vip", "xyz",
];

/// Whether the text has a link or an e-mail address. Takes the folded text, so that spellings such as `ｅｘ．ｃｏｍ` count.
///
/// Without `http://` or a path, a name counts when it starts with `www.` or ends as many sites do: `nice.one` is a missing
/// space, `nice.com` is a link.
#[must_use]
pub fn has_link(text: &Folded) -> bool {
    let text = text.as_str().replace('。', ".");
    if !text.contains('.') && !text.contains("://") {
        return false;
    }
    // A host name may have any letters, but scripts without spaces also write around an ASCII one.
    let ascii = text.replace(|scalar: char| !scalar.is_ascii(), " ");
    holds_link(&text) || holds_link(&ascii)
}

fn holds_link(text: &str) -> bool {
    let mut finder = LinkFinder::new();
    finder.url_must_have_scheme(false);
    finder.links(text).any(|link| {
        let link_text = link.as_str();
        let host = link_text.split([':', '?', '#']).next().unwrap_or_default();
        let end = host.rsplit('.').next().unwrap_or_default();
        *link.kind() == LinkKind::Email
            || link_text.contains('/')
            || link_text.starts_with("www.")
            || BARE_LINK_ENDS.contains(&end)
    })
}

/// Whether the text has emoji and, besides spaces, nothing else. Takes the text as written.
#[must_use]
pub fn is_emoji_only(text: &str) -> bool {
    let mut some = false;
    for scalar in text.chars() {
        let part = emoji::is_zwj(scalar)
            || emoji::is_emoji_presentation_selector(scalar)
            || emoji::is_tag_character(scalar)
            || scalar == '\u{20E3}';
        // Digits, `#` and `*` are emoji by their property, because of the keycaps.
        let emoji = scalar.is_emoji_char() && !scalar.is_ascii();
        if emoji || scalar == '\u{20E3}' {
            some = true;
        }
        let keycap_base = scalar.is_ascii_digit() || scalar == '#' || scalar == '*';
        if !(emoji || part || scalar.is_whitespace() || keycap_base) {
            return false;
        }
    }
    some && !has_bare_keycap_base(text)
}

/// Whether a digit, `#` or `*` stands without the keycap that makes an emoji of it.
fn has_bare_keycap_base(text: &str) -> bool {
    let mut scalars = text.chars().filter(|it| *it != '\u{FE0F}').peekable();
    while let Some(scalar) = scalars.next() {
        if scalar.is_ascii_graphic() && scalars.peek() != Some(&'\u{20E3}') {
            return true;
        }
    }
    false
}

/// How much of the text is neither letter, digit, space nor emoji, in percent. Stacked marks count, so this finds both
/// `!!!!!!!!` and "zalgo" text. Takes the text as written.
#[must_use]
pub fn special_percent(text: &str) -> u8 {
    let (mut special, mut all) = (0_usize, 0_usize);
    for scalar in text.chars() {
        all += 1;
        let emoji = scalar.is_emoji_char_or_emoji_component() && !scalar.is_ascii();
        let plain = scalar.is_alphanumeric() || scalar.is_whitespace() || emoji;
        // The vowel signs of a script aren't letters by their property, and aren't decoration either.
        let vowel_sign = scalar.general_category() == GeneralCategory::SpacingMark
            || (scalar.general_category() == GeneralCategory::NonspacingMark
                && !Folded::new(scalar.encode_utf8(&mut [0; 4]))
                    .as_str()
                    .is_empty());
        if !plain && !vowel_sign {
            special += 1;
        }
    }
    u8::try_from(special * 100 / all.max(1)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        fn check(input: &str, expected: bool) {
            assert_eq!(has_link(&Folded::new(input)), expected, "{input}");
        }
        check("see https://a.example/x", true);
        check("HTTP://A.EXAMPLE", true);
        check("example.com", true);
        check("Example.COM:8080", true);
        check("visit ｅｘａｍｐｌｅ．ｃｏｍ", true);
        check("example。com", true);
        check("ex\u{200b}ample.com", true);
        check("www.site.example", true);
        check("bit.ly/2xY", true);
        check("short.zz/2xY", true);
        check("me@mail.example", true);
        check("加群example.com领福利", true);
        check("gg.wp nice.one", false);
        check("3.14 and 1,000.00", false);
        check("no... really", false);
        check("弹幕。来了", false);
        check("and/or", false);
    }

    #[test]
    fn emoji_only() {
        fn check(input: &str, expected: bool) {
            assert_eq!(is_emoji_only(input), expected, "{input}");
        }
        check("🔥", true);
        check("🔥 🔥", true);
        check("👩‍👩‍👧‍👦👍🏽", true);
        check("❤\u{fe0f}", true);
        check("🇩🇪", true);
        check("1\u{fe0f}\u{20e3}", true);
        check(
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            true,
        );
        check("🔥1", false);
        check("🔥x", false);
        check("12", false);
        check("", false);
        check(" ", false);
        check("弹", false);
    }

    #[test]
    fn special_characters() {
        fn check(input: &str, expected: u8) {
            assert_eq!(special_percent(input), expected, "{input}");
        }
        check("hello there", 0);
        check("弹幕来了", 0);
        check("नमस्ते", 0);
        check("🔥🔥❤\u{fe0f}", 0);
        check("!!!!", 100);
        check("hm??", 50);
        check("a\u{301}\u{302}\u{303}", 75);
        check("", 0);
    }
}
