//! A document being read: values that know their path, and the list of what is wrong with them.
//!
//! A hand-written reader rather than derived ones: the filter must be strict with its own schema
//! number and lenient with a newer one, every error must carry the path with the cluster's name in
//! it, and in wasm it is half the size.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::duration;

/// Errors kept per document; the rest would only bury the first.
pub const ERRORS_MAX: usize = 20;

/// One thing wrong with a document: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// For example `clusters.orders.backends[2].weight`; empty for the document itself.
    pub path: String,
    /// A sentence that goes on from the path: "must be …".
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.why);
        }
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// Everything wrong with a document, in the order of its fields, those that are not known behind the
/// others of their object; never empty, at most [`ERRORS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What a reading finds: errors, and in a lenient one what it passes over.
#[derive(Debug, Default)]
pub struct Report {
    errors: RefCell<Vec<ConfigError>>,
    lenient: bool,
    ignored: Cell<u32>,
}

impl Report {
    /// A report that takes what is not known for errors, or only counts it when `lenient`.
    pub fn new(lenient: bool) -> Self {
        Report {
            lenient,
            ..Report::default()
        }
    }

    /// Notes an error at `path`.
    pub fn error(&self, path: &Path<'_>, why: impl Into<String>) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_MAX {
            errors.push(ConfigError {
                path: path.to_string(),
                why: why.into(),
            });
        }
    }

    /// Notes a field, a choice or an entry that is not known: an error, or the news of a newer
    /// schema, which is passed over and counted.
    pub fn unknown(&self, path: &Path<'_>, why: impl Into<String>) {
        if self.lenient {
            self.ignore(1);
        } else {
            self.error(path, why);
        }
    }

    /// Counts what was passed over.
    pub fn ignore(&self, count: u32) {
        self.ignored.set(self.ignored.get().saturating_add(count));
    }

    /// How much was not known and passed over.
    pub fn ignored(&self) -> u32 {
        self.ignored.get()
    }

    /// The value if nothing was wrong, else all that was.
    pub fn close<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let errors = self.errors.into_inner();
        match value {
            Some(value) if errors.is_empty() => Ok(value),
            _ => Err(ConfigErrors(errors)),
        }
    }
}

/// Where a value stands; lives on the stack and becomes text only for an error.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// The document itself, or the place it was found at.
    Root(&'a str),
    /// A field of the value at the parent.
    Field(&'a Path<'a>, &'a str),
    /// An element of the list at the parent.
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// Whether what stands here may be secret: what probes send along.
    fn is_secret(&self) -> bool {
        match self {
            Path::Root(_) => false,
            Path::Field(parent, name) => matches!(*name, "headers" | "body") || parent.is_secret(),
            Path::Item(parent, _) => parent.is_secret(),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(place) => f.write_str(place),
            Path::Field(Path::Root(""), name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// An object being read field by field. At its end the fields that nobody asked for are not known.
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    /// Where it stands.
    pub path: &'a Path<'a>,
    report: &'a Report,
    /// Fields that it has and that were asked for.
    asked: RefCell<Vec<&'static str>>,
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        if asked.len() == self.map.len() {
            return;
        }
        for name in self
            .map
            .keys()
            .filter(|name| !asked.contains(&name.as_str()))
        {
            let place = Path::Field(self.path, &clip(name));
            self.report.unknown(&place, "is not a known field");
        }
    }
}

impl<'a> Object<'a> {
    /// Takes `value` as an object.
    pub fn of(value: &'a Value, path: &'a Path<'a>, report: &'a Report) -> Option<Self> {
        let Value::Object(map) = value else {
            let shown = kind_at(path, value);
            report.error(path, format!("must be an object, not {shown}"));
            return None;
        };
        Some(Object {
            map,
            path,
            report,
            asked: RefCell::default(),
        })
    }

    /// The field's value; an absent field and `null` are the same.
    pub fn get(&self, name: &'static str) -> Option<&'a Value> {
        let value = self.map.get(name)?;
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&name) {
            asked.push(name);
        }
        Some(value).filter(|value| !value.is_null())
    }

    /// The path of a field.
    pub fn at<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path::Field(self.path, name)
    }

    /// A text of 1 to `max` bytes, or `None` where it is absent or wrong.
    pub fn text(&self, name: &'static str, max: usize) -> Option<&'a str> {
        let value = self.get(name)?;
        match value.as_str() {
            Some(text) if text.len() <= max => Some(text),
            Some(_) => {
                self.report
                    .error(&self.at(name), format!("must be at most {max} bytes long"));
                None
            }
            None => {
                let path = self.at(name);
                let shown = kind_at(&path, value);
                self.report
                    .error(&path, format!("must be a string, not {shown}"));
                None
            }
        }
    }

    /// Like [`Object::text`], but its absence is an error too.
    pub fn required_text(&self, name: &'static str, max: usize) -> Option<&'a str> {
        if self.get(name).is_none() {
            self.report.error(&self.at(name), "is required");
        }
        self.text(name, max)
    }

    /// `true` or `false`; `default` where absent or wrong.
    pub fn flag(&self, name: &'static str, default: bool) -> bool {
        let Some(value) = self.get(name) else {
            return default;
        };
        value.as_bool().unwrap_or_else(|| {
            self.report.error(
                &self.at(name),
                format!("must be true or false, not {}", kind(value)),
            );
            default
        })
    }

    /// A whole number from `min` to `max`; `default` where absent or wrong.
    pub fn number(&self, name: &'static str, default: u32, min: u32, max: u32) -> u32 {
        let Some(value) = self.get(name) else {
            return default;
        };
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        number
            .filter(|n| (min..=max).contains(n))
            .unwrap_or_else(|| {
                let why = format!(
                    "must be a whole number from {min} to {max}, not {}",
                    kind(value)
                );
                self.report.error(&self.at(name), why);
                default
            })
    }

    /// A duration such as `"500ms"` from `min` to `max`; `default` where absent or wrong.
    pub fn duration(
        &self,
        name: &'static str,
        default: Duration,
        range: (Duration, Duration),
    ) -> Duration {
        let Some(value) = self.get(name) else {
            return default;
        };
        let read = value.as_str().and_then(duration::parse);
        read.filter(|d| (range.0..=range.1).contains(d))
            .unwrap_or_else(|| {
                let (min, max) = (duration::print(range.0), duration::print(range.1));
                let why = format!(
                    "must be a duration such as \"500ms\" or \"10s\" from {min} to {max}, not {}",
                    kind(value)
                );
                self.report.error(&self.at(name), why);
                default
            })
    }

    /// One of the names in `choices`; `default` where absent, wrong or not known.
    pub fn choice<T: Copy>(&self, name: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let Some(value) = self.get(name) else {
            return default;
        };
        let found = value
            .as_str()
            .and_then(|text| choices.iter().find(|(n, _)| *n == text));
        found.map(|(_, choice)| *choice).unwrap_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(n, _)| *n).collect();
            let why = format!("must be one of {}, not {}", names.join(", "), kind(value));
            self.report.unknown(&self.at(name), why);
            default
        })
    }

    /// A list of at most `max` elements; empty where absent or wrong.
    pub fn list(&self, name: &'static str, max: usize) -> &'a [Value] {
        match self.get(name) {
            None => &[],
            Some(Value::Array(items)) if items.len() <= max => items,
            Some(Value::Array(items)) => {
                let why = format!("must have at most {max} elements, not {}", items.len());
                self.report.error(&self.at(name), why);
                &[]
            }
            Some(other) => {
                let path = self.at(name);
                let shown = kind_at(&path, other);
                self.report
                    .error(&path, format!("must be a list, not {shown}"));
                &[]
            }
        }
    }
}

/// What a value is, for an error at this path, which says nothing that may be secret.
fn kind_at(path: &Path<'_>, value: &Value) -> String {
    match value {
        Value::String(_) if path.is_secret() => "a string".to_owned(),
        Value::Number(_) if path.is_secret() => "a number".to_owned(),
        value => kind(value),
    }
}

/// What a value is, for an error: its short text for a scalar, its kind for the rest.
pub fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("\"{}\"", clip(text)),
        scalar => clip(&scalar.to_string()),
    }
}

/// The first characters of a text somebody else wrote, with nothing unprintable in it.
fn clip(text: &str) -> String {
    const SHOWN_MAX: usize = 64;
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}
