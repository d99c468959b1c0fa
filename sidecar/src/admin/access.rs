//! Who may ask: the token, and pages of other sites.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::Admin;
use super::failure::Failure;
use crate::settings::Secret;

/// What a caller must show, and where from.
pub struct Access {
    /// What operators must show to write, and on a wider listener also to read.
    pub token: Option<Secret>,
    /// From where a reload may be asked for.
    pub reload_from: IpAddr,
}

impl Access {
    /// Whether the token is shown. Settings refuse a wider listener without one, so where there is
    /// none nobody shows it.
    fn shows_token(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(AUTHORIZATION)
            .map_or(&b""[..], |it| it.as_bytes());
        let shown = shown.strip_prefix(b"Bearer ").unwrap_or_default();
        let token = self.token.as_ref();
        token.is_some_and(|token| bool::from(shown.ct_eq(token.reveal().as_bytes())))
    }
}

/// Lets through who shows the token.
pub async fn need_token(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    match admin.access.shows_token(request.headers()) {
        true => next.run(request).await,
        false => no_token(),
    }
}

/// Lets through who asks for this machine by a name of its own, or shows the token: what answers to
/// other names a page of theirs may read, though its browser was led here (DNS rebinding).
pub async fn need_own_name(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if asks_for_another(headers) && !admin.access.shows_token(headers) {
        let why = "Host must be localhost or a loopback address, or show POINTSMAN_ADMIN_TOKEN";
        return Failure::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// Lets through who may write: who shows the token, where there is one; else everybody on this
/// machine, but not the pages that a browser shows there.
pub async fn may_write(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if admin.access.token.is_some() {
        if !admin.access.shows_token(headers) {
            return no_token();
        }
    } else if is_foreign(headers) {
        let why = "pages of other sites may not do this: set POINTSMAN_ADMIN_TOKEN and send it";
        return Failure::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

fn no_token() -> Response {
    let why = "the bearer token is missing or wrong";
    Failure::new(StatusCode::UNAUTHORIZED, why).into_response()
}

/// Whether this is meant for a machine of another name; every browser says for which.
fn asks_for_another(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST);
    host.is_some_and(|host| !host.to_str().is_ok_and(names_this_machine))
}

/// Whether a browser sends this on behalf of a page that is not ours. A page that was loaded from
/// another name for this machine's address is not ours either; its reads have no `Origin`.
fn is_foreign(headers: &HeaderMap) -> bool {
    if asks_for_another(headers) {
        return true;
    }
    if let Some(site) = headers.get("sec-fetch-site")
        && site != "same-origin"
        && site != "none"
    {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let site = origin.as_bytes().strip_prefix(b"http://");
    site.is_none() || site != headers.get(HOST).map(|host| host.as_bytes())
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_foreign() {
        for (fields, foreign) in [
            (&[][..], false),
            (&[("host", "127.0.0.1:18080")], false),
            (&[("host", "LocalHost")], false),
            (&[("host", "[::1]")], false),
            (&[("origin", "http://localhost:1")], true),
            (&[("host", "a:1"), ("origin", "http://b:1")], true),
            (
                &[("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:1")],
                false,
            ),
            (&[("host", "[::1]:1"), ("origin", "http://[::1]:1")], false),
            (
                &[("host", "localhost:1"), ("origin", "http://localhost:1")],
                false,
            ),
            // Another port is another site.
            (
                &[("host", "localhost:1"), ("origin", "http://localhost:2")],
                true,
            ),
            // A name that was made to lead here.
            (
                &[
                    ("host", "evil.example:1"),
                    ("origin", "http://evil.example:1"),
                ],
                true,
            ),
            (&[("host", "evil.example:1")], true),
            (&[("host", "10.0.0.1:1")], true),
            (&[("host", "localhost.evil.example")], true),
            (&[("host", "localhost:1"), ("origin", "null")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "none")], false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(is_foreign(&headers), foreign, "{fields:?}");
        }
    }
}
