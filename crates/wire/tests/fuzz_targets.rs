//! The fuzz targets over seeded input, so that every test run exercises them with a stable compiler.
//!
//! `DANMAKU_FUZZ_ROUNDS` sets how many inputs each target gets.

#[allow(unreachable_pub, reason = "it is a library where the fuzzer links it")]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

/// Default inputs per target; a run takes about a second.
const ROUNDS: u64 = 20_000;

/// Bytes and choices from one seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Runs `target` over inputs made by `make`, and says which seed failed.
fn check(make: impl Fn(&mut Seeded) -> Vec<u8>, target: impl Fn(&[u8])) {
    struct SeedOnPanic(u64);
    impl Drop for SeedOnPanic {
        #[allow(clippy::print_stderr, reason = "a failure must name its seed")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    for seed in 0..rounds() {
        let _seed = SeedOnPanic(seed);
        target(&make(&mut Seeded(seed)));
    }
}

fn rounds() -> u64 {
    std::env::var("DANMAKU_FUZZ_ROUNDS").map_or(ROUNDS, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("DANMAKU_FUZZ_ROUNDS is a number, not {text}"))
    })
}

/// Frames of every kind, mostly well-formed, with some bytes changed afterwards.
fn frames(random: &mut Seeded) -> Vec<u8> {
    let mut bytes = vec![random.byte()];
    for _ in 0..random.below(6) {
        let first: u8 = *random.pick(&[
            &0x81, &0x01, &0x82, &0x02, &0x80, &0x00, &0x88, &0x89, &0x8A,
        ]);
        let len = *random.pick(&[&0, &1, &2, &5, &20, &125, &126, &200, &2_000]);
        bytes.push(first);
        if let Ok(short @ 0..=125) = u8::try_from(len) {
            bytes.push(0x80 | short);
        } else {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
        }
        let mask = [random.byte(), random.byte(), random.byte(), random.byte()];
        bytes.extend_from_slice(&mask);
        // An allowed close code, or text: sometimes both pass the checks after the head.
        let content: &[u8] = random.pick(&[&b"\x03\xe8abc"[..], "弾幕".as_bytes()]);
        bytes.extend(
            content
                .iter()
                .cycle()
                .take(len)
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
    }
    change_some(random, &mut bytes);
    bytes
}

/// JSON made of words that our parsers look for.
fn json(random: &mut Seeded) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..random.below(24) {
        text.push_str(random.pick(&[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "{\"text\":\"hi\"}",
            "\"type\":\"comment\",",
            "\"type\":\"like\"",
            "\"text\":\"弾\\u5e55\"",
            "\"text\":\"\\ud83c\\udf89\\\"\"",
            "\"mode\":\"top\"",
            "\"color\":255",
            "\"size\":30",
            "\"ref\":-1,",
            "\"count\":3",
            "\"user\":\"u\",",
            "\"name\":\"n\",",
            "null",
            "true",
            "1e3",
            "-0.5",
            "\n",
            " ",
        ]));
    }
    let mut bytes = match random.below(4) {
        0 => text.into_bytes(),
        1 => format!("{{{text}}}").into_bytes(),
        2 => format!("{{\"type\":\"comment\",{text}}}").into_bytes(),
        _ => format!("[{{\"text\":\"a\"}},{text}]").into_bytes(),
    };
    change_some(random, &mut bytes);
    bytes
}

fn change_some(random: &mut Seeded, bytes: &mut [u8]) {
    for _ in 0..random.below(3) {
        if random.below(2) == 0 && !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] = random.byte();
        }
    }
}

#[test]
fn decoder_survives_any_input() {
    check(frames, targets::decoder);
}

#[test]
fn client_message_survives_any_input() {
    check(json, targets::client_message);
}

#[test]
fn posted_survives_any_input() {
    check(json, targets::posted);
}
