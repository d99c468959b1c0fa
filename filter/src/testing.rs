//! What the tests of rules have in common.

mod acceptance;
pub mod drawing;
pub mod marks;
pub mod shares;
