//! Writes a run's files. Each is written under another name and moved into place when it is whole, the model last, so a
//! model.json in the folder means that the other files are there too.

use anyhow::{Result, anyhow};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A folder that gets the files of a run.
pub(crate) struct OutFolder {
    folder: PathBuf,
    /// Files under their temporary names, in the order in which they will appear.
    finished: Vec<(PathBuf, PathBuf)>,
}

impl OutFolder {
    /// Makes the folder when it does not exist.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| anyhow!("--out: {}: {error}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), finished: Vec::new() })
    }

    /// Opens one file under its temporary name.
    pub(crate) fn file(&mut self, name: &str) -> Result<BufWriter<File>> {
        // With the process in its name: two runs into one folder must not write the same file.
        let temporary = self.folder.join(format!(".{name}.{}.partial", std::process::id()));
        let file = File::create(&temporary).map_err(|error| anyhow!("{}: {error}", temporary.display()))?;
        self.finished.push((temporary, self.folder.join(name)));
        Ok(BufWriter::new(file))
    }

    /// An error of writing a file, with its name.
    pub(crate) fn write_error(&self, name: &str, error: impl std::fmt::Display) -> anyhow::Error {
        anyhow!("{}: {error}", self.folder.join(name).display())
    }

    /// Brings a file to disk.
    pub(crate) fn finish(&self, file: BufWriter<File>) -> Result<()> {
        let write_error = |error: std::io::Error| anyhow!("{}: {error}", self.folder.display());
        let file = file.into_inner().map_err(|error| write_error(error.into_error()))?;
        file.sync_all().map_err(write_error)
    }

    /// Writes a whole file.
    pub(crate) fn write_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.file(name)?;
        file.write_all(bytes).map_err(|error| self.write_error(name, error))?;
        self.finish(file)
    }

    /// Moves all files into place.
    pub(crate) fn commit(mut self) -> Result<()> {
        let failed = |name: &Path, error: std::io::Error| anyhow!("{}: {error}", name.display());
        if let Some((_, model)) = self.finished.last().filter(|(_, model)| model.exists()) {
            // The model of an earlier run must not stand beside other files than its own, not even for a moment.
            std::fs::remove_file(model).map_err(|error| failed(model, error))?;
        }
        while !self.finished.is_empty() {
            let (temporary, name) = &self.finished[0];
            std::fs::rename(temporary, name).map_err(|error| failed(name, error))?;
            self.finished.remove(0);
        }
        Ok(())
    }
}

impl Drop for OutFolder {
    /// What was not committed leaves nothing behind.
    fn drop(&mut self) {
        for (temporary, _) in &self.finished {
            // The file may not have come into being; there is nobody left to tell.
            let _ = std::fs::remove_file(temporary);
        }
    }
}
