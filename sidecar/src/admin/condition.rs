//! What a write is to depend on: `If-Match` and `If-None-Match`, as RFC 9110 has them.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::failure::Failure;
use crate::registry::edit::Expect;

/// What stands in one of the two headers, in all of its lines.
enum Asked {
    Any,
    /// Each with whether it is a weak one.
    Etags(Vec<(String, bool)>),
}

/// What must stand there.
pub fn read(headers: &HeaderMap) -> Result<Expect, Failure> {
    Ok(
        match (asked(headers, IF_MATCH)?, asked(headers, IF_NONE_MATCH)?) {
            (None, None) => Expect::Anything,
            (Some(Asked::Any), None) => Expect::Present,
            (None, Some(Asked::Any)) => Expect::Absent,
            // A weak one says that something like it would do: a write wants the very same.
            (Some(Asked::Etags(etags)), None) => {
                let strong = etags.into_iter().filter(|(_, weak)| !weak);
                Expect::OneOf(strong.map(|(etag, _)| etag).collect())
            }
            (None, Some(Asked::Etags(etags))) => {
                Expect::NoneOf(etags.into_iter().map(|(etag, _)| etag).collect())
            }
            (Some(_), Some(_)) => {
                let why = "either If-Match or If-None-Match can be asked for";
                return Err(Failure::request(why));
            }
        },
    )
}

fn asked(headers: &HeaderMap, name: HeaderName) -> Result<Option<Asked>, Failure> {
    let lines = headers.get_all(&name).iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let text = lines.join(",");
    if text.trim() == "*" {
        return Ok(Some(Asked::Any));
    }
    let why = || {
        Failure::request(format!(
            "{name}: must be ETags in quotes, with commas, or *"
        ))
    };
    etags(&text)
        .map(|it| Some(Asked::Etags(it)))
        .ok_or_else(why)
}

/// `"a", W/"b"` → its parts; what stands in quotes may hold commas.
fn etags(text: &str) -> Option<Vec<(String, bool)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(is_between);
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (etag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        let next = after.trim_start_matches([' ', '\t']);
        if !(next.is_empty() || next.starts_with(',')) {
            return None;
        }
        found.push((etag.to_owned(), weak));
        rest = next.trim_start_matches(is_between);
    }
    (!found.is_empty()).then_some(found)
}

fn is_between(c: char) -> bool {
    matches!(c, ' ' | '\t' | ',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &str)]) -> Option<Expect> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        read(&headers).ok()
    }

    fn list(etags: &[&str]) -> Vec<String> {
        etags.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_condition_is_a_star_or_a_list_in_one_line_or_several() {
        for (fields, expected) in [
            (&[][..], Expect::Anything),
            (&[("if-match", "*")], Expect::Present),
            (&[("if-none-match", " * ")], Expect::Absent),
            (&[("if-match", "\"ab\"")], Expect::OneOf(list(&["ab"]))),
            (
                &[("if-match", ",\"a\" ,\t\"b,c\",,"), ("if-match", "\"d\"")],
                Expect::OneOf(list(&["a", "b,c", "d"])),
            ),
            // Compared strongly: no weak one is ever the document's.
            (
                &[("if-match", "W/\"a\", \"b\"")],
                Expect::OneOf(list(&["b"])),
            ),
            (&[("if-match", "W/\"a\"")], Expect::OneOf(list(&[]))),
            (
                &[("if-none-match", "\"a\", W/\"b\"")],
                Expect::NoneOf(list(&["a", "b"])),
            ),
        ] {
            assert_eq!(of(fields), Some(expected), "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_such_list_is_refused() {
        for wrong in [
            &[("if-match", "ab")][..],
            &[("if-match", "\"a\" \"b\"")],
            &[("if-match", "\"a")],
            &[("if-match", "w/\"a\"")],
            &[("if-match", "")],
            &[("if-match", "*, \"a\"")],
            &[("if-match", "*"), ("if-match", "*")],
            &[("if-match", "*"), ("if-none-match", "*")],
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
