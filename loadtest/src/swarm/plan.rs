//! Who watches what: the viewers of a run, shared out over rooms, encodings and threads.

use std::collections::HashMap;

use danmaku_wire::Encoding;

use crate::mix::EncodingMix;

/// What a viewer is in the run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Reads, and is audited by the fingerprints of its frames.
    Counted,
    /// Reads and decodes every byte, as a real client would.
    Sampled,
    /// Stops reading half-way.
    Stalling,
}

/// One viewer to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its room, by index.
    pub room: u32,
    /// What it asks for.
    pub encoding: Encoding,
    /// What it is for.
    pub part: Part,
}

/// The shape of an audience.
#[derive(Clone, Debug)]
pub struct Audience {
    /// Viewers in all.
    pub viewers: u32,
    /// Rooms they are spread over.
    pub rooms: u32,
    /// Exponent of the Zipf law they follow over the rooms; 0 spreads them evenly.
    pub zipf: f64,
    /// Shares of encodings.
    pub mix: EncodingMix,
    /// Of each room, encoding and thread, how many decode everything.
    pub sampled: u32,
    /// Viewers that stop reading.
    pub stalling: u32,
}

impl Audience {
    /// The seats of each thread.
    ///
    /// Viewers of one room stay on one thread when there are enough rooms to go round, so that a frame is decoded once;
    /// otherwise each room is cut into as many pieces as there are threads.
    #[must_use]
    pub fn seats(&self, threads: usize) -> Vec<Vec<Seat>> {
        let whole_rooms = self.rooms as usize >= 4 * threads;
        let mut seats = vec![Vec::new(); threads];
        let mut sampled: HashMap<(usize, u32, Encoding), u32> = HashMap::new();
        let in_room = crate::zipf::shares(self.viewers, self.rooms, self.zipf);
        let everybody = (0..in_room[0]).flat_map(|place| {
            let open = in_room.iter().take_while(move |viewers| **viewers > place);
            (0_u32..)
                .zip(open)
                .map(move |(room, viewers)| (room, place as usize, *viewers as usize))
        });
        for ((room, place, per_room), index) in everybody.zip(0..) {
            let thread = if whole_rooms {
                room as usize % threads
            } else {
                place * threads / per_room
            };
            let encoding = self.mix.encoding(room, place);
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
                encoding,
                part,
            });
        }
        seats
    }

    /// Spreads the stalling viewers evenly over all.
    fn stalls(&self, index: u32) -> bool {
        let share =
            |count: u32| u64::from(count) * u64::from(self.stalling) / u64::from(self.viewers);
        share(index + 1) > share(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(viewers: u32, rooms: u32, stalling: u32) -> Audience {
        Audience {
            viewers,
            rooms,
            zipf: 0.0,
            mix: "identity,gzip,deflate".parse().unwrap(),
            sampled: 1,
            stalling,
        }
    }

    fn count(seats: &[Vec<Seat>], which: impl Fn(&Seat) -> bool) -> usize {
        seats.iter().flatten().filter(|seat| which(seat)).count()
    }

    #[test]
    fn one_room_is_cut_over_threads_and_sampled_in_each() {
        let seats = audience(1000, 1, 0).seats(2);
        assert_eq!([seats[0].len(), seats[1].len()], [500, 500]);
        for thread in &seats {
            for encoding in Encoding::ALL {
                let of = |part| {
                    thread
                        .iter()
                        .filter(|seat| seat.encoding == encoding && seat.part == part)
                        .count()
                };
                assert_eq!(of(Part::Sampled), 1, "{encoding:?}");
                assert!((165..=167).contains(&of(Part::Counted)), "{encoding:?}");
            }
        }
    }

    #[test]
    fn many_rooms_stay_whole() {
        let seats = audience(200, 50, 0).seats(3);
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
        let seats = audience(5000, 1, 500).seats(2);
        assert_eq!(count(&seats, |seat| seat.part == Part::Stalling), 500);
        let in_first_thread = seats[0]
            .iter()
            .filter(|seat| seat.part == Part::Stalling)
            .count();
        assert_eq!(in_first_thread, 250);
        assert_eq!(count(&seats, |seat| seat.part == Part::Sampled), 6);
    }
}
