//! Probes, their verdicts, and what is done when nobody is healthy.

mod fail_open;
mod probes;
mod slow_start;
mod verdicts;
