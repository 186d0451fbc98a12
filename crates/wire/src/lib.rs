//! Bytes of the danmaku protocol.
