//! The plain text a room's batches had, in order: what chained `deflate` forms refer back to.
//!
//! With it any frame can be decoded on its own, as soon as some viewer of the room had the batches before it. So the swarm
//! needs one decode per distinct frame and no inflater per viewer.

use std::collections::VecDeque;

use flate2::{Decompress, FlushDecompress, Status};

/// How far back a deflate stream can refer (RFC 1951 section 3.2.5).
const WINDOW_BYTES: usize = 32 << 10;
/// Plain text kept per room: the window, and what viewers that lag behind may still need.
const HISTORY_BYTES_MAX: usize = 256 << 10;
/// Largest plain text of one batch.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Names one batch in a room's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(u32);

impl Mark {
    /// Before the first batch.
    pub(super) const START: Self = Self(0);

    /// The fingerprint of a payload in the hands of a viewer at this mark. Two batches may have the same chained bytes and
    /// still be different texts, because they refer back to different ones.
    #[must_use]
    pub(super) fn in_context(self, print: u64) -> u64 {
        print ^ u64::from(self.0).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
}

/// The latest batches of one room.
#[derive(Debug, Default)]
pub(super) struct History {
    batches: VecDeque<Past>,
    bytes: usize,
    marks: u32,
}

#[derive(Debug)]
struct Past {
    /// First position and time of sealing: the order of a room's batches, also of those that cover nothing.
    order: (u64, u64),
    mark: Mark,
    plain: Box<[u8]>,
}

impl History {
    /// Adds the plain text of a batch, without its newline. Batches may come a little out of order: a viewer that skipped a
    /// frame is ahead of one that still gets it.
    pub(super) fn add(&mut self, first: u64, ts_ms: u64, plain: Box<[u8]>) -> Mark {
        self.marks += 1;
        let mark = Mark(self.marks);
        let order = (first, ts_ms);
        let place = self
            .batches
            .iter()
            .rposition(|past| past.order <= order)
            .map_or(0, |index| index + 1);
        self.bytes += plain.len();
        self.batches.insert(place, Past { order, mark, plain });
        while self.bytes > HISTORY_BYTES_MAX && self.batches.len() > 1 {
            self.bytes -= self.batches.pop_front().map_or(0, |past| past.plain.len());
        }
        mark
    }

    /// Writes the last 32 KiB of deflate plain text that a viewer had after the batch at `mark`.
    fn window(&self, mark: Mark, window: &mut Vec<u8>) {
        window.clear();
        let Some(end) = self.batches.iter().rposition(|past| past.mark == mark) else {
            return;
        };
        let mut start = end;
        let mut bytes = self.batches[end].plain.len() + 1;
        while start > 0 && bytes < WINDOW_BYTES {
            start -= 1;
            bytes += self.batches[start].plain.len() + 1;
        }
        for past in self.batches.range(start..=end) {
            window.extend_from_slice(&past.plain);
            window.push(b'\n');
        }
        window.drain(..window.len().saturating_sub(WINDOW_BYTES));
    }
}

/// Decodes `deflate` forms apart from any viewer's stream.
pub(super) struct FormInflater {
    stream: Decompress,
    window: Vec<u8>,
}

impl Default for FormInflater {
    fn default() -> Self {
        Self {
            stream: Decompress::new(false),
            window: Vec::with_capacity(WINDOW_BYTES),
        }
    }
}

impl FormInflater {
    /// Decodes a form for a viewer whose last batch was at `mark`; `plain` gets the text without its newline. `None` when
    /// it does not decode with what this viewer had.
    pub(super) fn decode(
        &mut self,
        history: &History,
        mark: Mark,
        form: &[u8],
        plain: &mut Vec<u8>,
    ) -> Option<()> {
        history.window(mark, &mut self.window);
        self.inflate(form, plain).then_some(())
    }

    fn inflate(&mut self, form: &[u8], plain: &mut Vec<u8>) -> bool {
        plain.clear();
        self.stream.reset(false);
        if !self.window.is_empty() && self.stream.set_dictionary(&self.window).is_err() {
            return false;
        }
        let mut fed = 0;
        loop {
            plain.reserve(plain.len().max(4096));
            let before = self.stream.total_in();
            let status = self
                .stream
                .decompress_vec(&form[fed..], plain, FlushDecompress::Sync);
            fed += usize::try_from(self.stream.total_in() - before).unwrap_or(form.len());
            match status {
                Ok(Status::Ok | Status::BufError) if plain.len() == plain.capacity() => {}
                Ok(Status::Ok | Status::BufError) => break,
                Ok(Status::StreamEnd) | Err(_) => return false,
            }
            if plain.len() > BATCH_BYTES_MAX {
                return false;
            }
        }
        fed == form.len() && plain.pop() == Some(b'\n')
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn compress(dictionary: &[u8], line: &str) -> Vec<u8> {
        let mut stream = Compress::new(Compression::default(), false);
        if !dictionary.is_empty() {
            stream.set_dictionary(dictionary).unwrap();
        }
        let mut out = Vec::with_capacity(line.len() + 1024);
        stream
            .compress_vec(line.as_bytes(), &mut out, FlushCompress::Sync)
            .unwrap();
        out
    }

    #[test]
    fn a_chained_form_needs_exactly_what_its_viewer_had() {
        let lines = [
            "a batch of words, first",
            "a batch of words, second",
            "a batch of words, third",
        ];
        let mut history = History::default();
        let marks: Vec<Mark> = lines
            .iter()
            .zip(1_u64..)
            .map(|(line, first)| history.add(first, first, line.as_bytes().into()))
            .collect();
        let chained = compress(
            b"a batch of words, first\na batch of words, second\n",
            "a batch of words, third\n",
        );
        let alone = compress(b"", "a batch of words, third\n");
        let mut inflater = FormInflater::default();
        let mut plain = Vec::new();
        assert_eq!(
            inflater.decode(&history, marks[1], &chained, &mut plain),
            Some(())
        );
        assert_eq!(plain, lines[2].as_bytes());
        assert_eq!(
            inflater.decode(&history, Mark::START, &alone, &mut plain),
            Some(())
        );
        assert_eq!(plain, lines[2].as_bytes());
        assert_eq!(
            inflater.decode(&history, Mark::START, &chained, &mut plain),
            None
        );
    }

    #[test]
    fn batches_find_their_place_when_they_come_out_of_order() {
        let mut history = History::default();
        let late = history.add(5, 50, (*b"fifth").into());
        history.add(5, 40, (*b"likes before the fifth").into());
        history.add(1, 10, (*b"first").into());
        let mut window = Vec::new();
        history.window(late, &mut window);
        assert_eq!(window, b"first\nlikes before the fifth\nfifth\n");
    }

    #[test]
    fn history_is_bounded_and_the_window_is_the_last_32_kib() {
        let mut history = History::default();
        let mut mark = Mark::START;
        for first in 0..100 {
            mark = history.add(first, first, vec![b'x'; 10_000].into());
        }
        assert!(
            history.bytes <= HISTORY_BYTES_MAX,
            "{} bytes are held",
            history.bytes
        );
        let mut window = Vec::new();
        history.window(mark, &mut window);
        assert_eq!(window.len(), WINDOW_BYTES);
        history.window(Mark(1), &mut window);
        assert!(window.is_empty(), "the first batch is long gone");
    }
}
