//! What checking a comment's text costs: 50,000 blocked terms, half of them Chinese, and the other rules for texts.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use danmaku_benches::Chat;
use danmaku_moderation::{
    Blocked, BlockedTerm, BlockedTerms, Folded, TermAction, has_link, is_emoji_only,
    special_percent,
};
use danmaku_wire::Seq;

const SEED: u64 = 7;
const TERMS: u64 = 50_000;
const COMMENTS: usize = 1_000;

/// Terms of two to five Chinese characters, and of four to eleven letters; none is in the made-up chat, as almost none is
/// in a real one.
fn terms() -> Vec<BlockedTerm> {
    let mut state = SEED;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let term = |index| {
        let chinese = index % 2 == 0;
        let length = if chinese { 2 + draw(4) } else { 4 + draw(8) };
        let scalar = |_| {
            let value = if chinese {
                0x4E00 + draw(0x2000)
            } else {
                u64::from(b'a') + draw(26)
            };
            u32::try_from(value)
                .ok()
                .and_then(char::from_u32)
                .expect("it is below the surrogates")
        };
        BlockedTerm {
            term: (0..length).map(scalar).collect(),
            whole_word: !chinese,
            action: TermAction::Deny,
        }
    };
    (0..TERMS).map(term).collect()
}

fn texts() -> Vec<String> {
    let batch = Chat::new(SEED).batch(Seq::ZERO, COMMENTS);
    let text = |fragment: &[u8]| {
        let object = [b"{", fragment, b"}"].concat();
        let value: serde_json::Value =
            serde_json::from_slice(&object).expect("a fragment is a JSON object's members");
        value["text"].as_str().expect("it has a text").to_owned()
    };
    let comments = batch.comments.iter();
    comments
        .map(|comment| text(comment.fragment.as_bytes()))
        .collect()
}

fn moderation(criterion: &mut Criterion) {
    let (terms, texts) = (terms(), texts());
    let mut group = criterion.benchmark_group("moderation");
    group.sample_size(20);
    group.bench_function("build a list of 50,000 terms", |bencher| {
        bencher.iter(|| BlockedTerms::new(black_box(&terms)));
    });
    let list = BlockedTerms::new(&terms).expect("every term can be searched for");
    group.throughput(Throughput::Elements(COMMENTS as u64));
    group.bench_function("judge 1,000 comments by 50,000 terms", |bencher| {
        bencher.iter(|| {
            let blocked = texts.iter().filter(|text| {
                let folded = Folded::new(text);
                Blocked::judge(text, &folded, &[&list]) != Blocked::No
            });
            blocked.count()
        });
    });
    group.bench_function("apply the other rules to 1,000 comments", |bencher| {
        bencher.iter(|| {
            let refused = texts.iter().filter(|text| {
                has_link(&Folded::new(text)) || is_emoji_only(text) || special_percent(text) > 50
            });
            refused.count()
        });
    });
    group.finish();
}

criterion_group!(benches, moderation);
criterion_main!(benches);
