//! The demo's folder: taken away again unless it is kept.
//!
//! Guarantees: a folder that is not empty is refused and left alone; of what was there before, nothing goes.
//! Not here: what lies in it.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::output::complain;

/// The folder.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    keep: bool,
    /// The folders above and it itself, as far as they were made here, the deepest first.
    made: Vec<PathBuf>,
}

impl Home {
    pub(super) fn make(dir: Option<&Path>, keep: bool) -> Result<Self, Error> {
        let path = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("outrigger-demo-{}", std::process::id())),
        };
        let failed = |cause| Error::file("cannot be made", &path, cause);
        // Instances have other working directories in mind than a relative path.
        let path = std::path::absolute(&path).map_err(failed)?;
        let failed = |cause| Error::file("cannot be made", &path, cause);
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made: Vec<_> = path.ancestors().take_while(missing).map(Path::to_owned).collect();
        if made.is_empty() {
            let mut inside = std::fs::read_dir(&path).map_err(failed)?;
            if inside.next().is_some() {
                return Err(Error::Path {
                    path,
                    cause: "is not empty".to_owned(),
                    advice: "name an empty or new folder",
                });
            }
        }
        // From here on it is cleared away again.
        let home = Self { path, keep, made };
        std::fs::create_dir_all(&home.path)
            .map_err(|cause| Error::file("cannot be made", &home.path, cause))?;
        Ok(home)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an interruption leaves behind.
    pub(super) fn left(&self) -> String {
        if self.keep {
            format!("everything was stopped; what it made is kept in {}", self.path.display())
        } else {
            "everything was stopped and cleared away".to_owned()
        }
    }

    pub(super) fn kept(&self) -> Option<&Path> {
        self.keep.then_some(self.path.as_path())
    }

    fn clear(&self) -> std::io::Result<()> {
        if let Some((home, above)) = self.made.split_first() {
            std::fs::remove_dir_all(home)?;
            return above.iter().try_for_each(std::fs::remove_dir);
        }
        // The folder was the caller's; what is in it is ours.
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.clear()
            && self.path.exists()
        {
            complain(format_args!("{}: cannot be cleared away: {error}", self.path.display()));
        }
    }
}
