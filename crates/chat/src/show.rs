//! A show to look at: handwritten comments in several languages, modes and colours, with bursts, so that a new user sees a busy
//! room.

use std::time::Duration;

use danmaku_wire::{Color, Comment, CommentLimits, CommentText, DisplayName, FontSize, Mode, Role};

use crate::random::Random;

/// The demo room's imaginary audience.
#[derive(Debug)]
pub struct Show {
    random: Random,
    /// Comments left in the current burst, and what triggered it.
    burst: Option<(u32, &'static [&'static str])>,
}

impl Show {
    /// The show of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            burst: None,
        }
    }

    /// One comment, or a few of a burst.
    ///
    /// # Panics
    /// Never: a test checks all lines.
    pub fn comments(&mut self, limits: &CommentLimits) -> Vec<Comment> {
        let (count, lines) = if let Some((left, lines)) = self.burst {
            let count = 2.min(left);
            self.burst = (left > count).then_some((left - count, lines));
            (count, lines)
        } else if self.below(24) == 0 {
            let lines = *self.random.choose(BURSTS);
            let left = 20 + self.below(60);
            self.burst = Some((left, lines));
            (1, lines)
        } else {
            (1, TALK)
        };
        (0..count)
            .map(|_| {
                let text = *self.random.choose(lines);
                self.comment(text, limits)
            })
            .collect()
    }

    fn comment(&mut self, text: &str, limits: &CommentLimits) -> Comment {
        let text = CommentText::new(text, limits).expect("invariant: a test checks all demo lines");
        let mut comment = Comment::new(text);
        let name = *self.random.choose(NAMES);
        comment.name =
            Some(DisplayName::new(name, limits).expect("invariant: a test checks all demo names"));
        comment.mode = match self.below(12) {
            0 => Mode::Top,
            1 => Mode::Bottom,
            _ => Mode::Scroll,
        };
        if self.below(3) == 0 {
            let color = *self.random.choose(COLORS);
            comment.color = Color::new(color).expect("invariant: a test checks all demo colours");
        }
        if self.below(10) == 0 {
            let size = *self.random.choose(SIZES);
            comment.size = FontSize::new(size).expect("invariant: a test checks all demo sizes");
        }
        comment.role = match self.below(30) {
            0 => Role::Streamer,
            1 => Role::Moderator,
            2..=5 => Role::Member,
            _ => Role::Viewer,
        };
        comment
    }

    /// How long until the next ones.
    pub fn pause(&mut self) -> Duration {
        let ms = if self.burst.is_some() {
            60 + self.below(120)
        } else {
            150 + self.below(1_100)
        };
        Duration::from_millis(u64::from(ms))
    }

    /// Likes that come with them.
    pub fn likes(&mut self) -> u32 {
        if self.below(5) == 0 {
            1 + self.below(4)
        } else {
            0
        }
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.random.below(bound as usize)).unwrap_or(0)
    }
}

/// A concert by the harbour, at night.
const TALK: &[&str] = &[
    "hello from the back row",
    "first time here, what did I miss?",
    "the sound is so clean tonight",
    "can we get a replay of that?",
    "this song again, yes please",
    "greetings from Lisbon",
    "my cat is watching too",
    "that transition was so smooth",
    "who else is supposed to be asleep",
    "the moon is right on cue",
    "I can see my house from here",
    "that bass line though",
    "somebody wave from the Ferris wheel!",
    "goosebumps, every single time",
    "turn it up, the neighbours like it",
    "watching this on the night train",
    "the drummer is having the time of her life",
    "please never end",
    "大家晚上好",
    "前方高能",
    "这一段太好听了",
    "主播今天状态真好",
    "刚来,错过了什么",
    "镜头再近一点",
    "今晚的月亮好圆",
    "摩天轮亮灯了",
    "耳机党表示很满足",
    "鼓手太稳了",
    "坐在末班车上看直播",
    "单曲循环预定",
    "鸡皮疙瘩起来了",
    "求歌名!",
    "这个转场绝了",
    "有没有一起熬夜的",
    "夜景太美了",
    "合影合影",
    "こんばんは",
    "この曲だいすき",
    "初見です、よろしく",
    "音がきれい",
    "안녕하세요",
    "오늘 방송 최고예요",
    "hola a todos",
    "saludos desde Sevilla",
    "bonsoir tout le monde",
    "c'est magnifique",
    "guten Abend zusammen",
    "que som incrível",
    "очень красиво",
    "مساء الخير",
    "xin chào mọi người",
    "🎵 🎶",
];

const BURSTS: &[&[&str]] = &[
    &[
        "👏👏👏",
        "bravo!",
        "encore! encore!",
        "再来一首!",
        "好听!",
        "安可安可",
        "すごい",
        "one more song!",
        "太强了",
        "wow",
    ],
    &[
        "哈哈哈哈哈",
        "haha what was that",
        "LOL",
        "wwwww",
        "😂😂😂",
        "笑死我了",
        "I can't 😂",
    ],
    &[
        "here it comes",
        "来了来了来了",
        "高能预警",
        "chorus!!!",
        "はじまった",
        "sing along!",
        "跟我一起唱",
        "🎉🎉",
    ],
    &[
        "fireworks!",
        "烟花!!",
        "so pretty",
        "哇——",
        "好美啊",
        "look at the water",
        "✨✨✨",
        "许个愿",
    ],
];

const NAMES: &[&str] = &[
    "mira",
    "tanuki",
    "quiet_fox",
    "阿岚",
    "小满",
    "ゆず",
    "はる",
    "보리",
    "marisol",
    "benoit",
    "jule",
    "nils",
    "дима",
    "salma",
    "ravi",
    "linh",
];

const COLORS: &[u32] = &[
    0xFF_6B_6B, 0xFF_D9_3D, 0x6B_CB_77, 0x4D_96_FF, 0xC7_7D_FF, 0x00_E5_FF, 0xFF_92_2B, 0xF7_83_AC,
];

const SIZES: &[u8] = &[18, 36];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_line_name_colour_and_size_is_valid() {
        let limits = CommentLimits::default();
        for text in TALK.iter().chain(BURSTS.iter().copied().flatten()) {
            assert!(CommentText::new(text, &limits).is_ok(), "{text}");
        }
        for name in NAMES {
            assert!(DisplayName::new(name, &limits).is_ok(), "{name}");
        }
        for color in COLORS {
            assert!(Color::new(*color).is_some(), "{color:x}");
        }
        for size in SIZES {
            assert!(FontSize::new(*size).is_some(), "{size}");
        }
    }

    #[test]
    fn a_few_minutes_cover_all_modes_roles_colours_and_a_burst() {
        let limits = CommentLimits::default();
        let mut show = Show::new(7);
        let mut modes = HashSet::new();
        let mut roles = HashSet::new();
        let mut colors = HashSet::new();
        let mut bursts = 0;
        for _ in 0..1_000 {
            bursts += u32::from(show.burst.is_some());
            for comment in show.comments(&limits) {
                modes.insert(comment.mode.as_str());
                roles.insert(comment.role.as_str());
                colors.insert(comment.color.value());
            }
        }
        assert_eq!((modes.len(), roles.len()), (3, 4));
        assert_eq!(colors.len(), COLORS.len() + 1);
        assert!(bursts > 0);
    }
}
