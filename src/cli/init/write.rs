//! Several files, all of them or none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::secret::random_hex;

/// One file on its way.
struct Step {
    path: PathBuf,
    /// The new text, written and on the disk.
    staged: PathBuf,
    /// Where the old file waits, if there was one.
    old: PathBuf,
    had_old: bool,
    placed: bool,
}

/// Writes files with these texts in place of whatever is there. When one cannot be written, all are as they were.
pub fn all_or_nothing(files: &[(PathBuf, String)]) -> io::Result<()> {
    let mut steps = Vec::new();
    let done = stage(files, &mut steps).and_then(|()| steps.iter_mut().try_for_each(place));
    if done.is_err() {
        steps.iter().rev().for_each(undo);
    }
    for step in &steps {
        let _ = fs::remove_file(&step.staged);
        if done.is_ok() && step.had_old {
            let _ = fs::remove_file(&step.old);
        }
    }
    done
}

fn stage(files: &[(PathBuf, String)], steps: &mut Vec<Step>) -> io::Result<()> {
    for (path, text) in files {
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::new(ErrorKind::AlreadyExists, format!("{} is not a file", path.display())));
        }
        let suffix = random_hex::<8>().map_err(|error| io::Error::other(error.to_string()))?;
        let beside = |kind: &str| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!(".{name}.{suffix}.{kind}"))
        };
        let (staged, old) = (beside("new"), beside("old"));
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        steps.push(Step { path: path.clone(), staged: staged.clone(), old, had_old: false, placed: false });
        let mut file = OpenOptions::new().write(true).create_new(true).open(&staged).map_err(named)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(named)?;
    }
    Ok(())
}

fn place(step: &mut Step) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", step.path.display()));
    match fs::rename(&step.path, &step.old) {
        Ok(()) => step.had_old = true,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(named(error)),
    }
    // The name is taken first: a file that somebody else makes in this instant is not overwritten.
    OpenOptions::new().write(true).create_new(true).open(&step.path).map_err(named)?;
    step.placed = true;
    fs::rename(&step.staged, &step.path).map_err(named)?;
    sync_folder(&step.path);
    Ok(())
}

fn undo(step: &Step) {
    if step.placed {
        let _ = fs::remove_file(&step.path);
    }
    if step.had_old {
        let _ = fs::rename(&step.old, &step.path);
    }
}

/// A new name survives a power cut only when its folder is written too.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut found: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        found
    }

    #[test]
    fn all_are_written_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("b"), "old").unwrap();
        all_or_nothing(&[(path("a"), "1".into()), (path("b"), "2".into())]).unwrap();
        assert_eq!(names(folder.path()), ["a", "b"]);
        assert_eq!(fs::read_to_string(path("b")).unwrap(), "2");
    }

    #[test]
    fn when_one_fails_all_are_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "old").unwrap();
        fs::create_dir(path("c")).unwrap();
        let files = |last: PathBuf| [(path("a"), "1".into()), (path("b"), "2".into()), (last, "3".into())];
        for last in [path("c"), path("missing/d")] {
            assert!(all_or_nothing(&files(last)).is_err());
            assert_eq!(names(folder.path()), ["a", "c"]);
            assert_eq!(fs::read_to_string(path("a")).unwrap(), "old");
        }
    }

    #[test]
    fn what_was_placed_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut steps = Vec::new();
        stage(&[(path.clone(), "new".into())], &mut steps).unwrap();
        steps.iter_mut().for_each(|step| place(step).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        steps.iter().for_each(undo);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}
