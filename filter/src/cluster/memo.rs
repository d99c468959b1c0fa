//! What a later layer has worked out for a cluster from one version of something.

use std::any::Any;
use std::cell::RefCell;

/// One value, with the version of what it was worked out from.
#[derive(Debug, Default)]
pub(crate) struct Memo(RefCell<Option<(u32, Box<dyn Any>)>>);

impl Memo {
    /// Gives `use_value` the value of a version: the one that is kept, or one that is made now.
    pub fn with<T: 'static, R>(
        &self,
        version: u32,
        make: impl FnOnce() -> T,
        use_value: impl FnOnce(&T) -> R,
    ) -> R {
        // Taken out while in use: a use within a use finds nothing kept, and no borrow can panic.
        let kept = self.0.take().filter(|(of, _)| *of == version);
        let kept = kept.and_then(|(_, value)| value.downcast::<T>().ok());
        let value = kept.unwrap_or_else(|| Box::new(make()));
        let result = use_value(&value);
        self.0.replace(Some((version, value)));
        result
    }
}
