//! Sticky sessions: the cookie that names a backend, on its way in and on its way out.

use crate::cluster::Cluster;
use crate::config::Sticky;

/// A request's cookies, with the sticky one taken out.
#[derive(Debug, PartialEq, Eq)]
pub struct Cookies<'a> {
    /// What the sticky cookie said; the last one wins where it is repeated.
    pub value: &'a [u8],
    /// The other cookies as they stood (ST-4); empty when there is none.
    pub others: Vec<u8>,
}

/// Takes the sticky cookie out of a `cookie` header; `None` when it is not there. Header values are
/// bytes: nothing here assumes UTF-8.
pub fn take_out<'a>(header: &'a [u8], name: &str) -> Option<Cookies<'a>> {
    let mut value = None;
    let mut others = Vec::with_capacity(header.len());
    for pair in header.split(|byte| *byte == b';') {
        let trimmed = pair.trim_ascii();
        if let Some(said) = value_of(trimmed, name) {
            value = Some(said);
        } else if !trimmed.is_empty() {
            if !others.is_empty() {
                others.extend_from_slice(b"; ");
            }
            others.extend_from_slice(trimmed);
        }
    }
    value.map(|value| Cookies { value, others })
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

/// The `Set-Cookie` line that names the backend that served; `None` when the client has said so
/// itself (ST-1), or the cluster is not sticky (ST-6).
pub fn set_cookie(cluster: &Cluster, served: u32, said: Option<&[u8]>) -> Option<String> {
    let sticky = cluster.sticky.as_ref()?;
    let named_already = said.is_some_and(|said| {
        cluster
            .backends_by_sticky_value(said)
            .any(|b| b.normal && b.endpoint == served)
    });
    if named_already {
        return None;
    }
    let endpoint = cluster.endpoint(served)?;
    let backend = cluster.backend(endpoint.backend)?;
    Some(line(sticky, &backend.sticky_value))
}

fn line(sticky: &Sticky, value: &str) -> String {
    let mut line = format!(
        "{}={value}; Path=/; SameSite={}",
        sticky.cookie,
        sticky.same_site_name()
    );
    if sticky.http_only {
        line.push_str("; HttpOnly");
    }
    if sticky.secure {
        line.push_str("; Secure");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn taken(header: &str) -> Option<(String, String)> {
        let cookies = take_out(header.as_bytes(), "P")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((text(cookies.value), text(&cookies.others)))
    }

    fn expect(header: &str, value: &str, others: &str) {
        assert_eq!(
            taken(header),
            Some((value.to_owned(), others.to_owned())),
            "{header}"
        );
    }

    #[test]
    fn st_4_the_cookie_is_taken_out_and_the_others_stay() {
        expect("P=a", "a", "");
        expect("x=1; P=a; y=2", "a", "x=1; y=2");
        expect("P=a;P=b", "b", "");
        expect("x=1;P=;", "", "x=1");
        expect("P=\"q\"; y=\"a b\"", "q", "y=\"a b\"");
        for header in ["", "x=1", "PP=a", "p=a", "xP=a", "P"] {
            assert_eq!(taken(header), None, "{header}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass_through() {
        let cookies = take_out(b"x=\xff\xfe; P=\xff", "P").expect("there");
        assert_eq!(
            (cookies.value, cookies.others.as_slice()),
            (&b"\xff"[..], &b"x=\xff\xfe"[..])
        );
    }
}
