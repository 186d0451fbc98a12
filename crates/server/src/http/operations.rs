//! Owns operators' requests: probes, counters, and the listener that serves nothing else.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use danmaku_log::{Health, Sqlite};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use tokio::net::TcpStream;

use super::deadline::AnswerDeadline;
use super::error::{ApiError, json};
use super::route::Route;
use super::{HttpResult, http1_builder, plain, text};
use crate::context::Context;
use crate::metrics;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// Serves one connection of the operators' listener. Nothing here is limited or counted, because only operators can reach
/// it.
pub async fn serve_admin(context: &Arc<Context>, stream: TcpStream) {
    let service = service_fn(|request: hyper::Request<_>| async move {
        let answered = route(context, request.uri().path(), request.method());
        Ok::<_, Infallible>(answered.unwrap_or_else(|error| error.response()))
    });
    let io = AnswerDeadline::new(stream, context.config.answer_deadline);
    let served = http1_builder(context).serve_connection(io, service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "an operator's connection ended early");
    }
}

fn route(context: &Context, path: &str, method: &Method) -> HttpResult {
    let route = Route::parse(path)?;
    match route {
        Route::Healthz | Route::Readyz | Route::Metrics | Route::Stats => {
            route.check_method(method)?;
        }
        _ => return Err(ApiError::NotFound),
    }
    match route {
        Route::Metrics => Ok(scrape(context)),
        Route::Stats => Ok(stats(context)),
        probed => probe(context, &probed),
    }
}

/// `GET /healthz` and `GET /readyz`.
pub(super) fn probe(context: &Context, route: &Route) -> HttpResult {
    if *route == Route::Healthz {
        Ok(plain("ok\n"))
    } else if context.gate.is_closed() {
        Err(Refusal::Stopping.into())
    } else if let Some(Health::Failing { reason }) = context.log.file().map(Sqlite::health_now) {
        Err(ApiError::DataFailing { reason })
    } else {
        Ok(plain("ready\n"))
    }
}

/// `GET /v1/stats`.
pub(super) fn stats(context: &Context) -> Response<Full<Bytes>> {
    json(StatusCode::OK, &Snapshot::of(context))
}

/// `GET /metrics`. Reading the process's figures blocks, but rarely, and for less time than handing it to another thread
/// would take.
pub(super) fn scrape(context: &Context) -> Response<Full<Bytes>> {
    let process = context.process.read(context.clock.now().monotonic);
    let exposition = metrics::exposition(&Snapshot::of(context), &process);
    text(metrics::CONTENT_TYPE, Bytes::from(exposition))
}
