//! When a file is to be read again: told by looking at it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a look at a file finds; two files that differ in nothing here are taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The rule of when to read; `None` is a file that is not there.
#[derive(Debug)]
pub struct Looks {
    read: Option<Stamp>,
    previous: Option<Stamp>,
}

impl Looks {
    /// The file has just been found so, and is being read.
    pub fn new(found: Option<Stamp>) -> Self {
        Looks {
            read: found,
            previous: found,
        }
    }

    /// Takes a look's finding; true: read the file now.
    pub fn on_look(&mut self, found: Option<Stamp>) -> bool {
        let settled = found == self.previous;
        self.previous = found;
        let due = settled && found != self.read;
        if due {
            self.read = found;
        }
        due
    }
}

/// Looks at a file.
pub fn look(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        bytes: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_once_it_has_settled() {
        let stamp = |inode| {
            Some(Stamp {
                device: 1,
                inode,
                bytes: 1,
                modified: (0, 0),
                changed: (0, 0),
            })
        };
        let mut looks = Looks::new(stamp(1));
        assert!(!looks.on_look(stamp(1)), "nothing changed");
        assert!(!looks.on_look(stamp(2)), "may still be written");
        assert!(!looks.on_look(stamp(3)), "is still being written");
        assert!(looks.on_look(stamp(3)), "settled");
        assert!(!looks.on_look(stamp(3)), "read already");
        assert!(!looks.on_look(None), "between two steps of a swap");
        assert!(!looks.on_look(stamp(3)), "back as it was");
        assert!(!looks.on_look(stamp(3)), "and still read");
        assert!(!looks.on_look(None) && looks.on_look(None), "gone");
        assert!(!looks.on_look(None), "reported already");
    }
}
