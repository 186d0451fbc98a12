//! Application data of a comment: a JSON object that only the application understands.

use crate::escape::{escape_into, integer_into};
use crate::limits::DATA_BYTES_MAX;
use crate::problem::Fault;
use crate::tape::{Elements, Value};

/// A JSON object of at most [`DATA_BYTES_MAX`] bytes, written without white space: a badge, an avatar, an emote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentData(Box<str>);

impl CommentData {
    /// Writes the object out again. The parser unescapes in place, so the original text is gone; members and their order
    /// stay the same.
    pub(crate) fn new(value: Value<'_, '_>) -> Result<Self, Fault> {
        let Value::Object(_) = value else {
            return Err(Fault::WrongType);
        };
        let mut json = Vec::new();
        value_into(value, &mut json)?;
        let json =
            String::from_utf8(json).expect("invariant: JSON made of texts and numbers is UTF-8");
        Ok(Self(json.into()))
    }

    /// The object as JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// Appends `value`. It recurses no deeper than the parser lets JSON nest
/// ([`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX)), and stops soon after the bound on bytes.
fn value_into(value: Value<'_, '_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        // `Debug` writes the shortest digits that read back as the same number, with an exponent where JSON has one.
        Value::Float(number) => out.extend_from_slice(format!("{number:?}").as_bytes()),
        Value::Signed(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Unsigned(number) => integer_into(out, number),
        Value::String(text) => escape_into(out, text),
        Value::Object(elements) => object_into(elements, out)?,
        Value::Array(elements) => {
            out.push(b'[');
            for (index, value) in elements.values().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                value_into(value, out)?;
            }
            out.push(b']');
        }
    }
    if out.len() > DATA_BYTES_MAX {
        return Err(Fault::TooManyBytes {
            max: DATA_BYTES_MAX,
        });
    }
    Ok(())
}

fn object_into(elements: Elements<'_, '_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.push(b'{');
    for (index, (key, value)) in elements.members().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        escape_into(out, key);
        out.push(b':');
        value_into(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::with_document;

    fn check(input: &str, expected: Result<&str, Fault>) {
        let mut bytes = input.as_bytes().to_vec();
        let data = with_document(&mut bytes, CommentData::new).unwrap();
        assert_eq!(
            data.as_ref().map(CommentData::as_json),
            expected.as_ref().copied(),
            "{input}"
        );
        if let Ok(data) = data {
            let same = |json| serde_json::from_str::<serde_json::Value>(json).unwrap();
            assert_eq!(same(data.as_json()), same(input));
        }
    }

    #[test]
    fn objects_come_back_as_they_were() {
        check("{}", Ok("{}"));
        check(
            r#" { "badge" : "x\n\"弾\u5e55", "n":[1,-2,0.5,1e300,true,false,null,{}] } "#,
            Ok(r#"{"badge":"x\n\"弾幕","n":[1,-2,0.5,1e300,true,false,null,{}]}"#),
        );
        check(
            r#"{"big":18446744073709551615}"#,
            Ok(r#"{"big":18446744073709551615}"#),
        );
    }

    #[test]
    fn what_is_no_object_or_too_long_is_refused() {
        check("[1]", Err(Fault::WrongType));
        check("7", Err(Fault::WrongType));
        let longest = format!(r#"{{"a":"{}"}}"#, "x".repeat(DATA_BYTES_MAX - 8));
        check(&longest, Ok(&longest));
        let longer = format!(r#"{{"a":"{}"}}"#, "x".repeat(DATA_BYTES_MAX - 7));
        let max = DATA_BYTES_MAX;
        check(&longer, Err(Fault::TooManyBytes { max }));
    }
}
