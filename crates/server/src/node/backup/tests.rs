//! Copies that are whole, copies that are not, and who may read them.

use super::*;

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_second_pass_brings_what_changed_and_takes_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("data"), dir.path().join("copy"));
    fs::create_dir_all(from.join("streams/a-0")).unwrap();
    fs::create_dir_all(from.join(JOURNAL_DIR)).unwrap();
    let log = from.join("streams/a-0/0.log");
    for (path, what) in [
        (&log, "one"),
        (&from.join("streams/a-0/0.index"), "x"),
        (&from.join("gone"), "gone"),
        (&from.join("lock"), ""),
        (&from.join("admin.token"), "secret"),
        (&from.join("journal/1.part"), "entriesGARBAGE"),
    ] {
        fs::write(path, what).unwrap();
    }
    let mut copier = Copier::new(&from, &to).unwrap();
    copier.pass().unwrap();
    assert_eq!(text(&to.join("gone")), "gone");
    let mut grown = File::options().append(true).open(&log).unwrap();
    grown.write_all(b"+two").unwrap();
    fs::write(from.join("streams/a-0/0.index"), "y").unwrap();
    fs::remove_file(from.join("gone")).unwrap();
    let extents = JournalExtents {
        parts: vec![("journal/1.part".to_owned(), 7)],
        lsn: 9,
    };
    let made = copier.finish(&extents).unwrap();
    assert_eq!((made.files, made.lsn), (3, 9));
    assert_eq!(text(&to.join("streams/a-0/0.log")), "one+two");
    assert_eq!(text(&to.join("streams/a-0/0.index")), "y");
    assert_eq!(text(&to.join("journal/1.part")), "entries\0\0\0\0\0\0\0");
    for absent in ["gone", "lock", "admin.token"] {
        assert!(!to.join(absent).exists(), "{absent}");
    }
    let again = dir.path().join("again");
    assert_eq!(restore_backup(&to, &again).unwrap().0, 3);
    assert_eq!(text(&again.join("streams/a-0/0.log")), "one+two");
    assert!(!again.join(MARK_FILE).exists());
    assert!(restore_backup(&to, &again).is_err(), "it is not empty");
    assert!(restore_backup(&from, &dir.path().join("third")).is_err());
    assert!(Copier::new(&from, &from.join("inside")).is_err());
}

/// A backup of three files in `dir/copy`.
fn backed_up(dir: &Path) -> PathBuf {
    let (from, to) = (dir.join("data"), dir.join("copy"));
    fs::create_dir_all(from.join("streams/a-0")).unwrap();
    for name in ["streams/a-0/0.log", "streams/a-0/0.index", "catalogue"] {
        fs::write(from.join(name), vec![7; 3 * PIECE_BYTES]).unwrap();
    }
    let mut copier = Copier::new(&from, &to).unwrap();
    copier.gentle = false;
    copier.pass().unwrap();
    let extents = JournalExtents {
        parts: Vec::new(),
        lsn: 1,
    };
    copier.finish(&extents).unwrap();
    to
}

#[test]
fn a_restore_that_was_broken_off_is_no_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path());
    let to = dir.path().join("broken");
    // As a power cut leaves it: one file is there in part, the others are not.
    let copier = Copier::new(&backup, &to).unwrap();
    copier.stopping.store(true, Ordering::Relaxed);
    drop(copier);
    write_synced(&to.join(UNFINISHED_FILE), b"").unwrap();
    fs::write(to.join("catalogue"), b"half").unwrap();
    let refused = lock_directory(&to).unwrap_err().to_string();
    assert!(refused.contains("restore again"), "{refused}");
    let whole = dir.path().join("whole");
    assert_eq!(restore_backup(&backup, &whole).unwrap().0, 3);
    assert!(!whole.join(UNFINISHED_FILE).exists());
    drop(lock_directory(&whole).unwrap());
    // Who starts on the backup itself has a data directory, and no backup any more.
    drop(lock_directory(&backup).unwrap());
    assert!(restore_backup(&backup, &dir.path().join("late")).is_err());
}

#[test]
fn a_copy_that_breaks_off_has_no_file_longer_than_what_was_copied() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path());
    let to = dir.path().join("to");
    let mut copier = Copier::new(&backup, &to).unwrap();
    copier.gentle = false;
    copier.stopping.store(true, Ordering::Relaxed);
    assert!(
        copier.tree(Path::new(""), &[]).is_err(),
        "it was told to stop"
    );
    assert_eq!(size_of_tree(&to).unwrap(), 0);
}

#[test]
fn copies_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path());
    let whole = dir.path().join("made/whole");
    restore_backup(&backup, &whole).unwrap();
    let mut looked = vec![backup, whole, dir.path().join("made")];
    while let Some(path) = looked.pop() {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.mode() & 0o077, 0, "{}", path.display());
        if meta.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            looked.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn a_copy_that_cannot_fit_is_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path());
    let mut copier = Copier::new(&backup, &dir.path().join("to")).unwrap();
    copier.find_room().unwrap();
    copier.reserve_bytes = u64::MAX / 2;
    assert_eq!(
        copier.find_room().unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
}

#[test]
fn a_file_that_took_the_place_of_another_is_copied_from_its_front() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("data"), dir.path().join("copy"));
    fs::create_dir_all(&from).unwrap();
    let log = from.join("0.log");
    fs::write(&log, vec![1; 3 * LOOK_BACK_BYTES as usize]).unwrap();
    let mut copier = Copier::new(&from, &to).unwrap();
    copier.pass().unwrap();
    // What compaction made twice may get the number of the first file, and be longer than it was:
    // here it is the same file with other bytes.
    let other: Vec<u8> = (0..5 * LOOK_BACK_BYTES)
        .map(|at| (at % 251) as u8)
        .collect();
    fs::write(&log, &other).unwrap();
    copier.pass().unwrap();
    assert!(
        fs::read(to.join("0.log")).unwrap() == other,
        "a front of another file"
    );
    // One that only grew is gone on with.
    let before = copier.copied;
    File::options()
        .append(true)
        .open(&log)
        .unwrap()
        .write_all(b"more")
        .unwrap();
    copier.pass().unwrap();
    assert_eq!(copier.copied - before, 4);
}
