//! Which bodies are read, and how far.

use super::answer::Fault;
use super::asked::Asked;
use super::scanner::Scanner;
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

/// Checks the length that a request says its body has.
pub fn length(rules: &JsonRpc, content_length: Option<&[u8]>) -> Result<(), Fault> {
    let text = content_length.and_then(|text| std::str::from_utf8(text).ok());
    let length: Option<u64> = text.and_then(|text| text.trim().parse().ok());
    match length {
        Some(length) if length > u64::from(rules.max_body_bytes) => Err(Fault::TooLarge),
        _ => Ok(()),
    }
}

/// Whether a content type says JSON.
pub fn is_json(content_type: &[u8]) -> bool {
    let mut parts = content_type.split(|byte| *byte == b';');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let Some((kind, subtype)) = name.split_at_checked(b"application/".len()) else {
        return false;
    };
    let is = |wanted: &[u8]| subtype.eq_ignore_ascii_case(wanted);
    let suffix = subtype.last_chunk::<5>();
    kind.eq_ignore_ascii_case(b"application/")
        && (is(b"json")
            || is(b"json-rpc")
            || is(b"jsonrequest")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json")))
}
