//! The danmaku server.
