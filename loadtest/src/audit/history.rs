//! The plain text a room's batches had, in order: what chained forms refer back to.
//!
//! With it any frame can be decoded on its own, once some viewer of the room has had the batches before it. So the swarm
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

    /// The fingerprint of a payload for a viewer at this mark. Two batches may have the same chained bytes and
    /// still be different texts, because they refer to different ones.
    #[must_use]
    pub(super) fn in_context(self, print: u64) -> u64 {
        print ^ u64::from(self.0).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
}

/// The latest batches of one room.
#[derive(Debug, Default)]
pub(super) struct History {
    batches: VecDeque<(Mark, Past)>,
    bytes: usize,
    marks: u32,
}

/// One batch.
#[derive(Debug)]
pub(super) struct Past {
    /// Where it begins and when it was sealed: the order of a room's batches, also of those that stand for no position.
    pub(super) order: (u64, u64),
    /// It was only replayed to returning viewers: live frames do not refer to it.
    pub(super) only_replayed: bool,
    /// Its plain text as it is in the stream, with its terminator.
    pub(super) plain: Box<[u8]>,
}

impl History {
    /// Adds a batch. Batches may come a little out of order: a viewer that skipped a frame is ahead of one that still gets
    /// it.
    pub(super) fn add(&mut self, past: Past) -> Mark {
        self.marks += 1;
        let mark = Mark(self.marks);
        let place = self
            .batches
            .iter()
            .rposition(|(_, other)| other.order <= past.order)
            .map_or(0, |index| index + 1);
        self.bytes += past.plain.len();
        self.batches.insert(place, (mark, past));
        while self.bytes > HISTORY_BYTES_MAX && self.batches.len() > 1 {
            self.bytes -= self
                .batches
                .pop_front()
                .map_or(0, |(_, past)| past.plain.len());
        }
        mark
    }

    /// Records that a batch that was only replayed so far was also sent live.
    pub(super) fn went_live(&mut self, mark: Mark) {
        let mut batches = self.batches.iter_mut().rev();
        if let Some((_, past)) = batches.find(|(other, _)| *other == mark) {
            past.only_replayed = false;
        }
    }

    /// Writes the last 32 KiB of deflate plain text that a viewer had after the batch at `mark`. The first live frame after a
    /// replay refers to nothing, so what was replayed is left out.
    fn window(&self, mark: Mark, window: &mut Vec<u8>) {
        window.clear();
        let Some(end) = self.batches.iter().rposition(|(other, _)| *other == mark) else {
            return;
        };
        let had = |place: &usize| *place == end || !self.batches[*place].1.only_replayed;
        let mut start = end + 1;
        let mut bytes = 0;
        while start > 0 && bytes < WINDOW_BYTES {
            start -= 1;
            if had(&start) {
                bytes += self.batches[start].1.plain.len();
            }
        }
        for place in (start..=end).filter(had) {
            window.extend_from_slice(&self.batches[place].1.plain);
        }
        window.drain(..window.len().saturating_sub(WINDOW_BYTES));
    }
}

/// Decodes deflate forms apart from any viewer's stream.
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
    /// Decodes a form for a viewer whose last batch was at `mark`; `plain` gets the text with what ends it. `None` when it
    /// does not decode with what this viewer had.
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
        fed == form.len()
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn past(after: u64, ts_ms: u64, plain: &[u8]) -> Past {
        Past {
            order: (after, ts_ms),
            only_replayed: false,
            plain: plain.into(),
        }
    }

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
    fn a_chained_form_is_decoded_with_what_its_viewer_had() {
        let lines = [
            "a batch of words, first\n",
            "a batch of words, second\n",
            "a batch of words, third\n",
        ];
        let mut history = History::default();
        let marks: Vec<Mark> = lines
            .iter()
            .zip(1_u64..)
            .map(|(line, first)| history.add(past(first, first, line.as_bytes())))
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
    fn batches_out_of_order_are_sorted() {
        let mut history = History::default();
        let late = history.add(past(5, 50, b"fifth\n"));
        history.add(past(5, 40, b"likes before the fifth\n"));
        history.add(past(1, 10, b"first\n"));
        let mut window = Vec::new();
        history.window(late, &mut window);
        assert_eq!(window, b"first\nlikes before the fifth\nfifth\n");
    }

    #[test]
    fn replayed_batches_are_not_in_the_history_of_other_viewers() {
        let mut history = History::default();
        history.add(past(1, 10, b"first\n"));
        let replay = history.add(Past {
            only_replayed: true,
            ..past(1, 90, b"first and second, merged\n")
        });
        let second = history.add(past(2, 20, b"second\n"));
        let mut window = Vec::new();
        history.window(second, &mut window);
        assert_eq!(window, b"first\nsecond\n");
        history.went_live(replay);
        history.window(second, &mut window);
        assert_eq!(window, b"first\nfirst and second, merged\nsecond\n");
    }

    #[test]
    fn history_is_bounded_and_the_window_is_the_last_32_kib() {
        let mut history = History::default();
        let mut mark = Mark::START;
        for first in 0..100 {
            mark = history.add(past(first, first, &[b'x'; 10_000]));
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
