//! Files that outlast a loss of power.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file below `root`: first elsewhere, to disk, then under its name, and then the folders that name it.
pub(crate) fn write(root: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    static N_WRITTEN: AtomicU64 = AtomicU64::new(0);
    let path = root.join(name);
    let folder = path.parent().unwrap_or(root);
    make_folder(root, folder)?;
    // The store takes names that end so for files under way, and does not list them.
    let number = N_WRITTEN.fetch_add(1, Ordering::Relaxed);
    let under_way = path.with_file_name(format!(
        "{}#{}{number}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let written = (|| {
        let mut file = File::create(&under_way)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&under_way, &path)
    })();
    if written.is_err() {
        // A disk that is full should not stay so because of this.
        let _ = fs::remove_file(&under_way);
    }
    written?;
    sync(folder)
}

/// Makes a folder and those above it, and brings to disk that they are there.
fn make_folder(root: &Path, folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| above.starts_with(root)).unwrap_or(root);
    if above != folder {
        make_folder(root, above)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync(above)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
