//! Every limit on bytes from outside, in one place.

/// Longest room id, in bytes (its characters are ASCII).
pub const ROOM_ID_BYTES_MAX: usize = 64;

/// Longest message a viewer may send, in bytes of payload, fragments added up.
pub const MESSAGE_BYTES_MAX: u32 = 4096;

/// Most fragments of one message from a viewer; some may be empty, so its length does not bound them.
pub const FRAGMENTS_MAX: u32 = 64;

/// Longest payload of a control frame (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Longest body of an HTTP request that posts comments, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Longest `data` of a comment, in bytes of JSON without white space.
pub const DATA_BYTES_MAX: usize = 512;

/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// Smallest font size a comment may ask for, in CSS pixels of a 1080p-high player.
pub const FONT_SIZE_MIN: u8 = 10;

/// Largest font size a comment may ask for.
pub const FONT_SIZE_MAX: u8 = 64;

/// Largest colour, `0xRRGGBB`.
pub const COLOR_MAX: u32 = 0xFF_FFFF;

/// How deep JSON from outside may nest. Our own messages need 2; unknown fields are ignored and may hold more.
pub const JSON_DEPTH_MAX: usize = 32;

/// The limits on what one comment or like may hold, which an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommentLimits {
    /// Longest text, in Unicode scalar values.
    pub text_scalars_max: usize,
    /// Longest user id, in bytes.
    pub user_bytes_max: usize,
    /// Longest display name, in Unicode scalar values.
    pub name_scalars_max: usize,
    /// Longest `ref`, in bytes.
    pub ref_bytes_max: usize,
    /// Most likes that one message may add.
    pub like_count_max: u32,
    /// Most comments in one HTTP request.
    pub posted_comments_max: usize,
}

impl Default for CommentLimits {
    fn default() -> Self {
        Self {
            text_scalars_max: 200,
            user_bytes_max: 64,
            name_scalars_max: 32,
            ref_bytes_max: 64,
            like_count_max: 100,
            posted_comments_max: 100,
        }
    }
}
