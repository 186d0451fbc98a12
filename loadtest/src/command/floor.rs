//! `floor`: what the kernel alone needs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use danmaku_wire::Encoding;

use crate::cli::FloorArgs;
use crate::command::{Verdict, print, say};
use crate::descriptors::{self, Need};
use crate::error::HarnessError;
use crate::floor::{FloorPlan, measure};
use crate::report::{quantiles, write_json};
use crate::swarm::{Seating, WatchVia};
use crate::table::{Table, count, figure};

pub(super) async fn floor(args: FloorArgs, stop: Arc<AtomicBool>) -> Result<Verdict, HarnessError> {
    let viewing = &args.viewing;
    if viewing.viewers < viewing.rooms {
        let text = format!(
            "--viewers {} is below --rooms {}",
            viewing.viewers, viewing.rooms
        );
        return Err(HarnessError::Flags(text));
    }
    descriptors::reserve(&Need::here(viewing.viewers.into()), |_| {
        viewing.viewers.into()
    })?;
    let plan = FloorPlan {
        seating: Seating {
            viewers: viewing.viewers,
            rooms: viewing.rooms,
            zipf: 0.0,
            via: WatchVia::Ws,
            mix: viewing.mix(WatchVia::Ws)?,
            sampled: 1,
            stalling: 0,
        },
        frame_bytes: sizes(&args)?,
        rounds: args.rounds,
        interval: Duration::from_millis(args.interval_ms),
        sender_threads: usize::from(args.floor_threads),
        swarm_threads: usize::from(args.threads),
        connects_per_second: args.connect_rate,
    };
    say(&format!(
        "connecting {} viewers, then {} rounds",
        count(viewing.viewers.into()),
        args.rounds
    ));
    let floor = measure(&plan, &stop).await?;
    let mut table = Table::new(format!(
        "floor: {} sockets, {} rounds",
        count(viewing.viewers.into()),
        args.rounds
    ));
    let send = format!(
        "{} µs of CPU per send, {} in user space",
        figure(floor.send_micros),
        figure(floor.user_micros)
    );
    table.row(["sender", &send]);
    table.row([
        "sends",
        &format!("{}, {} partial", count(floor.sends), count(floor.short)),
    ]);
    table.row([
        "receiver",
        &format!("{} µs of CPU per frame", figure(floor.receive_micros)),
    ]);
    table.row(["buffer to viewer", &quantiles(&floor.delivery)]);
    print(&table.render());
    if let Some(path) = &args.json {
        write_json(path, &floor)?;
    }
    Ok(Verdict::Good)
}

/// One size for all, or one for each encoding in use.
fn sizes(args: &FloorArgs) -> Result<[usize; 3], HarnessError> {
    let encodings = args.viewing.mix(WatchVia::Ws)?.encodings();
    let mut sizes = [0; 3];
    match args.frame_bytes[..] {
        [one] => sizes = [one; 3],
        ref several if several.len() == encodings.len() => {
            for (encoding, bytes) in encodings.iter().zip(several) {
                sizes[*encoding as usize] = *bytes;
            }
        }
        _ => {
            let names: Vec<&str> = encodings.into_iter().map(Encoding::as_str).collect();
            return Err(HarnessError::Flags(format!(
                "--frame-bytes needs one size, or one for each of {}",
                names.join(", ")
            )));
        }
    }
    Ok(sizes)
}
