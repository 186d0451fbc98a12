//! Made-up chat: a seeded stream of comments with the habits of a live room.
//!
//! What matters for sealing is how texts repeat: a third are catchphrases drawn by popularity, a third are stretched or
//! joined catchphrases, and the rest are words in random order. Posters return, a few of them often.

use danmaku_wire::{
    Batch, BatchComment, Color, Comment, CommentLimits, CommentText, Epoch, Mode, Seq, UserId,
};

/// Catchphrases, the most popular first.
const CATCHPHRASES: [&str; 24] = [
    "草",
    "哈哈哈哈",
    "233333",
    "前方高能",
    "666",
    "好耶",
    "awsl",
    "泪目",
    "kusa",
    "lol",
    "お疲れ様",
    "可爱",
    "来了来了",
    "主播加油",
    "？？？",
    "名场面",
    "888888",
    "wwww",
    "GG",
    "好听",
    "第一次看",
    "这是什么",
    "한국에서 왔어요",
    "nice one",
];

/// The words of the other texts.
const WORDS: [&str; 48] = [
    "今天",
    "直播",
    "什么",
    "时候",
    "开始",
    "我",
    "觉得",
    "这个",
    "歌",
    "太",
    "好听",
    "了",
    "为什么",
    "没有",
    "声音",
    "你们",
    "看到",
    "刚才",
    "那个",
    "操作",
    "吗",
    "晚上",
    "吃",
    "火锅",
    "老师",
    "说",
    "明天",
    "考试",
    "the",
    "stream",
    "is",
    "so",
    "good",
    "today",
    "why",
    "does",
    "he",
    "play",
    "like",
    "that",
    "again",
    "今日は",
    "歌ってみた",
    "すごい",
    "ゲーム",
    "ですね",
    "かわいい",
    "楽しい",
];

/// Posters in a room.
const POSTERS: usize = 2_000;

/// Endless comments; the same seed gives the same ones.
#[derive(Debug, Clone)]
pub struct Chat {
    state: u64,
    limits: CommentLimits,
}

impl Chat {
    /// The chat for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            limits: CommentLimits::default(),
        }
    }

    /// The next comment.
    ///
    /// # Panics
    /// Never: the texts are within the limits.
    pub fn comment(&mut self) -> Comment {
        let text =
            CommentText::new(&self.text(), &self.limits).expect("invariant: the words are short");
        let poster = self.popular(POSTERS).wrapping_mul(0x9E37_79B1) & 0xFFFF_FFFF;
        let user =
            UserId::new(&format!("{poster:08x}"), &self.limits).expect("invariant: eight bytes");
        let mut comment = Comment {
            user: Some(user),
            ..Comment::new(text)
        };
        if self.below(20) == 0 {
            comment.mode = Mode::ALL[self.below(Mode::ALL.len())];
        }
        if self.below(12) == 0 {
            let colors = [0xFE_0302, 0xFF_FF00, 0x00_CD00, 0x42_66BE];
            comment.color = Color::new(colors[self.below(colors.len())]).unwrap_or_default();
        }
        comment
    }

    /// The next `comments` comments as the batch that comes after the position `after`.
    pub fn batch(&mut self, after: Seq, comments: usize) -> Batch {
        let ts_ms = 1_700_000_000_000 + after.value() * 20;
        let viewers = 9_900 + u32::try_from(self.below(200)).unwrap_or(0);
        let comments = (1..)
            .take(comments)
            .map(|offset| BatchComment {
                seq: after.plus(offset),
                at_ms: ts_ms - u64::try_from(self.below(1_000)).unwrap_or(0),
                fragment: self.comment().fragment(),
            })
            .collect::<Vec<_>>();
        Batch {
            epoch: Epoch::new(1_700_000_000_000),
            after,
            seq: after.plus(comments.len() as u64),
            ts_ms,
            viewers,
            likes: 0,
            shed: 0,
            comments,
            events: Vec::new(),
        }
    }

    fn text(&mut self) -> String {
        match self.below(3) {
            0 => CATCHPHRASES[self.popular(CATCHPHRASES.len())].to_owned(),
            1 => {
                let first = CATCHPHRASES[self.popular(CATCHPHRASES.len())];
                if self.below(2) == 0 {
                    first.repeat(2 + self.below(3))
                } else {
                    format!("{first} {}", CATCHPHRASES[self.below(CATCHPHRASES.len())])
                }
            }
            _ => (0..2 + self.below(6))
                .map(|_| WORDS[self.below(WORDS.len())])
                .collect(),
        }
    }

    /// An index below `bound`, small ones far more often than large ones.
    fn popular(&mut self, bound: usize) -> usize {
        let (first, second) = (self.below(bound), self.below(bound));
        first * second / bound
    }

    fn below(&mut self, bound: usize) -> usize {
        // splitmix64
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap_or(0)
    }
}
