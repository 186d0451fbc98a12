//! A small client of the danmaku server.
