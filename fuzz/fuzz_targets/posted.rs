#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| danmaku_fuzz::posted(data));
