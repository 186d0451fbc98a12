//! Posters who give up and repeat, and a moderator who retracts.

use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::SplitMix64;
use danmaku_log::{Append, AppendError, AppendKey, EntryBody, Lookup, RoomLog};
use danmaku_wire::{Comment, CommentLimits, CommentText, Epoch, Event, IdempotencyKey, Seq};
use tokio::time::{sleep, timeout};

use crate::node::PRIORITY;
use crate::plan::below;
use crate::world::{World, unix_ms};

/// Posts the plan's number of comments, alone and as arrays, in bursts and with pauses.
pub(crate) async fn post(world: Arc<World>, poster: u64) {
    let mut random = world.random(100 + poster);
    for n in 0..world.plan.posts_each {
        if random.below(3) > 0 {
            sleep(Duration::from_millis(random.below(world.plan.pause_ms_max))).await;
        }
        let count = 1 + random.below(3) * random.below(2);
        let bodies = (0..count)
            .map(|index| comment(&format!("p{poster}.{n}.{index}")))
            .collect();
        let key = (random.below(4) > 0).then(|| format!("p{poster}.{n}"));
        append(&world, &mut random, None, bodies, key).await;
    }
}

/// Retracts some of what was acknowledged, often soon after.
pub(crate) async fn moderate(world: Arc<World>) {
    let mut random = world.random(200);
    for n in 0..world.plan.posts_each {
        sleep(Duration::from_millis(
            random.below(2 * world.plan.pause_ms_max),
        ))
        .await;
        let Some((epoch, ids)) = some_ids(&world, &mut random) else {
            continue;
        };
        let body = EntryBody::Event(Event::Retract { ids: ids.into() });
        let key = Some(format!("m{n}"));
        if append(&world, &mut random, Some(epoch), vec![body], key).await {
            world.coverage().retractions += 1;
        }
    }
}

/// Positions near the newest ones, most of them comments.
fn some_ids(world: &World, random: &mut SplitMix64) -> Option<(Epoch, Vec<Seq>)> {
    let ledger = world.ledger();
    let acked = ledger.acked();
    let &(newest, ..) = acked.last()?;
    let count = 1 + random.below(3);
    let ids = (0..count).filter_map(|_| {
        let back = if random.below(2) == 0 { 4 } else { 60 };
        let (epoch, seq, _) = acked.iter().rev().nth(below(random, back))?;
        // Sometimes a hole, an event, or somebody else's.
        let seq = if random.below(10) == 0 {
            seq.previous()
        } else {
            *seq
        };
        (*epoch == newest).then_some(seq)
    });
    Some((newest, ids.collect()))
}

/// Appends, in the given epoch only, until it is known to be there; whether it is.
async fn append(
    world: &World,
    random: &mut SplitMix64,
    epoch: Option<Epoch>,
    bodies: Vec<EntryBody>,
    key: Option<String>,
) -> bool {
    let mut repeated = false;
    for _ in 0..APPEND_TRIES {
        let Some(handle) = world.some_node(random) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        if epoch.is_some_and(|epoch| epoch != handle.log.epoch()) {
            return false;
        }
        let append = Append {
            entries: bodies.clone(),
            key: key.as_ref().map(|key| AppendKey {
                poster: 1,
                key: IdempotencyKey::new(key).unwrap(),
            }),
            // Clocks of posters' nodes differ.
            now_ms: unix_ms(world.begun) + random.below(50),
        };
        let patience_ms = if random.below(6) == 0 {
            random.below(40)
        } else {
            60_000
        };
        let patience = Duration::from_millis(patience_ms);
        let outcome = match timeout(patience, handle.log.append(append)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                world.coverage().given_up += 1;
                Err(AppendError::OutcomeUnknown)
            }
        };
        match outcome {
            Ok(appended) => {
                world.coverage().acked += appended.seqs.len() as u64;
                world.coverage().retries_answered += u64::from(repeated);
                world.ledger().ack(appended.epoch, &appended.seqs, &bodies);
                check_known(world, &handle.log, &appended.seqs).await;
                return true;
            }
            Err(AppendError::OutcomeUnknown) => {
                world.coverage().outcomes_unknown += 1;
                if key.is_none() {
                    return false;
                }
                repeated = true;
            }
            Err(AppendError::KeyReused) => panic!("each key belongs to one append"),
            Err(AppendError::Unavailable) => world.coverage().unavailable += 1,
            Err(AppendError::Overloaded { behind }) => {
                assert!(behind >= world.plan.log.tail_lag_max as u64);
                world.coverage().overloaded += 1;
            }
        }
        sleep(Duration::from_millis(20 + random.below(100))).await;
    }
    false
}

/// What was acknowledged is never above the head, and can be read at once.
async fn check_known(world: &World, log: &RoomLog, seqs: &[Seq]) {
    for &seq in seqs {
        assert!(seq <= log.head());
        assert_ne!(log.lookup(seq), Lookup::AboveHead);
    }
    let Some(&last) = seqs.last() else {
        return;
    };
    if let Ok(page) = log.read_after(last.previous(), 1).await {
        world.ledger().page(log.epoch(), page.clone());
        assert!(page.seq >= last || page.more);
    }
}

fn comment(text: &str) -> EntryBody {
    let text = CommentText::new(text, &CommentLimits::default()).unwrap();
    EntryBody::Comment {
        fragment: Comment::new(text).fragment(),
        priority: PRIORITY,
    }
}

const APPEND_TRIES: u32 = 40;
