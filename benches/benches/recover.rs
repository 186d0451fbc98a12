//! What a returning viewer costs: the lookup in a room's ring, and the frame made for a viewer whose position is before
//! the ring or inside a batch.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use danmaku_engine::{Flush, Now, Resume, Room, RoomConfig, SealInput};
use danmaku_wire::{
    Batch, BatchComment, Chains, Comment, CommentLimits, CommentText, CompressionPolicy, Cursor,
    Dialect, Encoding, Epoch, FrameSet, Position, Priority, Seq, UserId,
};

const EPOCH: Epoch = Epoch::new(1);
const RING_FRAMES: u64 = 100;
const COMMENTS_PER_FRAME: u64 = 50;

fn comment(seq: u64) -> BatchComment {
    let limits = CommentLimits::default();
    let words = [
        "这里好美",
        "哈哈哈哈",
        "前方高能",
        "nice one",
        "第一次来",
        "主播加油",
    ];
    let word = words[usize::try_from(seq).unwrap_or(0) % words.len()];
    let text = CommentText::new(&format!("{word} {seq}"), &limits).expect("a short text");
    let user = UserId::new(&format!("u{}", seq * 7_919 % 100_003), &limits).expect("a short id");
    let comment = Comment {
        user: Some(user),
        ..Comment::new(text)
    };
    BatchComment {
        seq: Seq::new(seq),
        at_ms: 1,
        fragment: comment.fragment(),
    }
}

/// A room after a hundred busy windows, each of them in its ring.
fn room() -> Room {
    let config = RoomConfig {
        window: Duration::from_secs(1),
        flush: Flush::Leading,
        batch_comments_max: 1_000,
        history_frames_max: usize::try_from(RING_FRAMES).expect("it is small"),
        history_bytes_max: usize::MAX,
        phase: Duration::ZERO,
        seed: 1,
        compression: CompressionPolicy::default(),
    };
    let mut room = Room::new(config, EPOCH, Seq::ZERO);
    for frame in 0..RING_FRAMES {
        let now = Now {
            monotonic: Duration::from_secs(frame * 2),
            unix_ms: frame * 2_000,
        };
        for n in 1..=COMMENTS_PER_FRAME {
            let seq = frame * COMMENTS_PER_FRAME + n;
            room.comment(now, comment(seq), Priority::Viewer);
        }
        let input = SealInput {
            viewers: 1,
            chains: Chains {
                ws_deflate: true,
                sse_gzip: false,
            },
        };
        room.tick(now, input).expect("two windows have passed");
    }
    room
}

fn replay(comments: u64, encoding: Encoding) -> impl Fn() -> FrameSet {
    let seq = Seq::new(comments);
    let comments: Vec<_> = (1..=comments).map(comment).collect();
    move || {
        let batch = Batch {
            epoch: EPOCH,
            after: Seq::ZERO,
            seq,
            ts_ms: 1,
            viewers: 1,
            likes: 0,
            shed: 0,
            comments: comments.clone(),
            events: Vec::new(),
        };
        let frame = FrameSet::replay(batch, CompressionPolicy::default());
        let form = Cursor::default().choose(Dialect::web_socket(encoding), &frame);
        black_box(frame.form(form));
        frame
    }
}

fn resume_from_ring(criterion: &mut Criterion) {
    let room = room();
    let mut group = criterion.benchmark_group("recover/ring");
    for missed in [1, 10, RING_FRAMES] {
        let since = Position {
            epoch: EPOCH,
            seq: Seq::new((RING_FRAMES - missed) * COMMENTS_PER_FRAME),
        };
        assert!(matches!(
            room.resume(since),
            Resume::At { boundary, frames } if boundary == since.seq && frames.len() as u64 == missed
        ));
        group.throughput(Throughput::Elements(missed));
        group.bench_function(BenchmarkId::new("frames", missed), |bencher| {
            bencher.iter(|| room.resume(black_box(since)));
        });
    }
    group.finish();
}

fn rebuild_replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recover/replay");
    for comments in [50, 1_000] {
        for encoding in Encoding::ALL {
            group.throughput(Throughput::Elements(comments));
            group.bench_function(BenchmarkId::new(encoding.as_str(), comments), |bencher| {
                bencher.iter(replay(comments, encoding));
            });
        }
    }
    group.finish();
}

criterion_group!(recover, resume_from_ring, rebuild_replay);
criterion_main!(recover);
