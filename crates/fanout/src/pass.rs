//! A delivery cut into slices: which of a room's viewers have had which of the frames under way.

use std::collections::VecDeque;
use std::sync::Arc;

use danmaku_wire::FrameSet;

/// Frames under way to the viewers of one room, one after the other.
///
/// Between slices viewers join, leave and move within the room's set, so each has a count of the frames it got. A new
/// viewer counts as having those under way: they were sealed before it was attached.
#[derive(Debug)]
pub(crate) struct Pass {
    frames: VecDeque<Arc<FrameSet>>,
    /// Frames that everybody has got.
    delivered: u64,
    /// By place in the room's set, how many frames the viewer there has got: `delivered` when the first of those under
    /// way is due to it.
    got: Vec<u64>,
    /// The next place to look at, and how many of them until all have been.
    at: usize,
    left: usize,
}

impl Pass {
    /// A pass that begins at place `start` of so many.
    pub(crate) fn new(frame: Arc<FrameSet>, members: usize, start: usize) -> Self {
        Self {
            frames: [frame].into(),
            delivered: 0,
            got: vec![0; members],
            at: start,
            left: members,
        }
    }

    /// Adds a frame for all who are here now.
    pub(crate) fn push(&mut self, frame: Arc<FrameSet>) {
        self.frames.push_back(frame);
    }

    /// How many frames are under way.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The frame that is being delivered.
    pub(crate) fn frame(&self) -> Option<&Arc<FrameSet>> {
        self.frames.front()
    }

    /// The next place whose viewer is due the frame. The viewer counts as served.
    #[inline]
    pub(crate) fn next_due(&mut self) -> Option<usize> {
        while self.left > 0 {
            if self.at >= self.got.len() {
                self.at = 0;
            }
            let place = self.at;
            let got = self.got.get_mut(place)?;
            self.at += 1;
            self.left -= 1;
            if *got == self.delivered {
                *got += 1;
                return Some(place);
            }
        }
        None
    }

    /// Whether everybody has got the frame.
    pub(crate) fn is_delivered(&self) -> bool {
        self.left == 0
    }

    /// Moves on to the next frame, from place `start`, once everybody has got the current one.
    pub(crate) fn advance(&mut self, start: usize) {
        debug_assert!(
            self.got.iter().all(|&got| got > self.delivered),
            "somebody was skipped"
        );
        self.frames.pop_front();
        self.delivered += 1;
        self.at = start;
        self.left = self.got.len();
    }

    /// The frames due to the viewer at `place`, which counts as served.
    pub(crate) fn catch_up(&mut self, place: usize) -> Vec<Arc<FrameSet>> {
        let end = self.delivered + self.frames.len() as u64;
        let Some(got) = self.got.get_mut(place) else {
            return Vec::new();
        };
        let due = usize::try_from(end - *got).unwrap_or_default();
        *got = end;
        let had = self.frames.len() - due;
        self.frames.range(had..).cloned().collect()
    }

    /// Adds a viewer at the last place.
    pub(crate) fn join(&mut self) {
        self.got.push(self.delivered + self.frames.len() as u64);
        // The places that are left may go on behind the last one.
        self.left = (self.left + 1).min(self.got.len());
    }

    /// Removes the viewer at `place`; the last one takes its place.
    pub(crate) fn leave(&mut self, place: usize) {
        self.got.swap_remove(place);
        if self.got.get(place) == Some(&self.delivered) {
            // It may have moved to a place that the pass has already visited.
            self.left = self.got.len();
        }
        self.left = self.left.min(self.got.len());
    }
}

#[cfg(test)]
mod tests {
    use danmaku_engine::SplitMix64;
    use danmaku_wire::{CompressionPolicy, Epoch, Gap, Seq};

    use super::*;

    /// Viewers in a dense set, each with the frames it is to get and those it got.
    #[derive(Default)]
    struct Model {
        pass: Option<Pass>,
        members: Vec<Viewer>,
        frames: u64,
    }

    #[derive(Default)]
    struct Viewer {
        due: Vec<u64>,
        got: Vec<u64>,
    }

    impl Model {
        fn push(&mut self, start: usize) {
            self.frames += 1;
            let seq = Seq::new(self.frames);
            let gap = Gap {
                epoch: Epoch::new(1),
                after: seq,
                seq,
                events: Vec::new(),
            };
            let frame = Arc::new(FrameSet::gap(gap, CompressionPolicy::default()));
            for viewer in &mut self.members {
                viewer.due.push(self.frames);
            }
            match &mut self.pass {
                Some(pass) => pass.push(frame),
                None => self.pass = Some(Pass::new(frame, self.members.len(), start)),
            }
        }

        fn slice(&mut self, viewers_max: u64, start: usize) {
            let Some(pass) = &mut self.pass else { return };
            let frame = pass.frame().unwrap().seq().value();
            for _ in 0..viewers_max {
                let Some(place) = pass.next_due() else { break };
                self.members[place].got.push(frame);
            }
            if pass.is_delivered() {
                pass.advance(start);
                if pass.frame().is_none() {
                    self.pass = None;
                    assert!(self.members.iter().all(|it| it.got == it.due));
                }
            }
        }

        fn join(&mut self) {
            self.members.push(Viewer::default());
            if let Some(pass) = &mut self.pass {
                pass.join();
            }
        }

        fn leave(&mut self, place: usize, caught_up: bool) {
            if let Some(pass) = &mut self.pass {
                if caught_up {
                    let frames = pass.catch_up(place);
                    let viewer = &mut self.members[place];
                    viewer.got.extend(frames.iter().map(|it| it.seq().value()));
                    assert_eq!(viewer.got, viewer.due);
                }
                pass.leave(place);
            }
            let viewer = self.members.swap_remove(place);
            assert!(viewer.due.starts_with(&viewer.got), "in order, none twice");
            if self.members.is_empty() {
                self.pass = None;
            }
        }
    }

    #[test]
    fn everybody_gets_each_frame_once_and_in_order_whoever_comes_and_goes() {
        for seed in 0..200 {
            let mut random = SplitMix64::new(seed);
            let mut below = |len: usize| usize::try_from(random.below(len as u64)).unwrap();
            let mut model = Model::default();
            for _ in 0..600 {
                let members = model.members.len();
                match below(10) {
                    0..3 if members < 40 => model.join(),
                    3..5 if members > 0 => model.leave(below(members), below(2) == 0),
                    5 if members > 0 => model.push(below(members)),
                    _ if members > 0 => model.slice(1 + below(9) as u64, below(members)),
                    _ => {}
                }
            }
            while model.pass.is_some() {
                model.slice(3, 0);
            }
        }
    }
}
