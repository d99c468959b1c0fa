//! Which workers' loads a tick reads, where those of all are too many for one: some at each tick, until
//! all have been read. What they told counts from then on, all at once.

use crate::base::time::WallTime;

/// Reports that one tick reads: of one worker more it begins to read, of no other. Some hundred
/// microseconds; 64 workers that tell of 4,096 loads each are read in eight ticks.
pub const REPORTS_PER_TICK: usize = 32_768;

/// All others, read once.
#[derive(Debug, Default)]
pub struct Round {
    /// The slots that are still to be read, and since when they are.
    under_way: Option<(Vec<u32>, WholeView)>,
    last: Option<WholeView>,
}

/// What is known of all workers' loads, and as of when.
#[derive(Debug, Clone, Copy)]
struct WholeView {
    begun: WallTime,
    /// The workers were settled on a configuration, and each told of all endpoints that leave.
    settled: bool,
}

impl Round {
    /// Begins to read the workers in `slots`, unless some of the last ones are still to be read.
    /// `settled`: all run one configuration.
    pub fn begin(&mut self, slots: impl Iterator<Item = u32>, settled: bool, now: WallTime) {
        self.under_way.get_or_insert_with(|| {
            let begun = now;
            (slots.collect(), WholeView { begun, settled })
        });
    }

    /// The next slot to read; `None`: all have been.
    pub fn take_next(&mut self) -> Option<u32> {
        self.under_way.as_mut()?.0.pop()
    }

    /// Notes that a worker left out endpoints that leave.
    pub fn note_cut(&mut self) {
        if let Some((_, view)) = &mut self.under_way {
            view.settled = false;
        }
    }

    /// Ends it if all have been read; whether it does.
    pub fn end(&mut self) -> bool {
        let over = self.under_way.take_if(|(slots, _)| slots.is_empty());
        self.last = over.as_ref().map(|(_, view)| *view).or(self.last);
        over.is_some()
    }

    /// As of when the loads of all workers are known, if they were settled then.
    pub fn settled_at(&self) -> Option<WallTime> {
        let last = self.last.filter(|last| last.settled);
        last.map(|last| last.begun)
    }
}

#[cfg(test)]
mod tests;
