//! The ways in which an attempt fails, as documents name them: what is retried, what counts.

use serde_json::Value;

use super::code::Code;
use super::policy::name_of;
use super::reader::{Object, Path, Report, kind};

const LIST_MAX: usize = 32;

/// A way in which an attempt fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The connection could not be made.
    ConnectFailure,
    /// The backend refused the stream before it looked at it.
    RefusedStream,
    /// The connection ended before the request was written.
    ResetBeforeRequest,
    /// The connection ended; where it is retried, also: nothing came in time.
    Reset,
    /// Nothing came in time.
    Timeout,
    /// 502, 503 or 504.
    GatewayError,
    /// Any 5xx.
    ServerError,
    /// This status.
    Code(Code),
}

const NAMES: &[(&str, Failure)] = &[
    ("ConnectFailure", Failure::ConnectFailure),
    ("RefusedStream", Failure::RefusedStream),
    ("ResetBeforeRequest", Failure::ResetBeforeRequest),
    ("Reset", Failure::Reset),
    ("Timeout", Failure::Timeout),
    ("GatewayError", Failure::GatewayError),
    ("ServerError", Failure::ServerError),
];

impl Failure {
    /// Whether an answer with this code is one.
    pub fn is_by(self, code: Code) -> bool {
        match self {
            Failure::GatewayError => code.is_in(502..=504),
            Failure::ServerError => code.is_in(500..=599),
            Failure::Code(own) => own == code,
            _ => false,
        }
    }

    /// Whether it is an answer.
    pub fn is_answer(self) -> bool {
        self >= Failure::GatewayError
    }

    fn read(value: &Value) -> Option<Self> {
        let named = |text: &str| NAMES.iter().find(|(name, _)| *name == text);
        match value.as_str().and_then(named) {
            Some((_, failure)) => Some(*failure),
            None => Code::read(value).map(Failure::Code),
        }
    }

    fn write(self) -> Value {
        match self {
            Failure::Code(code) => code.write(),
            named => name_of(NAMES, named).into(),
        }
    }
}

/// gRPC's statuses but for its OK, in an error.
pub(super) const GRPC: &str = "from grpc:1 to grpc:16";

/// Reads a list of those that `allowed` lets pass, sorted and without repeats. `grpc` says which of gRPC's
/// statuses these are.
pub(super) fn read_list(
    object: &Object<'_>,
    name: &'static str,
    report: &Report,
    (allowed, grpc): (fn(Failure) -> bool, &str),
) -> Vec<Failure> {
    let list = object.at(name);
    let mut read: Vec<Failure> = Vec::new();
    for (index, value) in object.list(name, LIST_MAX).iter().enumerate() {
        match Failure::read(value).filter(|failure| allowed(*failure)) {
            Some(failure) => {
                if let Err(place) = read.binary_search(&failure) {
                    read.insert(place, failure);
                }
            }
            None => {
                let names = NAMES.iter().filter(|(_, failure)| allowed(*failure));
                let names: Vec<&str> = names.map(|(name, _)| *name).collect();
                let one_of = if names.is_empty() { "" } else { "one of " };
                let or = if names.is_empty() { "" } else { " or " };
                let (names, shown) = (names.join(", "), kind(value));
                let why = format!(
                    "must be {one_of}{names}{or}a status from 400 to 599 or {grpc}, not {shown}"
                );
                report.unknown(&Path::Item(&list, index), why);
            }
        }
    }
    read
}

/// A list as documents spell it.
pub(super) fn write_list(list: &[Failure]) -> Value {
    list.iter().map(|failure| failure.write()).collect()
}
