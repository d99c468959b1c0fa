//! What a pick moves on in its policy's own bookkeeping, as data: a decision moves nothing, and so
//! can be asked again.

use crate::cluster::EndpointIndex;

/// The turn that a pick takes in its pool. What they hold is of one width, so that a turn is written and
/// copied in the same pieces: a processor waits for a piece that was written in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    /// None: the policy keeps no books.
    #[default]
    None,
    /// The next turn begins behind this place.
    Cursor(i64),
    /// Every candidate's running weight grows by its weight, and the pick pays their sum.
    Smooth(i64),
    /// The pick is the last one so far, by this number.
    Last(i64),
}

/// An endpoint, and the turn that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// The endpoint.
    pub endpoint: EndpointIndex,
    /// Its turn.
    pub turn: Turn,
}

impl Pick {
    /// A pick that takes no turn.
    pub fn of(endpoint: EndpointIndex) -> Self {
        Pick {
            endpoint,
            turn: Turn::None,
        }
    }
}
