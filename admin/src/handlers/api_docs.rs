//! The Swagger UI below `/docs`: third-party scripts embedded in the program. It must not be allowed
//! more than reading the API description and calling the API it describes.

use axum::Router;
use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::handlers::dashboard::add_page_headers;

/// Restricts the pages to scripts and requests of their own origin, and forbids framing. The scripts
/// set styles and show images that they contain (Content Security Policy Level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Routes the pages. A key that is entered there lives as long as the page: persisting it would keep
/// it in the browser's local storage, for every later page of the origin.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let config = Config::new(["/openapi.json"])
        .persist_authorization(false)
        .validator_url("none");
    let pages: Router<S> = SwaggerUi::new("/docs").config(config).into();
    pages.layer(map_response(async |mut response: Response| {
        let headers = response.headers_mut();
        add_page_headers(headers, HeaderValue::from_static(POLICY));
        response
    }))
}
