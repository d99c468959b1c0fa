//! What an answer says of how it went.

use std::fmt;
use std::str;

use serde_json::Value;

/// What stands before a gRPC status in a document.
const GRPC: &str = "grpc:";
/// The highest gRPC status.
const GRPC_MAX: u16 = 16;

/// An HTTP status, or the gRPC status of an answer that has nothing but trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(u16);

impl Code {
    /// An HTTP status.
    pub const fn http(status: u16) -> Self {
        Code(status)
    }

    /// A gRPC status. HTTP's begin at 100, so that one number says which it is.
    pub const fn grpc(status: u16) -> Self {
        Code(status)
    }

    /// The code that a header spells.
    pub fn of_header(text: &[u8]) -> Option<Self> {
        str::from_utf8(text).ok()?.parse().ok().map(Code)
    }

    /// The gRPC status.
    pub fn as_grpc(self) -> Option<u16> {
        (self.0 <= GRPC_MAX).then_some(self.0)
    }

    /// Whether it says that something failed.
    pub fn is_error(self) -> bool {
        self.0 >= 400 || (1..=GRPC_MAX).contains(&self.0)
    }

    /// Whether it is one of these HTTP statuses.
    pub fn is_in(self, statuses: std::ops::RangeInclusive<u16>) -> bool {
        statuses.contains(&self.0)
    }

    /// A number from 400 to 599, or a text such as `grpc:14`.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let status = value.as_u64().and_then(|n| u16::try_from(n).ok());
        let status = status.filter(|status| (400..=599).contains(status));
        let grpc = || {
            let text = value.as_str()?.strip_prefix(GRPC)?;
            let status: u16 = text.parse().ok()?;
            let canonical = text.starts_with(|first: char| first != '0' && first != '+');
            (canonical && (1..=GRPC_MAX).contains(&status)).then_some(status)
        };
        status.or_else(grpc).map(Code)
    }

    pub(super) fn write(self) -> Value {
        match self.as_grpc() {
            Some(_) => self.to_string().into(),
            None => self.0.into(),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.as_grpc().is_some() { GRPC } else { "" })?;
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_error_is_a_status_from_400_on_or_any_of_grpc_but_its_ok() {
        for (code, is_error) in [
            (Code::http(200), false),
            (Code::http(399), false),
            (Code::http(400), true),
            (Code::http(429), true),
            (Code::http(599), true),
            (Code::grpc(0), false),
            (Code::grpc(1), true),
            (Code::grpc(16), true),
        ] {
            assert_eq!(code.is_error(), is_error, "{code}");
        }
    }
}
