//! Assigns the viewers of a run to rooms, encodings and threads.

use std::collections::HashMap;
use std::ops::Range;

use danmaku_wire::{Dialect, Encoding, Protocol};
use serde::{Deserialize, Serialize};

use crate::mix::EncodingMix;

/// The role of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Reads, and is audited by the fingerprints of its frames.
    Counted,
    /// Reads and decodes every byte, as a real client would.
    Sampled,
    /// Stops reading half-way.
    Stalling,
}

/// How viewers watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchVia {
    /// WebSocket.
    #[default]
    Ws,
    /// Server-Sent Events.
    Sse,
}

impl WatchVia {
    /// As the command line calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
        }
    }

    /// The dialect of a viewer that asks for an encoding; none when there is no such thing.
    #[must_use]
    pub fn dialect(self, encoding: Encoding) -> Option<Dialect> {
        let protocol = match self {
            Self::Ws => Protocol::WebSocket,
            Self::Sse => Protocol::Sse,
        };
        Dialect::ALL
            .into_iter()
            .find(|dialect| (dialect.protocol(), dialect.encoding()) == (protocol, encoding))
    }
}

/// A viewer's place before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its room, by index.
    pub room: u32,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its role.
    pub part: Part,
}

/// How many viewers there are, and how they are seated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seating {
    /// Viewers in all.
    pub viewers: u32,
    /// Rooms they are spread over.
    pub rooms: u32,
    /// Exponent of the Zipf law they follow over the rooms; 0 spreads them evenly.
    pub zipf: f64,
    /// How they watch.
    pub via: WatchVia,
    /// Shares of encodings, of which `via` has each.
    pub mix: EncodingMix,
    /// Of each room, encoding and thread, how many decode everything.
    pub sampled: u32,
    /// Viewers that stop reading.
    pub stalling: u32,
}

/// Which part of a seating a process takes: the threads of all processes are one row, and each takes the same number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The process, from 0.
    pub number: usize,
    /// Processes.
    pub of: usize,
}

/// The seats of a share.
#[derive(Clone, Debug)]
pub struct Section {
    /// Viewers of the threads before this share's.
    pub first: u32,
    /// The seats of each of its threads.
    pub seats: Vec<Vec<Seat>>,
}

impl Share {
    /// All viewers.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    fn of_threads(self, per_process: usize) -> Range<usize> {
        self.number * per_process..(self.number + 1) * per_process
    }
}

impl Seating {
    /// The seats of a share, for each of the `threads` threads of its process.
    ///
    /// Viewers of one room stay on one thread when there are enough rooms to go round, so that a frame is decoded once;
    /// otherwise each room is cut into as many pieces as there are threads.
    ///
    /// # Panics
    /// When the protocol does not have one of the encodings.
    #[must_use]
    pub fn section(&self, threads: usize, share: Share) -> Section {
        let mine = share.of_threads(threads);
        let mut seats = vec![Vec::new(); threads];
        let mut first = 0;
        let mut sampled: HashMap<(usize, u32, Encoding), u32> = HashMap::new();
        self.for_each(threads * share.of, |index, place| {
            let Place { room, thread, .. } = place;
            first += u32::from(thread < mine.start);
            if !mine.contains(&thread) {
                return;
            }
            let encoding = self.mix.encoding(room, place.in_room);
            let dialect = self
                .via
                .dialect(encoding)
                .expect("invariant: the flags let no other encoding in");
            let part = if self.stalls(index) {
                Part::Stalling
            } else {
                let taken = sampled.entry((thread, room, encoding)).or_default();
                *taken += 1;
                if *taken <= self.sampled {
                    Part::Sampled
                } else {
                    Part::Counted
                }
            };
            seats[thread - mine.start].push(Seat {
                room,
                dialect,
                part,
            });
        });
        Section { first, seats }
    }

    /// How many viewers each of so many processes has, with `threads` threads each.
    #[must_use]
    pub fn per_process(&self, threads: usize, processes: usize) -> Vec<u32> {
        let mut viewers = vec![0; processes];
        self.for_each(threads * processes, |_, place| {
            viewers[place.thread / threads] += 1;
        });
        viewers
    }

    /// Visits every viewer's place in order, with the viewer's number.
    fn for_each(&self, threads: usize, mut visit: impl FnMut(u32, Place)) {
        let whole_rooms = self.rooms as usize >= 4 * threads;
        let viewers_of = crate::zipf::shares(self.viewers, self.rooms, self.zipf);
        let everybody = (0..viewers_of[0]).flat_map(|in_room| {
            let open = viewers_of
                .iter()
                .take_while(move |viewers| **viewers > in_room);
            (0_u32..)
                .zip(open)
                .map(move |(room, viewers)| (room, in_room as usize, *viewers as usize))
        });
        for ((room, in_room, viewers), index) in everybody.zip(0..) {
            let thread = if whole_rooms {
                room as usize % threads
            } else {
                in_room * threads / viewers
            };
            visit(
                index,
                Place {
                    room,
                    in_room,
                    thread,
                },
            );
        }
    }

    /// Spreads the stalling viewers evenly over all.
    fn stalls(&self, index: u32) -> bool {
        let share =
            |count: u32| u64::from(count) * u64::from(self.stalling) / u64::from(self.viewers);
        share(index + 1) > share(index)
    }
}

/// Where a viewer is: the room, its number there, and the thread among those of all processes.
#[derive(Clone, Copy)]
struct Place {
    room: u32,
    in_room: usize,
    thread: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seating(viewers: u32, rooms: u32, stalling: u32) -> Seating {
        Seating {
            viewers,
            rooms,
            zipf: 0.0,
            via: WatchVia::Ws,
            mix: "identity,gzip,deflate".parse().unwrap(),
            sampled: 1,
            stalling,
        }
    }

    fn seats(seating: &Seating, threads: usize) -> Vec<Vec<Seat>> {
        seating.section(threads, Share::WHOLE).seats
    }

    fn count(seats: &[Vec<Seat>], which: impl Fn(&Seat) -> bool) -> usize {
        seats.iter().flatten().filter(|seat| which(seat)).count()
    }

    #[test]
    fn one_room_is_split_over_threads_and_sampled_in_each() {
        let seats = seats(&seating(1000, 1, 0), 2);
        assert_eq!([seats[0].len(), seats[1].len()], [500, 500]);
        for thread in &seats {
            for encoding in Encoding::ALL {
                let of = |part| {
                    thread
                        .iter()
                        .filter(|seat| seat.dialect.encoding() == encoding && seat.part == part)
                        .count()
                };
                assert_eq!(of(Part::Sampled), 1, "{encoding:?}");
                assert!((165..=167).contains(&of(Part::Counted)), "{encoding:?}");
            }
        }
    }

    #[test]
    fn many_rooms_stay_whole() {
        let seats = seats(&seating(200, 50, 0), 3);
        assert_eq!(count(&seats, |_| true), 200);
        for room in 0..50 {
            let threads = seats
                .iter()
                .filter(|thread| thread.iter().any(|seat| seat.room == room))
                .count();
            assert_eq!(threads, 1, "room {room}");
            assert_eq!(count(&seats, |seat| seat.room == room), 4, "room {room}");
        }
    }

    #[test]
    fn processes_divide_viewers_like_threads_of_one() {
        for (viewers, rooms, zipf) in [(1000, 1, 0.0), (1001, 7, 0.0), (3000, 200, 1.1)] {
            let seating = Seating {
                zipf,
                ..seating(viewers, rooms, 30)
            };
            let (threads, of) = (2, 3);
            let whole = seats(&seating, threads * of);
            let per_process = seating.per_process(threads, of);
            let (mut together, mut first) = (Vec::new(), 0);
            for (number, viewers) in per_process.into_iter().enumerate() {
                let section = seating.section(threads, Share { number, of });
                assert_eq!(section.first, first, "numbers go on over processes");
                assert_eq!(count(&section.seats, |_| true), viewers as usize);
                first += viewers;
                together.extend(section.seats);
            }
            assert_eq!(together, whole);
        }
    }

    #[test]
    fn stalling_viewers_are_spread_and_never_sampled() {
        let seats = seats(&seating(5000, 1, 500), 2);
        assert_eq!(count(&seats, |seat| seat.part == Part::Stalling), 500);
        let in_first_thread = seats[0]
            .iter()
            .filter(|seat| seat.part == Part::Stalling)
            .count();
        assert_eq!(in_first_thread, 250);
        assert_eq!(count(&seats, |seat| seat.part == Part::Sampled), 6);
    }
}
