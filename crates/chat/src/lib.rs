//! Owns the chat that nobody wrote just now: made up, recorded, or shown in the demo room, for the load test, the benches and the
//! server. A seed determines what is made up.

mod generator;
mod random;
mod recording;
mod sealing;
mod show;
mod zipf;

pub use generator::{Chat, chat};
pub use random::Random;
pub use recording::{Line, RecordingError, Stretch, read};
pub use sealing::{Sealed, Sealing, comment};
pub use show::Show;
pub use zipf::{Draw, shares};
