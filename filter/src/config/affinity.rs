//! Which requests belong together, and how few backends a client may reach.

use serde_json::{Value, json};

use super::policy::{is_token, name_of};
use super::reader::{Object, Path, Report};

const NAME_MAX: usize = 64;
const PERCENT_DEFAULT: u32 = 25;
const MIN_BACKENDS_DEFAULT: u32 = 8;
const MIN_BACKENDS_MAX: u32 = 20_000;

/// Where a request's key stands (LB-12): requests of one key go to one backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Affinity {
    /// In this header, its name in lower case.
    Header(String),
    /// In the cookie of this name.
    Cookie(String),
    /// It is the client's address.
    #[default]
    SourceIp,
}

impl Affinity {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let named = |name| {
            let text = object.text(name, NAME_MAX)?;
            if !is_token(text) {
                report.error(&object.at(name), "must be a name: letters, digits, - and _");
            }
            Some(text)
        };
        let header = named("header").map(|name| Affinity::Header(name.to_ascii_lowercase()));
        let cookie = named("cookie").map(|name| Affinity::Cookie(name.to_owned()));
        let source = object.flag("sourceIp", false).then_some(Affinity::SourceIp);
        let mut sources = [header, cookie, source].into_iter().flatten();
        match (sources.next(), sources.next()) {
            (Some(source), None) => Some(source),
            _ => {
                let why = "must have exactly one of header, cookie and sourceIp";
                report.unknown(path, why);
                None
            }
        }
    }

    pub(super) fn write(&self) -> Value {
        match self {
            Affinity::Header(name) => json!({"header": name}),
            Affinity::Cookie(name) => json!({"cookie": name}),
            Affinity::SourceIp => json!({"sourceIp": true}),
        }
    }
}

/// What becomes of a request when nobody of its shard can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenExhausted {
    /// The others of the cluster serve it.
    #[default]
    Spill,
    /// It is answered 503.
    Refuse,
}

const WHEN_EXHAUSTED: &[(&str, WhenExhausted)] = &[
    ("Spill", WhenExhausted::Spill),
    ("Refuse", WhenExhausted::Refuse),
];

/// A cluster's `loadBalancing.shuffleShard` (LB-17): each key reaches a few of the primaries alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShuffleShard {
    /// How many of the primaries are a shard.
    pub percent: u32,
    /// With fewer primaries the cluster has no shards.
    pub min_backends: u32,
    /// Spill or refuse.
    pub when_exhausted: WhenExhausted,
}

impl ShuffleShard {
    /// Most backends of one shard.
    pub const SIZE_MAX: usize = 32;

    /// How many of so many primaries are a shard; `None`: there are too few for shards.
    pub fn size(&self, primaries: usize) -> Option<usize> {
        let count = u32::try_from(primaries).unwrap_or(u32::MAX);
        let part = self.percent.saturating_mul(count).div_ceil(100).max(2);
        let size = usize::try_from(part).unwrap_or(usize::MAX);
        (count >= self.min_backends).then_some(size.min(Self::SIZE_MAX).min(primaries))
    }

    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let (least, most) = (MIN_BACKENDS_DEFAULT, MIN_BACKENDS_MAX);
        Some(ShuffleShard {
            percent: object.number("percent", PERCENT_DEFAULT, 1, 100),
            min_backends: object.number("minBackends", least, 2, most),
            when_exhausted: object.choice(
                "whenExhausted",
                WhenExhausted::default(),
                WHEN_EXHAUSTED,
            ),
        })
    }

    pub(super) fn write(self) -> Value {
        json!({
            "percent": self.percent, "minBackends": self.min_backends,
            "whenExhausted": name_of(WHEN_EXHAUSTED, self.when_exhausted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn lb_17_a_shard_is_a_part_of_the_primaries_two_to_thirty_two_of_them() {
        let size = |percent, primaries| {
            let shards = ShuffleShard {
                percent,
                min_backends: 2,
                when_exhausted: WhenExhausted::Spill,
            };
            shards.size(primaries)
        };
        for (percent, primaries, wanted) in [
            (25, 8, 2),
            (25, 9, 3),
            (1, 8, 2),
            (1, 300, 3),
            (100, 8, 8),
            (100, 33, 32),
            (25, 20_000, 32),
            (50, 2, 2),
        ] {
            assert_eq!(
                size(percent, primaries),
                Some(wanted),
                "{percent} % of {primaries}"
            );
        }
        assert_eq!((size(50, 1), size(50, 0)), (None, None));
    }
}
