//! Sticky sessions: the cookie that names a backend, on its way in and on its way out.

use crate::base::headers;
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::Sticky;

/// How many sticky cookies of a request are asked who they name. A client has one; two stem from a cookie
/// of the same name for another path or domain.
const ASKED_MAX: usize = 4;

/// A request's cookies, with the sticky ones taken out.
#[derive(Debug, PartialEq, Eq)]
pub struct Cookies<'a> {
    /// What the sticky cookies say, in their order, the first four.
    pub values: Vec<&'a [u8]>,
    /// Every other byte as it stood (ST-4); empty when no other cookie is there.
    pub others: Vec<u8>,
}

/// The `cookie` lines of a map of headers, as one.
pub fn cookie_lines(map: &[u8]) -> Option<Vec<u8>> {
    let mut header = Vec::new();
    headers::for_each(map, &mut |name, value| {
        if name == b"cookie" {
            if !header.is_empty() {
                header.extend_from_slice(b"; ");
            }
            header.extend_from_slice(value);
        }
    })?;
    Some(header)
}

/// Takes the sticky cookies out of a `cookie` header, each with one separator; `None` when there is
/// none. Header values are bytes: nothing here assumes UTF-8.
pub fn take_out<'a>(header: &'a [u8], name: &str) -> Option<Cookies<'a>> {
    let mut values = Vec::new();
    let mut others = Vec::with_capacity(header.len());
    let mut found = false;
    // The separator behind the first parts goes with them, else the one before a part.
    let mut is_first = true;
    let mut rest = Some(header);
    while let Some(text) = rest {
        let (part, after) = first_part(text);
        rest = after;
        if let Some(value) = value_of(part.trim_ascii(), name) {
            found = true;
            if values.len() < ASKED_MAX {
                values.push(value);
            }
        } else if is_first {
            // What stood behind our own pair's separator belongs to the separator.
            let part = if found { part.trim_ascii_start() } else { part };
            others.extend_from_slice(part);
            is_first = false;
        } else {
            others.push(b';');
            others.extend_from_slice(part);
        }
    }
    found.then_some(Cookies { values, others })
}

/// The header up to its first `;`, and what is behind it. One in a quoted value is a part of that;
/// a quote that is never closed is a byte like any other.
fn first_part(header: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut at = 0;
    while let Some(byte) = header.get(at) {
        match byte {
            b';' => {
                let behind = header.get(at.saturating_add(1)..);
                return (header.get(..at).unwrap_or_default(), behind);
            }
            b'"' => at = end_of_quote(header, at).unwrap_or(at),
            _ => {}
        }
        at = at.saturating_add(1);
    }
    (header, None)
}

/// Where a value ends that is quoted from its first byte on.
fn end_of_quote(header: &[u8], start: usize) -> Option<usize> {
    let begins_value = start
        .checked_sub(1)
        .is_some_and(|before| header.get(before) == Some(&b'='));
    if !begins_value {
        return None;
    }
    let mut at = start.saturating_add(1);
    loop {
        match header.get(at)? {
            b'"' => return Some(at),
            // The next byte is escaped.
            b'\\' => at = at.saturating_add(2),
            _ => at = at.saturating_add(1),
        }
    }
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

/// The `Set-Cookie` line that names the backend that served; `None` when a cookie of the client names
/// it already (ST-1), or the cluster is not sticky (ST-6).
pub fn set_cookie(cluster: &Cluster, served: EndpointIndex, cookies: &[Vec<u8>]) -> Option<String> {
    let sticky = cluster.sticky.as_ref()?;
    let named_already = cookies.iter().any(|value| {
        cluster
            .backends_by_sticky_value(value)
            .any(|b| b.is_normal() && b.endpoint == served)
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
        "{}={value}; Path={}; SameSite={}",
        sticky.cookie,
        sticky.path,
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

    fn expect(header: &str, values: &[&str], others: &str) {
        let cookies = take_out(header.as_bytes(), "P").expect(header);
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(cookies.values, values, "{header}");
        assert_eq!(cookies.others, others.as_bytes(), "{header}");
    }

    #[test]
    fn st_4_our_pair_and_one_separator_go_and_every_other_byte_stays() {
        expect("P=a", &["a"], "");
        expect("x=1; P=a; y=2", &["a"], "x=1; y=2");
        expect("x=1;P=a;y=2", &["a"], "x=1;y=2");
        expect("P=a; y=2", &["a"], "y=2");
        expect("P=a;y=2;", &["a"], "y=2;");
        expect("x=1;  P=a ;  y=2", &["a"], "x=1;  y=2");
        expect(" x=1 ; P=a", &["a"], " x=1 ");
        expect("x=1;P=;", &[""], "x=1;");
        expect("x;;P=a;;y", &["a"], "x;;;y");
        expect("P=\"q\"; y=\"a b\"", &["q"], "y=\"a b\"");
        for header in ["", "x=1", "PP=a", "p=a", "xP=a", "P"] {
            assert_eq!(take_out(header.as_bytes(), "P"), None, "{header}");
        }
    }

    #[test]
    fn a_look_alike_inside_a_quoted_value_neither_steers_nor_goes() {
        for header in [
            r#"q="x;P=1""#,
            r#"q="x;P=1"; y=2"#,
            r#"q="a\";P=1""#,
            r#"q="a\\\";P=1;"; y"#,
        ] {
            assert_eq!(take_out(header.as_bytes(), "P"), None, "{header}");
        }
        expect(
            r#"q="x;P=1"; P=a; z="P=2""#,
            &["a"],
            r#"q="x;P=1"; z="P=2""#,
        );
        expect(r#"q="a\\"; P=a"#, &["a"], r#"q="a\\""#);
        // No quoted value: never closed, or not from the value's first byte on.
        expect(r#"q="x; P=a; y=2"#, &["a"], r#"q="x; y=2"#);
        expect(r#"q=5"; P=a; r=6""#, &["a"], r#"q=5"; r=6""#);
    }

    #[test]
    fn several_of_ours_are_all_taken_out_in_their_order() {
        expect("P=a;P=b", &["a", "b"], "");
        expect("P=a; x=1; P=b; y=2; P=c", &["a", "b", "c"], "x=1; y=2");
        expect("P=1;P=2;P=3;P=4;P=5; x", &["1", "2", "3", "4"], "x");
    }

    /// As the host writes a map.
    fn map(headers: &[(&str, &str)]) -> Vec<u8> {
        let texts = || headers.iter().flat_map(|(name, value)| [name, value]);
        let number = |number: usize| (number as u32).to_le_bytes().to_vec();
        let mut map = number(headers.len());
        map.extend(texts().flat_map(|text| number(text.len())));
        map.extend(texts().flat_map(|text| [text.as_bytes(), &[0]].concat()));
        map
    }

    #[test]
    fn st_4_cookies_on_several_lines_are_as_on_one() {
        let map = map(&[
            (":path", "/"),
            ("cookie", "x=1,2"),
            ("cookies", "P=c"),
            ("cookie", "P=a; y=2"),
            ("x", ""),
        ]);
        let header = cookie_lines(&map).expect("a map");
        assert_eq!(header, b"x=1,2; P=a; y=2");
        let cookies = take_out(&header, "P").expect("there");
        assert_eq!(
            (cookies.values, cookies.others.as_slice()),
            (vec![&b"a"[..]], &b"x=1,2; y=2"[..])
        );
        assert_eq!(cookie_lines(&map[..map.len() - 1]), None, "cut off");
    }

    #[test]
    fn bytes_that_are_no_text_pass_through() {
        let cookies = take_out(b"x=\xff\xfe; P=\xff", "P").expect("there");
        assert_eq!(
            (cookies.values, cookies.others.as_slice()),
            (vec![&b"\xff"[..]], &b"x=\xff\xfe"[..])
        );
    }
}
