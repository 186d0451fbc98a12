//! The form in which texts are compared: what looks the same or says the same becomes the same.

use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::decompose_canonical;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_script::{Script, UnicodeScript};
use unicode_security::confusable_detection::skeleton;

/// A text in the form in which it is compared.
///
/// NFKC (Unicode Standard Annex 15), so that width and compatibility variants are one; lower case; without invisible
/// characters, diacritics and stacked marks; and with letters that look like a Latin one replaced by it (Unicode
/// Technical Standard 39). Marks that belong to a script, such as the vowel signs of Hindi, stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    text: String,
    /// For each character of `text`: where it ends there, and the bytes of the original it came from.
    origins: Vec<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    end: usize,
    bytes: Range<usize>,
}

impl Folded {
    /// Folds a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut folded = Self {
            text: String::with_capacity(text.len()),
            origins: Vec::with_capacity(text.len()),
        };
        let mut characters = text.char_indices().peekable();
        while let Some((start, first)) = characters.next() {
            let end = cluster_end(text, &mut characters);
            let bytes = start..end;
            if bytes.len() > first.len_utf8() {
                folded.push_cluster(&text[bytes.clone()], &bytes);
                continue;
            }
            match fold_scalar(first) {
                Fold::To(scalar) => folded.push(scalar, &bytes),
                Fold::Nothing => {}
                Fold::Slow => folded.push_cluster(&text[bytes.clone()], &bytes),
            }
        }
        folded
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes of the original that the folded text in `range` came from.
    pub(crate) fn original(&self, range: Range<usize>) -> Range<usize> {
        let first = self
            .origins
            .partition_point(|origin| origin.end <= range.start);
        let after = self
            .origins
            .partition_point(|origin| origin.end < range.end);
        match (self.origins.get(first), self.origins.get(after)) {
            (Some(first), Some(last)) => first.bytes.start..last.bytes.end,
            _ => 0..0,
        }
    }

    fn push(&mut self, scalar: char, bytes: &Range<usize>) {
        self.text.push(scalar);
        self.origins.push(Origin {
            end: self.text.len(),
            bytes: bytes.clone(),
        });
    }

    fn push_cluster(&mut self, cluster: &str, bytes: &Range<usize>) {
        for scalar in cluster.nfkc() {
            push_slowly(scalar, &mut |folded| self.push(folded, bytes));
        }
    }
}

/// What becomes of one scalar value that joins no other.
#[derive(Clone, Copy)]
enum Fold {
    To(char),
    Nothing,
    /// More than one scalar value, or one that is too rare for a table.
    Slow,
}

/// The scalar values below the CJK blocks, folded once.
static TABLE: LazyLock<Vec<Fold>> = LazyLock::new(|| (0..TABLE_END).map(table_entry).collect());

const TABLE_END: u32 = 0x2E80;

fn table_entry(value: u32) -> Fold {
    let Some(scalar) = char::from_u32(value) else {
        return Fold::Slow;
    };
    let mut folded = Vec::new();
    for normalised in std::iter::once(scalar).nfkc() {
        push_slowly(normalised, &mut |to| folded.push(to));
    }
    match folded[..] {
        [] => Fold::Nothing,
        [to] => Fold::To(to),
        _ => Fold::Slow,
    }
}

fn fold_scalar(scalar: char) -> Fold {
    let value = u32::from(scalar);
    match value {
        0..0x80 => Fold::To(scalar.to_ascii_lowercase()),
        0x80..TABLE_END => TABLE[value as usize],
        // Kana, Han and Hangul: nothing to fold, and most of the text in chats that use them.
        0x3041..=0x3096 | 0x30A1..=0x30FC | 0x3400..=0x9FFF | 0xAC00..=0xD7A3 => Fold::To(scalar),
        _ => Fold::Slow,
    }
}

/// Folds a scalar value of a normalised text.
fn push_slowly(scalar: char, push: &mut impl FnMut(char)) {
    if is_invisible(scalar) || is_stray_mark(scalar) {
        return;
    }
    for lower in scalar.to_lowercase() {
        let base = base_letter(lower);
        if !is_stray_mark(base) {
            push(latin_twin(base).unwrap_or(base));
        }
    }
}

/// Characters without a glyph: format characters and the Hangul fillers.
fn is_invisible(scalar: char) -> bool {
    matches!(
        scalar,
        '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' | '\u{2800}'
    ) || scalar.general_category() == GeneralCategory::Format
}

/// Marks of no script of their own: diacritics, enclosing marks, variation selectors.
fn is_stray_mark(scalar: char) -> bool {
    matches!(
        scalar.general_category(),
        GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark
    ) && matches!(scalar.script(), Script::Inherited | Script::Common)
}

/// The letter without its diacritics. Kana and Hangul keep theirs: those are other letters.
fn base_letter(scalar: char) -> char {
    if u32::from(scalar) >= TABLE_END {
        return scalar;
    }
    let mut base = None;
    decompose_canonical(scalar, |part| {
        base.get_or_insert(part);
    });
    base.unwrap_or(scalar)
}

/// The Latin letter that a letter of another script looks like.
fn latin_twin(scalar: char) -> Option<char> {
    if scalar.is_ascii() || !scalar.is_alphabetic() || u32::from(scalar) >= TABLE_END {
        return None;
    }
    let mut bytes = [0; 4];
    let mut prototype = skeleton(scalar.encode_utf8(&mut bytes));
    match (prototype.next(), prototype.next()) {
        (Some(twin), None) if twin.is_ascii_alphabetic() => Some(twin.to_ascii_lowercase()),
        _ => None,
    }
}

/// Where the cluster that begins before `characters` ends: a character that composes with its predecessor belongs to it.
fn cluster_end(text: &str, characters: &mut Peekable<CharIndices<'_>>) -> usize {
    while characters.next_if(|(_, next)| composes(*next)).is_some() {}
    characters.peek().map_or(text.len(), |(start, _)| *start)
}

/// Whether NFKC may compose the character with the one before, into one that isn't just that one with a diacritic: voice
/// marks of kana, and conjoining Hangul.
fn composes(scalar: char) -> bool {
    matches!(
        scalar,
        '\u{1161}'..='\u{11FF}'
            | '\u{3099}'
            | '\u{309A}'
            | '\u{FF9E}'
            | '\u{FF9F}'
            | '\u{FFA1}'..='\u{FFDC}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_looks_the_same_is_the_same() {
        fn check(input: &str, expected: &str) {
            assert_eq!(Folded::new(input).as_str(), expected, "{input:?}");
        }
        check("Hello, World", "hello, world");
        check("ＦＵＬＬ　ｗｉｄｔｈ！", "full width!");
        check("z\u{200b}e\u{200d}r\u{feff}o\u{ad}", "zero");
        check("Z̸̢̛a̷l̵g̶o̶", "zalgo");
        check("ﬁx ①②", "fix 12");
        check("café CAFE\u{301}", "cafe cafe");
        check("раураl", "paypal");
        check("ροrn", "porn");
        check("𝓑𝓪𝓭 𝔹𝕒𝕕", "bad bad");
        check("弹幕 弾幕", "弹幕 弾幕");
        check("が か\u{3099} ｶﾞ ガ", "が が ガ ガ");
        check("한글 \u{1112}\u{1161}\u{11ab}", "한글 한");
        check("ﾡ", "ᄀ");
        check("नमस्ते", "नमस्ते");
        check("Straße ИЙ", "straße ии");
        check("❤\u{fe0f}👍🏽", "❤👍🏽");
    }

    #[test]
    fn a_match_leads_back_to_what_was_written() {
        fn check(input: &str, folded: &str, expected: &str) {
            let text = Folded::new(input);
            let start = text.as_str().find(folded).unwrap();
            let range = text.original(start..start + folded.len());
            assert_eq!(&input[range], expected);
        }
        check("say B\u{301}A\u{200b}D now", "bad", "B\u{301}A\u{200b}D");
        check("ＢＡＤ", "a", "Ａ");
        check("x①②y", "12", "①②");
        check("ﬁx", "i", "ﬁ");
        check("坏词", "词", "词");
    }

    proptest! {
        #[test]
        fn folding_keeps_to_character_bounds_and_is_stable(text in "\\PC{0,40}") {
            let folded = Folded::new(&text);
            prop_assert_eq!(folded.origins.last().map_or(0, |last| last.end), folded.as_str().len());
            for (start, scalar) in folded.as_str().char_indices() {
                let range = folded.original(start..start + scalar.len_utf8());
                prop_assert!(!text[range].is_empty());
            }
            let again = Folded::new(folded.as_str());
            let thrice = Folded::new(again.as_str());
            prop_assert_eq!(again.as_str(), thrice.as_str());
        }
    }
}
