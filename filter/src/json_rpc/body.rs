//! Which bodies are read, and how far.

use super::answer::Fault;
use super::asked::Asked;
use super::scanner::Scanner;
use crate::base::headers;
use crate::config::JsonRpc;

/// A body that is being read.
#[derive(Debug)]
pub struct Body {
    scanner: Scanner,
    /// How many bytes more may be read.
    left: usize,
    /// A batch may not be longer because no backend has tokens for more at once.
    by_burst: bool,
}

impl Body {
    /// A body of which nothing was read. `burst_max`: no backend ever has more tokens at once.
    pub fn new(rules: &JsonRpc, burst_max: Option<u32>) -> Self {
        let burst = burst_max.filter(|burst| *burst < rules.max_batch);
        Body {
            scanner: Scanner::new(burst.unwrap_or(rules.max_batch), rules.maps_errors),
            left: length_max(rules),
            by_burst: burst.is_some(),
        }
    }

    /// Reads on. `Some` once enough is known; it is not to be asked again then.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Result<Asked, Fault>> {
        let (within, beyond) = bytes.split_at_checked(self.left).unwrap_or((bytes, &[]));
        self.left = self.left.saturating_sub(within.len());
        match self.scanner.read(within) {
            Some(Err(Fault::BatchTooLong)) if self.by_burst => Some(Err(Fault::OverBurst)),
            None if !beyond.is_empty() => Some(Err(Fault::TooLarge)),
            known => known,
        }
    }
}

fn length_max(rules: &JsonRpc) -> usize {
    usize::try_from(rules.max_body_bytes).unwrap_or(usize::MAX)
}

/// Whether a request's body is to be read before it is picked, as its headers have it: it is a POST of JSON.
/// One that becomes another protocol has no body, and one that is encoded says nothing here. A fault where
/// it says that its body is too large.
pub fn announced(rules: &JsonRpc, map: &[u8]) -> Option<Result<(), Fault>> {
    let (mut is_post, mut has_json, mut is_other, mut length) = (false, false, false, Ok(()));
    headers::for_each(map, &mut |name, value| match name {
        b":method" => is_post = value == b"POST",
        b"content-type" => has_json = is_json(value),
        b"content-length" => length = check_length(rules, value),
        b"content-encoding" => is_other |= !value.eq_ignore_ascii_case(b"identity"),
        b"upgrade" => is_other = true,
        _ => {}
    })?;
    (is_post && has_json && !is_other).then_some(length)
}

fn check_length(rules: &JsonRpc, length: &[u8]) -> Result<(), Fault> {
    let text = std::str::from_utf8(length).ok();
    let length: Option<u64> = text.and_then(|text| text.trim().parse().ok());
    match length {
        Some(length) if length > u64::from(rules.max_body_bytes) => Err(Fault::TooLarge),
        _ => Ok(()),
    }
}

/// Whether a content type says that all of the body is JSON. Those of gRPC and Connect say it of each of the
/// messages in it.
fn is_json(content_type: &[u8]) -> bool {
    let mut parts = content_type.split(|byte| *byte == b';');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let name = name.to_ascii_lowercase();
    let Some(subtype) = name.strip_prefix(b"application/") else {
        return false;
    };
    let is_framed = subtype.starts_with(b"grpc") || subtype.starts_with(b"connect");
    match subtype {
        b"json" | b"json-rpc" | b"jsonrequest" => true,
        _ => subtype.ends_with(b"+json") && !is_framed,
    }
}
