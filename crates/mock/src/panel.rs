//! The mock's own paths: its meter, its log, its default controls. They must not be metered.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use serde::Serialize;

use crate::{control::Controls, format::json, meter::MeterRecord, service::ServiceState};

/// Records shown when the request does not say how many.
const USUAL_LIMIT: usize = 100;

/// Returns true if a path is the mock's own.
pub(crate) fn serves(path: &str) -> bool {
    path == "/healthz" || path.starts_with("/mock/")
}

/// Answers a request to one of the mock's own paths.
pub(crate) fn answer(
    shared: &Arc<ServiceState>,
    method: &Method,
    uri: &Uri,
    body: &Bytes,
) -> Response<Full<Bytes>> {
    match (method.as_str(), uri.path()) {
        ("GET", "/healthz") => respond(StatusCode::OK, b"ok".to_vec(), "text/plain"),
        ("GET", "/mock/meter") => show(&shared.meter.totals()),
        ("DELETE", "/mock/meter") => {
            shared.meter.reset();
            show(&shared.meter.totals())
        }
        ("GET", "/mock/requests") => requests(shared, uri.query().unwrap_or_default()),
        ("PUT", "/mock/controls") => set_controls(shared, body),
        _ => problem(StatusCode::NOT_FOUND, "the mock has no such path"),
    }
}

#[derive(Serialize)]
struct Requests {
    items: Vec<MeterRecord>,
}

/// `?limit=` of the latest requests; of one model or one request id, if the query says so.
fn requests(shared: &ServiceState, query: &str) -> Response<Full<Bytes>> {
    let mut limit = USUAL_LIMIT;
    let (mut model, mut request_id) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "limit" => match value.parse() {
                Ok(number) => limit = number,
                Err(_) => return problem(StatusCode::BAD_REQUEST, "limit is no number"),
            },
            "model" => model = Some(value.into_owned()),
            "request_id" => request_id = Some(value.into_owned()),
            _ => return problem(StatusCode::BAD_REQUEST, "known: limit, model, request_id"),
        }
    }
    let wanted = |record: &MeterRecord| {
        model.as_ref().is_none_or(|model| *model == record.model)
            && (request_id.is_none() || request_id == record.request_id)
    };
    show(&Requests {
        items: shared.meter.requests(limit, wanted),
    })
}

fn set_controls(shared: &ServiceState, body: &Bytes) -> Response<Full<Bytes>> {
    match Controls::from_text(&String::from_utf8_lossy(body)) {
        Ok(controls) => {
            shared.controls.store(Arc::new(controls));
            respond(StatusCode::OK, b"{}".to_vec(), "application/json")
        }
        Err(text) => problem(StatusCode::BAD_REQUEST, &text),
    }
}

fn show(value: &impl Serialize) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, json(value), "application/json")
}

fn problem(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct PanelError<'a> {
        error: &'a str,
    }
    respond(
        status,
        json(&PanelError { error: text }),
        "application/json",
    )
}

fn respond(status: StatusCode, body: Vec<u8>, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
