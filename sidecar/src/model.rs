//! The words that every stage uses: what can happen, how a probe fails, what an operator said.

pub mod clock;
pub mod errors;
pub mod event;
pub mod json;
pub mod outcome;
pub mod overrides;
pub mod random;
pub mod size;
