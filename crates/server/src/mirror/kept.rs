//! Which positions this data directory has written to the cluster, in a small file beside the log: so
//! that it is noticed when the cluster loses them. It asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The file in the data directory: a line for each identity, behind it the numbers of its slots.
const FILE: &str = "mirror.positions";

/// Bytes of the file beyond which it is not ours.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The slots of each identity that the cluster has had positions in.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    slots: BTreeMap<String, BTreeSet<u32>>,
}

impl Kept {
    /// As the last process left it in this data directory. What cannot be read counts as nothing: it
    /// is only used to refuse.
    pub fn read(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let small = fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let text = small.then(|| fs::read_to_string(&path).ok()).flatten();
        let mut slots = BTreeMap::new();
        for line in text.as_deref().unwrap_or_default().lines() {
            let mut words = line.split(' ');
            if let Some(identity) = words.next() {
                let numbers = words.filter_map(|word| word.parse().ok());
                slots.insert(identity.to_owned(), numbers.collect());
            }
        }
        Self { path, slots }
    }

    /// How many slots of an identity have none in the cluster, of which it has had some.
    pub fn lost(&self, identity: &str, has: impl Fn(u32) -> bool) -> usize {
        let slots = self.slots.get(identity).into_iter().flatten();
        slots.filter(|slot| !has(**slot)).count()
    }

    /// The cluster has positions of an identity in these slots now.
    ///
    /// # Errors
    /// The file cannot be written; it is tried again with the next call.
    pub fn keep(&mut self, identity: &str, slots: impl Iterator<Item = u32>) -> io::Result<()> {
        let mut all = self.slots.clone();
        all.entry(identity.to_owned()).or_default().extend(slots);
        if all == self.slots {
            return Ok(());
        }
        let mut text = String::new();
        for (identity, slots) in &all {
            text.push_str(identity);
            for slot in slots {
                let _ = write!(text, " {slot}");
            }
            text.push('\n');
        }
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.slots = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_had_is_missed_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::read(folder.path());
        assert_eq!(kept.lost("plant-7", |_| false), 0, "it never had any");
        kept.keep("plant-7", 0..2).unwrap();
        kept.keep("plant-7", 2..4).unwrap();
        kept.keep("plant-8", 0..1).unwrap();
        let kept = Kept::read(folder.path());
        assert_eq!(kept.lost("plant-7", |_| true), 0);
        assert_eq!(kept.lost("plant-7", |slot| slot != 3), 1);
        assert_eq!(kept.lost("plant-7", |_| false), 4);
        assert_eq!(kept.lost("plant-8", |_| false), 1);
        assert_eq!(kept.lost("plant-9", |_| false), 0);
    }

    #[test]
    fn a_file_that_is_none_of_ours_refuses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "\n\u{1}x y z\n").unwrap();
        let mut kept = Kept::read(folder.path());
        assert_eq!(kept.lost("x", |_| false), 0);
        kept.keep("x", 0..1).unwrap();
        assert_eq!(Kept::read(folder.path()).lost("x", |_| false), 1);
    }
}
