//! Raw deflate and gzip with the compressors of the current thread.

use std::cell::RefCell;
use std::num::NonZeroU32;

use flate2::{Compress, Compression, FlushCompress, Status};

/// How far back deflate can refer (RFC 1951, section 2), so no more of a group's text is worth keeping.
pub(crate) const DEFLATE_WINDOW_BYTES: usize = 32 * 1024;

/// Base-two logarithm of [`DEFLATE_WINDOW_BYTES`].
const DEFLATE_WINDOW_BITS: u8 = 15;

/// Texts shorter than this are compressed at the fastest level.
const SHORT_BYTES: usize = 256;

/// What a room's batches are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionPolicy {
    /// The level of all compressed forms.
    pub level: CompressionLevel,
    /// How many batches share their history before it starts over. A viewer that joins or skips in between gets
    /// independent forms for at most this many batches.
    pub group_batches: NonZeroU32,
}

impl Default for CompressionPolicy {
    fn default() -> Self {
        const GROUP_BATCHES: NonZeroU32 = NonZeroU32::new(30).expect("invariant: 30 is not zero");
        Self {
            level: CompressionLevel::default(),
            group_batches: GROUP_BATCHES,
        }
    }
}

/// How hard to compress, 1 to 9 as in zlib.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLevel(u8);

impl CompressionLevel {
    /// The default level: the highest that hostile text cannot make slow.
    ///
    /// Measured with zlib-rs 0.6 on one core of a small cloud machine; the command prints both halves:
    /// `cargo bench -p danmaku-benches --bench wire -- level`. *Chat* is the chained form of 100 generated comments,
    /// *hostile* that of 1,000 comments of 200 letters chosen to cost a compressor the most.
    ///
    /// | level | chat, bytes a comment | chat, a batch | hostile, a batch |
    /// |---|---|---|---|
    /// | 1 | 14.81 | 38 µs | 0.6 ms |
    /// | 2 | 11.88 | 58 µs | 1.3 ms |
    /// | 3 | 11.35 | 66 µs | 1.5 ms |
    /// | 4 | 10.86 | 77 µs | 2.2 ms |
    /// | 5 | 10.69 | 81 µs | 2.7 ms |
    /// | **6** | 10.60 | 86-92 µs | 6.1 ms |
    /// | 7 | 10.43 | 119 µs | 12 ms |
    /// | 8 | 10.24 | 212 µs | 63 ms |
    /// | 9 | 10.37 | 118 µs | 215 ms |
    ///
    /// Above 6 a batch is 2 to 3 % smaller, but a few hostile posters can block a thread for a fifth of a second.
    pub const DEFAULT: Self = Self(6);

    /// The level `level`; `None` if it is not 1 to 9.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= 9 {
            Some(Self(level))
        } else {
            None
        }
    }

    /// The level as a number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl Default for CompressionLevel {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A compressor holds some 270 KB, so a thread keeps one of each kind and rooms keep none.
struct Pooled {
    level: CompressionLevel,
    raw: Option<Compress>,
    gzip: Option<Compress>,
    out: Vec<u8>,
}

thread_local! {
    static POOLED: RefCell<Pooled> = const {
        RefCell::new(Pooled { level: CompressionLevel::DEFAULT, raw: None, gzip: None, out: Vec::new() })
    };
}

/// Compresses `line` into non-final, byte-aligned raw deflate blocks that refer back into `history` and `line` only.
pub(crate) fn raw_deflate<R>(
    level: CompressionLevel,
    history: &[u8],
    line: &[u8],
    use_bytes: impl FnOnce(&[u8]) -> R,
) -> R {
    with_pool(level, |pool| {
        let compress = pool
            .raw
            .get_or_insert_with(|| Compress::new(zlib_level(level), false));
        begin(compress, level, line);
        if !history.is_empty() {
            compress
                .set_dictionary(history)
                .expect("invariant: a fresh raw stream takes a dictionary");
        }
        run(compress, line, FlushCompress::Sync, &mut pool.out);
        use_bytes(&pool.out)
    })
}

/// Compresses `json` into one gzip member.
pub(crate) fn gzip<R>(
    level: CompressionLevel,
    json: &[u8],
    use_bytes: impl FnOnce(&[u8]) -> R,
) -> R {
    with_pool(level, |pool| {
        let compress = pool
            .gzip
            .get_or_insert_with(|| Compress::new_gzip(zlib_level(level), DEFLATE_WINDOW_BITS));
        begin(compress, level, json);
        run(compress, json, FlushCompress::Finish, &mut pool.out);
        use_bytes(&pool.out)
    })
}

fn with_pool<R>(level: CompressionLevel, body: impl FnOnce(&mut Pooled) -> R) -> R {
    POOLED.with_borrow_mut(|pool| {
        if pool.level != level {
            // A server uses one level; only benches change it.
            pool.level = level;
            pool.raw = None;
            pool.gzip = None;
        }
        body(pool)
    })
}

fn zlib_level(level: CompressionLevel) -> Compression {
    Compression::new(u32::from(level.value()))
}

/// Begins a stream for `input`. A short text gets the fastest level: building codes of its own would cost more than the
/// few bytes they save.
fn begin(compress: &mut Compress, level: CompressionLevel, input: &[u8]) {
    let level = if input.len() < SHORT_BYTES {
        CompressionLevel(1)
    } else {
        level
    };
    compress.reset();
    compress
        .set_level(zlib_level(level))
        .expect("invariant: a fresh stream takes another level");
}

/// Compresses all of `input` into `out`, which is emptied first.
fn run(compress: &mut Compress, input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
    out.clear();
    // Text that does not compress only grows by its block headers, so one round is usually enough.
    out.reserve(input.len() + input.len() / 256 + 64);
    let mut consumed = 0;
    loop {
        let before = compress.total_in();
        let status = compress
            .compress_vec(&input[consumed..], out, flush)
            .expect("invariant: deflate fails only on a stream that was finished before");
        consumed += usize::try_from(compress.total_in() - before)
            .expect("invariant: a slice's length is a usize");
        let flushed = status == Status::StreamEnd || !matches!(flush, FlushCompress::Finish);
        if consumed == input.len() && flushed && out.len() < out.capacity() {
            return;
        }
        if status == Status::StreamEnd {
            return;
        }
        out.reserve(out.capacity() / 2 + 64);
    }
}
