//! Owns reading request bodies within the bounds on bytes and time.

use danmaku_wire::limits::BODY_BYTES_MAX;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::error::ApiError;
use crate::admission::{AddressPermit, Held};
use crate::context::Context;
use crate::refusal::Refusal;

/// A body, whose bytes are counted as held as they arrive. The first few are not counted: a connection costs more anyway,
/// and this way short posts are accepted even when long ones use up the budget.
pub(super) async fn read_body(
    context: &Context,
    permit: &AddressPermit,
    body: Incoming,
) -> Result<(Vec<u8>, Option<Held>), ApiError> {
    read_body_up_to(context, permit, body, BODY_BYTES_MAX).await
}

/// A body of at most `max` bytes.
pub(super) async fn read_body_up_to(
    context: &Context,
    permit: &AddressPermit,
    mut body: Incoming,
    max: usize,
) -> Result<(Vec<u8>, Option<Held>), ApiError> {
    let too_large = || ApiError::BodyTooLarge { max };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut held = None;
    let read = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
                // Trailers.
                continue;
            };
            let len = bytes.len() + data.len();
            if len > max {
                return Err(too_large());
            }
            if len > FREE_BODY_BYTES {
                hold_body(context, permit, &mut held, data.len())?;
            }
            bytes.reserve_exact(data.len());
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    match tokio::time::timeout(context.config.handshake_deadline, read).await {
        Err(_) => Err(ApiError::BodyTimeout),
        Ok(read) => read.map(|()| (bytes, held)),
    }
}

fn hold_body(
    context: &Context,
    permit: &AddressPermit,
    held: &mut Option<Held>,
    bytes: usize,
) -> Result<(), Refusal> {
    let now = context.clock.now().monotonic;
    let counted = match held {
        Some(held) => held.more(now, bytes),
        None => permit.hold(now, bytes).map(|first| *held = Some(first)),
    };
    counted
        .map_err(Refusal::from)
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))
}

/// Bytes of a body that are not counted.
const FREE_BODY_BYTES: usize = 4 << 10;
