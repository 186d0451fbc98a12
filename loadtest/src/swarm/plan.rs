//! Assigns the viewers of a run to rooms, encodings and threads.

use std::collections::HashMap;

use danmaku_wire::{Dialect, Encoding};

use crate::swarm::mix::EncodingMix;
use crate::swarm::via::WatchVia;

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
#[derive(Clone, Debug, PartialEq)]
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

impl Seating {
    /// The seats of each of so many threads.
    ///
    /// Viewers of one room stay on one thread when there are enough rooms to go round, so that a frame is decoded once;
    /// otherwise each room is cut into as many pieces as there are threads.
    ///
    /// # Panics
    /// When the protocol does not have one of the encodings.
    #[must_use]
    pub fn seats(&self, threads: usize) -> Vec<Vec<Seat>> {
        let mut seats = vec![Vec::new(); threads];
        let mut sampled: HashMap<(usize, u32, Encoding), u32> = HashMap::new();
        self.for_each(threads, |index, place| {
            let Place { room, thread, .. } = place;
            let encoding = self.mix.encoding(room, place.in_room);
            let dialect = self
                .via
                .dialect(encoding)
                .expect("invariant: the specification lets no other encoding in");
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
            seats[thread].push(Seat {
                room,
                dialect,
                part,
            });
        });
        seats
    }

    /// Visits every viewer's place in order, with the viewer's number.
    fn for_each(&self, threads: usize, mut visit: impl FnMut(u32, Place)) {
        let whole_rooms = self.rooms as usize >= 4 * threads;
        let viewers_of = danmaku_chat::shares(self.viewers, self.rooms, self.zipf);
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

/// Where a viewer is: the room, its number there, and the thread.
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

    fn count(seats: &[Vec<Seat>], which: impl Fn(&Seat) -> bool) -> usize {
        seats.iter().flatten().filter(|seat| which(seat)).count()
    }

    #[test]
    fn one_room_is_split_over_threads_and_sampled_in_each() {
        let seats = seating(1000, 1, 0).seats(2);
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
        let seats = seating(200, 50, 0).seats(3);
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
    fn stalling_viewers_are_spread_and_never_sampled() {
        let seats = seating(5000, 1, 500).seats(2);
        assert_eq!(count(&seats, |seat| seat.part == Part::Stalling), 500);
        let in_first_thread = seats[0]
            .iter()
            .filter(|seat| seat.part == Part::Stalling)
            .count();
        assert_eq!(in_first_thread, 250);
        assert_eq!(count(&seats, |seat| seat.part == Part::Sampled), 6);
    }
}
