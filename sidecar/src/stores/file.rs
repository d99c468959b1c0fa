//! Files: when one has changed, and how one is replaced.

pub mod looks;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Largest file that is read or written, bytes.
pub const FILE_MAX: u64 = 32 << 20;

/// Puts a text in a file's place: whoever opens it sees the old one or the new one, and it is on
/// disk when this returns.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    if text.len() as u64 > FILE_MAX {
        let why = format!("it would have more than {FILE_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    // A link stays one: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut draft = path.clone().into_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft)?;
    if let Ok(meta) = fs::metadata(&path) {
        file.set_permissions(meta.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, &path)
}
