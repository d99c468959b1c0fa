//! How a cluster's requests are pinned and refused.

use serde_json::{Map, Value, json};

use super::reader::{Object, Path, Report};
use crate::base::hash;

const COOKIE_NAME_MAX: usize = 64;
const COOKIE_PATH_MAX: usize = 256;
const COOKIE_PATH_DEFAULT: &str = "/";
const REFUSAL_BODY_MAX: usize = 4096;
const CONTENT_TYPE_MAX: usize = 128;

/// Whom a cookie may be sent to across sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never across sites.
    Strict,
    /// Across sites only when a link is followed.
    Lax,
    /// Always; browsers demand `secure` with it.
    None,
}

const SAME_SITES: &[(&str, SameSite)] = &[
    ("Strict", SameSite::Strict),
    ("Lax", SameSite::Lax),
    ("None", SameSite::None),
];

/// A cluster's `sticky`: the cookie that pins a client to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: String,
    /// To which paths of the host it belongs.
    pub path: String,
    /// Hidden from scripts.
    pub http_only: bool,
    /// Sent over TLS alone.
    pub secure: bool,
    /// Sent across sites or not.
    pub same_site: SameSite,
}

impl Sticky {
    /// `cluster` is the name of the cluster that it is of.
    pub(super) fn read(
        value: &Value,
        cluster: &str,
        path: &Path<'_>,
        report: &Report,
    ) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let cookie = object.text("cookie", COOKIE_NAME_MAX);
        let cookie = cookie.map_or_else(|| default_cookie(cluster), str::to_owned);
        if !is_token(&cookie) {
            report.error(
                &object.at("cookie"),
                "must be a cookie's name: letters, digits, - and _",
            );
        }
        let cookie_path = object.text("path", COOKIE_PATH_MAX);
        let cookie_path = cookie_path.unwrap_or(COOKIE_PATH_DEFAULT);
        if !is_cookie_path(cookie_path) {
            report.error(
                &object.at("path"),
                "must start with / and be ASCII without spaces and ;",
            );
        }
        let secure = object.flag("secure", false);
        let same_site = object.choice("sameSite", SameSite::Lax, SAME_SITES);
        if same_site == SameSite::None && !secure {
            report.error(
                &object.at("sameSite"),
                "must not be None unless secure is true",
            );
        }
        Some(Sticky {
            cookie,
            path: cookie_path.to_owned(),
            http_only: object.flag("httpOnly", true),
            secure,
            same_site,
        })
    }

    pub(super) fn write(&self) -> Value {
        let mut value = json!({
            "cookie": self.cookie, "httpOnly": self.http_only, "secure": self.secure,
            "sameSite": name_of(SAME_SITES, self.same_site),
        });
        if let Value::Object(map) = &mut value
            && self.has_path()
        {
            insert(map, "path", self.path.as_str());
        }
        value
    }

    /// Whether its path is its own: schema 1 has none.
    pub(super) fn has_path(&self) -> bool {
        self.path != COOKIE_PATH_DEFAULT
    }

    /// The attribute's value in a `Set-Cookie` line.
    pub fn same_site_name(&self) -> &'static str {
        name_of(SAME_SITES, self.same_site)
    }
}

fn is_cookie_path(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b';')
}

/// A cluster's own: of one name for all, clusters behind one host would overwrite each other's.
fn default_cookie(cluster: &str) -> String {
    let hash = hash::hex(hash::text_key(cluster.as_bytes()));
    format!("POINTSMAN-{}", hash.get(..6).unwrap_or_default())
}

/// What happens when nothing is left for reasons of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenAllUnhealthy {
    /// Requests go to the unhealthy.
    #[default]
    FailOpen,
    /// Requests are answered 503.
    Refuse,
}

pub(super) const WHEN_ALL_UNHEALTHY: &[(&str, WhenAllUnhealthy)] = &[
    ("FailOpen", WhenAllUnhealthy::FailOpen),
    ("Refuse", WhenAllUnhealthy::Refuse),
];

/// A cluster's own words for a request that finds no backend (AD-18); absent: a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The 503's body.
    pub body: String,
    /// Its content type.
    pub content_type: String,
}

impl Refusal {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let body = object.required_text("body", REFUSAL_BODY_MAX);
        let content_type = object
            .text("contentType", CONTENT_TYPE_MAX)
            .unwrap_or("text/plain");
        if !content_type.bytes().all(|b| matches!(b, b' '..=b'~')) || content_type.is_empty() {
            report.error(&object.at("contentType"), "must be printable ASCII");
        }
        Some(Refusal {
            body: body?.to_owned(),
            content_type: content_type.to_owned(),
        })
    }

    pub(super) fn write(&self) -> Value {
        json!({"body": self.body, "contentType": self.content_type})
    }
}

/// A part of an object that is read by a function of its own; `None` where it is absent or wrong.
pub(super) fn part<T>(
    object: &Object<'_>,
    name: &'static str,
    report: &Report,
    read: impl Fn(&Value, &Path<'_>, &Report) -> Option<T>,
) -> Option<T> {
    object
        .get(name)
        .and_then(|value| read(value, &object.at(name), report))
}

pub(super) fn insert(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    map.insert(name.to_owned(), value.into());
}

pub(super) fn name_of<T: PartialEq>(choices: &[(&'static str, T)], choice: T) -> &'static str {
    choices
        .iter()
        .find(|(_, c)| *c == choice)
        .map_or("", |(name, _)| name)
}

/// Whether a text can be a header's or cookie's name (RFC 9110, token).
pub(super) fn is_token(text: &str) -> bool {
    let mark = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b))
}

/// Whether a text can be a cookie's value (RFC 6265, cookie-octet).
pub(super) fn is_cookie_value(text: &str) -> bool {
    let octet = |b: u8| matches!(b, b'!'..=b'~') && !b"\",;\\".contains(&b);
    !text.is_empty() && text.bytes().all(octet)
}
