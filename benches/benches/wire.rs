//! What bytes cost: parsing a comment, sealing a batch in each encoding, and what the compression levels buy.
//!
//! Sizes are printed before the timings. They include WebSocket heads, on made-up chat.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use danmaku_benches::Chat;
use danmaku_wire::limits::MESSAGE_BYTES_MAX;
use danmaku_wire::{
    Batch, Chains, ClientDecoder, ClientEvent, ClientMessage, Comment, CommentLimits, CommentText,
    CompressionLevel, CompressionPolicy, Form, FrameSet, Sealer, Seq, parse_client_message,
};

const SEED: u64 = 7;
const BATCH_COMMENTS: [usize; 3] = [10, 100, 1_000];

/// A viewer's message: 8 bytes of head, 82 of JSON.
const MESSAGE: &str =
    r#"{"type":"comment","ref":17,"text":"前方高能 \"哈哈哈哈\"","mode":"top","color":16711680}"#;

fn policy(level: u8) -> CompressionPolicy {
    let level = CompressionLevel::new(level).expect("a level is 1 to 9");
    CompressionPolicy {
        level,
        ..CompressionPolicy::default()
    }
}

/// The batches that share one history.
fn group(comments: usize) -> Vec<Batch> {
    let mut chat = Chat::new(SEED);
    let mut after = Seq::ZERO;
    let next = |_| {
        let batch = chat.batch(after, comments);
        after = batch.seq;
        batch
    };
    (0..CompressionPolicy::default().group_batches.get())
        .map(next)
        .collect()
}

/// The most expensive texts for a compressor: two letters in random order, so that every position starts like hundreds of
/// others but continues like none.
fn hostile_group(comments: usize) -> Vec<Batch> {
    let mut batches = group(comments);
    let limits = CommentLimits::default();
    let mut state = SEED;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if state >> 63 == 0 { 'a' } else { 'b' }
    };
    for comment in batches.iter_mut().flat_map(|batch| &mut batch.comments) {
        let text: String = (0..limits.text_scalars_max).map(|_| letter()).collect();
        let text = CommentText::new(&text, &limits).expect("it is within the limit");
        comment.fragment = Comment::new(text).fragment();
    }
    batches
}

fn parse(criterion: &mut Criterion) {
    let limits = CommentLimits::default();
    let mut group = criterion.benchmark_group("parse");
    let mut bytes = Vec::new();
    group.bench_function("message", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            bytes.extend_from_slice(MESSAGE.as_bytes());
            parse_client_message(black_box(&mut bytes), &limits)
        });
    });
    group.bench_function("message_to_fragment", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            bytes.extend_from_slice(MESSAGE.as_bytes());
            match parse_client_message(black_box(&mut bytes), &limits) {
                Ok(ClientMessage::Comment { comment, .. }) => comment.fragment(),
                other => panic!("{other:?}"),
            }
        });
    });
    let mut frame = vec![
        0x81,
        0x80 | u8::try_from(MESSAGE.len()).expect("it is short"),
        1,
        2,
        3,
        4,
    ];
    frame.extend(
        MESSAGE
            .bytes()
            .zip([1, 2, 3, 4].into_iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    let mut decoder = ClientDecoder::new(MESSAGE_BYTES_MAX);
    group.bench_function("frame_to_text", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            bytes.extend_from_slice(&frame);
            let mut texts = 0;
            let decoded = decoder.decode(black_box(&mut bytes), |event| {
                texts += u32::from(matches!(event, ClientEvent::Text(_)));
            });
            assert_eq!((decoded, texts), (Ok(()), 1));
        });
    });
    group.finish();
}

/// Times `seal` over the batches of a group in turn: the figure is the mean over a whole group.
fn bench_group(
    criterion: &mut Criterion,
    name: &str,
    parameter: impl std::fmt::Display,
    batches: &[Batch],
    mut seal: impl FnMut(Batch) -> usize,
) {
    let mut group = criterion.benchmark_group(name);
    let mut next = batches.iter().cycle();
    group.throughput(Throughput::Elements(batches[0].comments.len() as u64));
    group.bench_function(BenchmarkId::from_parameter(parameter), |bencher| {
        bencher.iter_batched(
            || next.next().expect("a cycle has no end").clone(),
            |batch| seal(black_box(batch)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn seal(criterion: &mut Criterion) {
    let policy = CompressionPolicy::default();
    for comments in BATCH_COMMENTS {
        let batches = group(comments);
        print_sizes(&format!("{comments} comments a batch"), policy, &batches);
        bench_group(criterion, "seal/identity", comments, &batches, |batch| {
            replay(batch, policy, Form::WsIdentity)
        });
        bench_group(criterion, "seal/gzip", comments, &batches, |batch| {
            replay(batch, policy, Form::WsGzip)
        });
        bench_group(criterion, "seal/independent", comments, &batches, |batch| {
            replay(batch, policy, Form::WsDeflate)
        });
        let mut sealer = Sealer::new(policy);
        bench_group(criterion, "seal/chained", comments, &batches, |batch| {
            chained(&sealer.seal(batch, DEFLATE))
        });
    }
}

fn levels(criterion: &mut Criterion) {
    let batches = group(100);
    let hostile = hostile_group(1_000);
    for level in 1..=9 {
        print_sizes(
            &format!("level {level}, 100 comments a batch"),
            policy(level),
            &batches,
        );
        let mut sealer = Sealer::new(policy(level));
        bench_group(criterion, "level/chained_100", level, &batches, |batch| {
            chained(&sealer.seal(batch, DEFLATE))
        });
        let mut sealer = Sealer::new(policy(level));
        bench_group(criterion, "level/hostile_1000", level, &hostile, |batch| {
            chained(&sealer.seal(batch, DEFLATE))
        });
    }
}

fn chained(set: &FrameSet) -> usize {
    set.form(Form::WsDeflateChained).len()
}

fn replay(batch: Batch, policy: CompressionPolicy, form: Form) -> usize {
    FrameSet::replay(batch, policy).form(form).len()
}

/// A room with deflate viewers over WebSocket.
const DEFLATE: Chains = Chains {
    ws_deflate: true,
    sse_gzip: false,
};

#[allow(
    clippy::print_stdout,
    reason = "the sizes are half of what this bench is for"
)]
#[allow(clippy::cast_precision_loss, reason = "the sums are small")]
fn print_sizes(what: &str, policy: CompressionPolicy, batches: &[Batch]) {
    let mut sealer = Sealer::new(policy);
    let (mut comments, mut sizes) = (0, [0; 4]);
    for batch in batches {
        let set = sealer.seal(batch.clone(), DEFLATE);
        comments += batch.comments.len();
        let forms = [
            set.form(Form::WsIdentity).len(),
            set.form(Form::WsGzip).len(),
            set.form(Form::WsDeflate).len(),
            chained(&set),
        ];
        for (size, form) in sizes.iter_mut().zip(forms) {
            *size += form;
        }
    }
    let [identity, gzip, independent, chained] = sizes.map(|size| size as f64 / comments as f64);
    println!(
        "{what}: bytes a comment: identity {identity:.1}, gzip {gzip:.2}, independent {independent:.2}, \
         chained {chained:.2} (gzip / chained {:.2})",
        gzip / chained
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500));
    targets = parse, seal, levels
}
criterion_main!(benches);
