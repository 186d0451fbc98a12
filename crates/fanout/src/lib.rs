//! Shards: one writer per socket.
