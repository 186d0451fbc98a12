//! The posts of a run, fixed before it begins (open loop): a slow server cannot slow the load down.

use std::time::Duration;

use danmaku_chat::Draw;
use danmaku_chat::Line;
use danmaku_chat::Random;

/// One post: when, where, what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post {
    /// When it is due, from the start of the measured interval.
    pub at: Duration,
    /// The room, by its index.
    pub room: u32,
    /// The comment, by its index among the lines.
    pub line: u32,
}

/// How lines are spread over rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each line goes to one room, in turn: the rooms together carry the load of the recording.
    RoundRobin,
    /// Each line goes to every room: each room carries the load of the recording, and the posts are multiplied by the rooms.
    Replicate,
}

/// All posts of a run in the order they are due.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    posts: Vec<Post>,
}

impl Schedule {
    /// Plays `lines` `speed` times as fast as recorded.
    ///
    /// A recorded second has many comments with the same timestamp; they are kept as the burst they were.
    #[must_use]
    pub fn replay(lines: &[Line], speed: f64, rooms: u32, spread: Spread) -> Self {
        let mut posts = Vec::with_capacity(lines.len());
        for (line, index) in lines.iter().zip(0_u32..) {
            let at_s = line.at.as_secs_f64() / speed;
            // Posts slowed down beyond what a duration holds are never due.
            let at = Duration::try_from_secs_f64(at_s).unwrap_or(Duration::MAX);
            match spread {
                Spread::RoundRobin => posts.push(Post {
                    at,
                    room: index % rooms,
                    line: index,
                }),
                Spread::Replicate => posts.extend((0..rooms).map(|room| Post {
                    at,
                    room,
                    line: index,
                })),
            }
        }
        Self { posts }
    }

    /// One post every `interval`, in turn over the rooms and the lines, for `duration`.
    #[must_use]
    pub fn steady(interval: Duration, duration: Duration, rooms: u32, lines: u32) -> Self {
        let posts = (0_u32..)
            .map(|index| Post {
                at: interval * index,
                room: index % rooms,
                line: index % lines,
            })
            .take_while(|post| post.at < duration)
            .collect();
        Self { posts }
    }

    /// The same posts, each in a room drawn by the Zipf law.
    #[must_use]
    pub fn drawn(mut self, rooms: u32, zipf: f64, seed: u64) -> Self {
        let draw = Draw::new(rooms, zipf);
        let mut random = Random::new(seed);
        for post in &mut self.posts {
            post.room = draw.room(&mut random);
        }
        self
    }

    /// The same posts with time warped: `steps` are intervals of the new time, each with its speed.
    #[must_use]
    pub fn warped(mut self, steps: &[(Duration, f64)]) -> Self {
        for post in &mut self.posts {
            let (mut left, mut at) = (post.at, Duration::ZERO);
            for (length, factor) in steps {
                let passes = length.mul_f64(*factor);
                if left < passes {
                    at += left.div_f64(*factor);
                    left = Duration::ZERO;
                    break;
                }
                left -= passes;
                at += *length;
            }
            post.at = at + left;
        }
        self
    }

    /// The posts.
    #[must_use]
    pub fn posts(&self) -> &[Post] {
        &self.posts
    }

    /// The same posts at the same times, all to the first room.
    #[must_use]
    pub fn in_one_room(mut self) -> Self {
        self.posts.iter_mut().for_each(|post| post.room = 0);
        self
    }

    /// Posts due before `end`; the rest is dropped.
    #[must_use]
    pub fn until(mut self, end: Duration) -> Self {
        self.posts.retain(|post| post.at < end);
        self
    }
}

#[cfg(test)]
mod tests {
    use danmaku_client::NewComment;

    use super::*;

    fn lines(at_ms: &[u64]) -> Vec<Line> {
        at_ms
            .iter()
            .map(|ms| Line {
                at: Duration::from_millis(*ms),
                comment: NewComment::new("x"),
            })
            .collect()
    }

    fn ms(schedule: &Schedule) -> Vec<(u128, u32, u32)> {
        schedule
            .posts()
            .iter()
            .map(|post| (post.at.as_millis(), post.room, post.line))
            .collect()
    }

    #[test]
    fn speed_divides_the_recorded_times_and_rooms_take_turns() {
        let schedule =
            Schedule::replay(&lines(&[0, 1000, 1000, 4000]), 10.0, 2, Spread::RoundRobin);
        assert_eq!(
            ms(&schedule),
            [(0, 0, 0), (100, 1, 1), (100, 0, 2), (400, 1, 3)]
        );
    }

    /// Regression: `seal --speed 1e-300` panicked.
    #[test]
    fn an_extremely_low_speed_leaves_only_what_is_due_at_once() {
        let schedule = Schedule::replay(&lines(&[0, 1000]), 1e-300, 1, Spread::RoundRobin);
        assert_eq!(schedule.posts()[1].at, Duration::MAX);
        let schedule = schedule.until(Duration::from_secs(86_400));
        assert_eq!(ms(&schedule), [(0, 0, 0)]);
    }

    #[test]
    fn replicated_lines_go_to_every_room_at_once() {
        let schedule = Schedule::replay(&lines(&[0, 500]), 1.0, 3, Spread::Replicate);
        assert_eq!(
            ms(&schedule),
            [
                (0, 0, 0),
                (0, 1, 0),
                (0, 2, 0),
                (500, 0, 1),
                (500, 1, 1),
                (500, 2, 1)
            ]
        );
    }

    #[test]
    fn warped_time_runs_faster_where_asked() {
        let second = Duration::from_secs(1);
        let schedule = Schedule::replay(
            &lines(&[500, 1000, 11_000, 21_500]),
            1.0,
            1,
            Spread::RoundRobin,
        )
        .warped(&[(second, 1.0), (second, 20.0), (second, 1.0)]);
        let at: Vec<u128> = ms(&schedule).iter().map(|(at, _, _)| *at).collect();
        assert_eq!(at, [500, 1000, 1500, 2500]);
    }

    #[test]
    fn a_steady_schedule_keeps_its_interval_and_ends() {
        let schedule = Schedule::steady(Duration::from_millis(400), Duration::from_secs(1), 2, 2);
        assert_eq!(ms(&schedule), [(0, 0, 0), (400, 1, 1), (800, 0, 0)]);
        assert_eq!(
            ms(&schedule.clone().in_one_room()),
            [(0, 0, 0), (400, 0, 1), (800, 0, 0)]
        );
        assert_eq!(ms(&schedule.until(Duration::from_millis(400))), [(0, 0, 0)]);
    }
}
