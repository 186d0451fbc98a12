//! Pure decisions of a room.
