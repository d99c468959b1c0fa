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

/// The `cookie` lines of a map of headers, as one. The map is as the host writes it: how many headers,
/// the sizes of each name and value, then each of these with a NUL behind it.
pub fn cookie_lines(map: &[u8]) -> Option<Vec<u8>> {
    let mut header = Vec::new();
    let (count, rest) = map.split_first_chunk::<4>()?;
    let sizes = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (sizes, mut rest) = rest.split_at_checked(sizes.checked_mul(8)?)?;
    let mut is_cookie = false;
    for (nth, size) in sizes.as_chunks::<4>().0.iter().enumerate() {
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
        let (text, after) = rest.split_at_checked(size)?;
        rest = after.get(1..)?;
        if nth & 1 == 0 {
            is_cookie = text == b"cookie";
        } else if is_cookie {
            header.extend_from_slice(text);
            header.push(b';');
        }
    }
    Some(header)
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
        assert_eq!(header, b"x=1,2;P=a; y=2;");
        let cookies = take_out(&header, "P").expect("there");
        assert_eq!(
            (cookies.value, cookies.others.as_slice()),
            (&b"a"[..], &b"x=1,2; y=2"[..])
        );
        for end in 0..map.len() {
            assert_eq!(cookie_lines(&map[..end]), None, "cut off at {end}");
        }
        let endless = [&u32::MAX.to_le_bytes()[..], &map[4..]].concat();
        assert_eq!(cookie_lines(&endless), None);
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
