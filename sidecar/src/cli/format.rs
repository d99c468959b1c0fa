//! How an answer is printed: as a table for people, or as JSON or YAML for tools.

use clap::ValueEnum;
use serde_json::Value;

/// The form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    /// Prints a value; `table` does so for people.
    pub fn print(self, value: &Value, table: impl Fn(&Value) -> String) -> String {
        match self {
            Format::Json => json(value),
            Format::Yaml => yaml(value),
            Format::Table => table(value),
        }
    }
}

fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// YAML, or JSON where that cannot be.
pub fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| json(value))
}
