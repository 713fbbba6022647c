//! Making folders so that a power cut does not take them away again.
//!
//! Guarantees: when [`make_dir`] returns, the folder's name is durable, whoever made it, and so is every
//! name above it that was made here. Not here: what lies in it.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::files::fault;
use crate::disk::IoFault;

/// Makes a folder of mode 0700 and its missing parents, durably. One that is there stays as it is; its
/// name is made durable all the same: whoever made it may have been killed before that.
///
/// # Errors
/// The operating system's, with the path.
pub fn make_dir(path: &Path) -> Result<(), IoFault> {
    make(path, &mut |parent| File::open(parent)?.sync_all())
}

/// Gives a file or folder another name, in the same or another folder of the file system, durably. The
/// new name must be free.
///
/// # Errors
/// The operating system's, with the path; when the new name is taken, nothing was changed.
pub fn move_to(from: &Path, to: &Path) -> Result<(), IoFault> {
    if to.symlink_metadata().is_ok() {
        let taken = io::Error::from(ErrorKind::AlreadyExists);
        return Err(fault(to, "rename", &taken));
    }
    rename(from, to)
}

/// Puts a file in another one's place, durably. Whoever opens the name finds the one or the other whole, at any moment.
///
/// # Errors
/// The operating system's, with the path; either may be there then.
pub fn replace(from: &Path, to: &Path) -> Result<(), IoFault> {
    // ORDER: what it holds is durable before its name is.
    let synced = File::open(from).and_then(|file| file.sync_all());
    synced.map_err(|error| fault(from, "sync", &error))?;
    rename(from, to)
}

fn rename(from: &Path, to: &Path) -> Result<(), IoFault> {
    std::fs::rename(from, to).map_err(|error| fault(from, "rename", &error))?;
    // ORDER: the new name is durable before the old one is durably gone.
    for path in [to, from] {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        sync_folder(folder.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Takes a file or a folder with all that is in it away, durably. No error when there is none.
///
/// # Errors
/// The operating system's, with the path; some of it may be gone then.
pub fn remove_all(path: &Path) -> Result<(), IoFault> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(|error| fault(path, "remove", &error))?,
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    sync_folder(folder.unwrap_or(Path::new(".")))
}

fn sync_folder(folder: &Path) -> Result<(), IoFault> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| fault(folder, "sync of the folder", &error))
}

/// [`make_dir`], with what syncs a folder.
fn make(path: &Path, sync: &mut impl FnMut(&Path) -> io::Result<()>) -> Result<(), IoFault> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let there = path.is_dir();
    if !there {
        if parent != Path::new(".") {
            make(parent, sync)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made.map_err(|error| fault(path, "make the folder", &error))?,
        }
    }
    if there && is_mount(path, parent) {
        return Ok(());
    }
    // ORDER: the folder's own name is durable before anything in it claims to be.
    match sync(parent) {
        // Above a folder that was made here the account may read; so somebody else made this one.
        Err(error) if there && error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(|error| fault(parent, "sync of the folder", &error)),
    }
}

/// Whether another file system begins here: then its name is no entry of the parent that could be lost.
fn is_mount(path: &Path, parent: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|meta| meta.dev()).ok();
    device(path) != device(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// What is synced when this is made, in order.
    fn synced(path: &Path) -> Vec<PathBuf> {
        let mut seen = Vec::new();
        make(path, &mut |parent| {
            seen.push(parent.to_owned());
            Ok(())
        })
        .unwrap();
        assert!(path.is_dir());
        seen
    }

    #[test]
    fn each_name_is_durable_before_the_next_one_is_made_below_it() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (home.path().join("one"), home.path().join("one/two"));
        let mut seen = Vec::new();
        make(&two.join("three"), &mut |parent| {
            seen.push((parent.to_owned(), two.exists()));
            Ok(())
        })
        .unwrap();
        let above = home.path().parent().unwrap().to_owned();
        seen.retain(|(parent, _)| *parent != above);
        assert_eq!(seen, [(home.path().to_owned(), false), (one, true), (two, true)]);
    }

    #[test]
    fn a_folder_that_is_there_is_made_durable_too() {
        // Whoever made it may have been killed before it synced the folder above.
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        std::fs::create_dir(&data).unwrap();
        assert_eq!(synced(&data), [home.path()]);
    }

    #[test]
    fn a_parent_that_cannot_be_synced_is_an_error_that_names_it() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        // The second time the folder is there, and still not durable.
        for _ in 0..2 {
            let full = |parent: &Path| match parent == home.path() {
                true => Err(ErrorKind::StorageFull.into()),
                false => Ok(()),
            };
            let error = make(&data, &mut { full }).unwrap_err().to_string();
            assert!(error.contains(&home.path().display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_folder_below_one_that_may_not_be_read_can_be_used() {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), &mut |_| Err(ErrorKind::PermissionDenied.into())).unwrap();
        let new = home.path().join("new");
        make(&new, &mut |_| Err(ErrorKind::PermissionDenied.into())).unwrap_err();
    }
}
