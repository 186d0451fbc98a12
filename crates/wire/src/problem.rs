//! What is wrong with a message or a posted body: which field, and in which way.

use std::fmt;

/// A part of a message that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The JSON as a whole.
    Json,
    /// The list of comments of an HTTP request.
    Comments,
    /// `type`
    Type,
    /// `ref`
    Ref,
    /// `text`
    Text,
    /// `mode`
    Mode,
    /// `color`
    Color,
    /// `size`
    Size,
    /// `user`
    User,
    /// `name`
    Name,
    /// `role`
    Role,
    /// `count`
    Count,
    /// `data`
    Data,
    /// `reply_to`
    ReplyTo,
    /// `key`
    Key,
    /// `token`
    Token,
}

impl Field {
    /// The JSON member's name; none for what is not one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Json | Self::Comments => None,
            Self::Type => Some("type"),
            Self::Ref => Some("ref"),
            Self::Text => Some("text"),
            Self::Mode => Some("mode"),
            Self::Color => Some("color"),
            Self::Size => Some("size"),
            Self::User => Some("user"),
            Self::Name => Some("name"),
            Self::Role => Some("role"),
            Self::Count => Some("count"),
            Self::Data => Some("data"),
            Self::ReplyTo => Some("reply_to"),
            Self::Key => Some("key"),
            Self::Token => Some("token"),
        }
    }

    /// What its value must be in JSON.
    const fn json_type(self) -> &'static str {
        match self {
            Self::Json => "a JSON object",
            Self::Comments => "an array",
            Self::Ref => "a string or an integer",
            Self::Type
            | Self::Text
            | Self::Mode
            | Self::User
            | Self::Name
            | Self::Role
            | Self::Key
            | Self::Token => "a string",
            Self::Color | Self::Size | Self::Count | Self::ReplyTo => "an integer",
            Self::Data => "an object",
        }
    }
}

/// The way in which a field is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not JSON, or nested too deep.
    Invalid,
    /// It is required but missing.
    Missing,
    /// It is blank.
    Empty,
    /// It has more Unicode scalar values than allowed.
    TooManyScalars {
        /// The limit.
        max: usize,
    },
    /// It has more bytes than allowed.
    TooManyBytes {
        /// The limit.
        max: usize,
    },
    /// It has more elements than allowed.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// It holds a control character (Unicode category Cc, so line breaks and tabs too); in a `key`, anything but
    /// visible ASCII.
    ControlCharacter,
    /// It is of another JSON type.
    WrongType,
    /// The number is outside of the allowed range.
    OutOfRange {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// It is not one of the words allowed here.
    Unknown,
    /// A client may not set it.
    NotAllowed,
}

/// One thing that is wrong with what a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// Which part.
    pub field: Field,
    /// In which way.
    pub fault: Fault,
}

impl Problem {
    pub(crate) const fn new(field: Field, fault: Fault) -> Self {
        Self { field, fault }
    }

    /// The stable machine-readable code, such as `text_too_long`: the field, then the fault.
    #[must_use]
    pub const fn code(self) -> &'static str {
        macro_rules! code_of {
            ($field:literal) => {
                match self.fault {
                    Fault::Invalid => concat!($field, "_invalid"),
                    Fault::Missing => concat!($field, "_missing"),
                    Fault::Empty => concat!($field, "_empty"),
                    Fault::TooManyScalars { .. } | Fault::TooManyBytes { .. } => {
                        concat!($field, "_too_long")
                    }
                    Fault::TooMany { .. } => concat!($field, "_too_many"),
                    Fault::ControlCharacter => concat!($field, "_control_character"),
                    Fault::WrongType => concat!($field, "_wrong_type"),
                    Fault::OutOfRange { .. } => concat!($field, "_out_of_range"),
                    Fault::Unknown => concat!($field, "_unknown"),
                    Fault::NotAllowed => concat!($field, "_not_allowed"),
                }
            };
        }
        match self.field {
            Field::Json => code_of!("json"),
            Field::Comments => code_of!("comments"),
            Field::Type => code_of!("type"),
            Field::Ref => code_of!("ref"),
            Field::Text => code_of!("text"),
            Field::Mode => code_of!("mode"),
            Field::Color => code_of!("color"),
            Field::Size => code_of!("size"),
            Field::User => code_of!("user"),
            Field::Name => code_of!("name"),
            Field::Role => code_of!("role"),
            Field::Count => code_of!("count"),
            Field::Data => code_of!("data"),
            Field::ReplyTo => code_of!("reply_to"),
            Field::Key => code_of!("key"),
            Field::Token => code_of!("token"),
        }
    }
}

/// A sentence fragment for humans.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Field::Json => f.write_str("the message")?,
            Field::Comments => f.write_str("the list of comments")?,
            field => f.write_str(field.name().unwrap_or_default())?,
        }
        match self.fault {
            Fault::Invalid => f.write_str(" is not valid JSON"),
            Fault::Missing => f.write_str(" is missing"),
            Fault::Empty => f.write_str(" is empty"),
            Fault::TooManyScalars { max } => write!(f, " has more than {max} characters"),
            Fault::TooManyBytes { max } => write!(f, " has more than {max} bytes"),
            Fault::TooMany { max } => write!(f, " has more than {max} elements"),
            Fault::ControlCharacter if self.field == Field::Key => {
                f.write_str(" has a character other than visible ASCII")
            }
            Fault::ControlCharacter => f.write_str(" has a control character"),
            Fault::WrongType => write!(f, " must be {}", self.field.json_type()),
            Fault::OutOfRange { min, max } => write!(f, " is not between {min} and {max}"),
            Fault::Unknown if self.field == Field::Mode => {
                f.write_str(" must be scroll, top or bottom")
            }
            Fault::Unknown => f.write_str(" is not a known value"),
            Fault::NotAllowed => f.write_str(" can only be set by the server"),
        }
    }
}
