//! One file of the journal: its header, making it full of zeros, and finding the parts that there
//! are. What the entries mean is not known here.

use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Open};
use crate::error::Error;
use crate::fields::{Fields, Malformed, Put};
use crate::space::leave_reserve;
use crate::stream::Lsn;

/// Header of a part, at byte 0, little endian:
///
/// ```text
///  0 magic "SLJP"      4 format version (2)   6 zero (2)
///  8 log id            16 generation          24 first sequence
/// 32 flushed position known when it was put into use
/// 40 CRC-32C of bytes 0..40
/// ```
///
/// The generation grows each time any part is put into use, by one within a start of the log and to
/// the next multiple of 2^32 with a new start, so what an older use left behind is never taken for
/// new. Entries begin at [`PART_HEAD_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartHead {
    pub(crate) log_id: u64,
    pub(crate) generation: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) flushed: Lsn,
}

/// Where the entries of a part begin: a page, so that the header is never written twice.
pub(crate) const PART_HEAD_BYTES: u64 = 4096;
const PART_MAGIC: [u8; 4] = *b"SLJP";
const PART_VERSION: u16 = 1;
const HEAD_BYTES: usize = 44;

/// The folder of the journal.
pub(crate) const JOURNAL_DIR: &str = "journal";

impl PartHead {
    /// The whole first page.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PART_HEAD_BYTES as usize);
        page.extend_from_slice(&PART_MAGIC);
        page.put_u16(PART_VERSION);
        page.put_u16(0);
        page.put_u64(self.log_id);
        page.put_u64(self.generation);
        page.put_u64(self.first_lsn);
        page.put_u64(self.flushed);
        let crc = crc_fast::crc32_iscsi(&page);
        page.put_u32(crc);
        page.resize(PART_HEAD_BYTES as usize, 0);
        page
    }

    fn decode(page: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(page);
        if fields.array::<4>()? != PART_MAGIC {
            return Err("it does not begin with a part header");
        }
        let version = fields.u16()?;
        fields.u16()?;
        let head = Self {
            log_id: fields.u64()?,
            generation: fields.u64()?,
            first_lsn: fields.u64()?,
            flushed: fields.u64()?,
        };
        if fields.u32()? != crc_fast::crc32_iscsi(&page[..HEAD_BYTES - 4]) {
            return Err("the checksum of its header does not match");
        }
        if version != PART_VERSION {
            return Err("its header has an unknown format version");
        }
        Ok(head)
    }
}

/// A part found on disk whose header is whole.
#[derive(Clone, Debug)]
pub(crate) struct FoundPart {
    pub(crate) path: String,
    pub(crate) head: PartHead,
    pub(crate) bytes: u64,
}

/// What the journal's folder holds.
#[derive(Default)]
pub(crate) struct Found {
    /// Parts with a whole header, the oldest generation first.
    pub(crate) used: Vec<FoundPart>,
    /// Parts full of zeros, ready to be used, with their sizes.
    pub(crate) blank: Vec<(String, u64)>,
    /// Parts whose header is damaged although something is written behind it.
    pub(crate) damaged: Vec<(String, u64, Malformed)>,
    /// Number for the name of the next new part.
    pub(crate) next_number: u32,
}

/// Path of the part with this number in its name.
pub(crate) fn part_path(number: u32) -> String {
    format!("{JOURNAL_DIR}/{number:010}.part")
}

/// Looks at every part's header.
pub(crate) fn find_parts(disk: &dyn Disk) -> Result<Found, Error> {
    let mut found = Found {
        next_number: 1,
        ..Found::default()
    };
    let names = disk
        .list(JOURNAL_DIR)
        .map_err(|e| Error::disk(JOURNAL_DIR, "list", e))?;
    for name in names {
        let Some(number) = name
            .strip_suffix(".part")
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        found.next_number = found.next_number.max(number + 1);
        let path = format!("{JOURNAL_DIR}/{name}");
        let file = disk
            .open(&path, Open::Read)
            .map_err(|e| Error::disk(&*path, "open", e))?;
        let bytes = file.len().map_err(|e| Error::disk(&*path, "read", e))?;
        // One entry head more than the header: is anything written behind a damaged header?
        let mut page = vec![0; PART_HEAD_BYTES as usize + 64];
        let read =
            crate::disk::read_full(&*file, &mut page, 0).map_err(|failed| failed.of(&*path))?;
        page.truncate(read);
        match PartHead::decode(&page) {
            Ok(head) => found.used.push(FoundPart { path, head, bytes }),
            Err(_) if page.iter().all(|byte| *byte == 0) => found.blank.push((path, bytes)),
            Err(what) => found.damaged.push((path, bytes, what)),
        }
    }
    found.used.sort_by_key(|part| part.head.generation);
    Ok(found)
}

/// Writes a new part full of zeros and makes it durable, off the log thread and in small steps.
///
/// Zeros are written once because a flush into space that was merely reserved costs the filesystem
/// a commit of its own each time.
pub struct PartPreparation {
    disk: Arc<dyn Disk>,
    path: String,
    part_bytes: u64,
    done_bytes: u64,
    file: Option<Arc<dyn DiskFile>>,
    /// All of it is durable.
    whole: bool,
    reserve_bytes: u64,
}

impl PartPreparation {
    /// `reserve_bytes`: free space that the work leaves alone; 0 does not look.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        path: String,
        part_bytes: u64,
        reserve_bytes: u64,
    ) -> Self {
        Self {
            disk,
            path,
            part_bytes,
            done_bytes: 0,
            file: None,
            whole: false,
            reserve_bytes,
        }
    }

    /// Does the next piece of work; true when all is done. An error ends it but latches nothing:
    /// hand it back to [`Log::prepared`](crate::Log::prepared) all the same, which clears away what
    /// was made; it is tried again after a while.
    pub fn step(&mut self) -> Result<bool, Error> {
        self.whole = self.next_piece().map_err(Error::passing)?;
        Ok(self.whole)
    }

    fn next_piece(&mut self) -> Result<bool, Error> {
        let left = self.part_bytes - self.done_bytes;
        leave_reserve(&*self.disk, self.reserve_bytes, left)?;
        let Some(file) = &self.file else {
            let file = self.disk.open(&self.path, Open::Create);
            let file = file.map_err(|e| Error::disk(&*self.path, "open", e))?;
            self.file = Some(Arc::from(file));
            return Ok(false);
        };
        if self.done_bytes < self.part_bytes {
            let count = (self.part_bytes - self.done_bytes).min(STEP_BYTES);
            let slices = zeros(count as usize);
            file.write_at(&slices, self.done_bytes)
                .map_err(|e| Error::disk_at(&*self.path, "write", self.done_bytes, e))?;
            // Piece by piece: a flush of the journal then waits for one of them, not for the part.
            // Durable only at the end: each sync of a file that grows is a commit of the filesystem,
            // and the log's own writes may have to wait for that.
            file.write_out(self.done_bytes, self.done_bytes + count);
            self.done_bytes += count;
            return Ok(false);
        }
        file.sync_all()
            .map_err(|e| Error::disk(&*self.path, "sync", e))?;
        self.disk
            .sync_dir(JOURNAL_DIR)
            .map_err(|e| Error::disk(JOURNAL_DIR, "sync", e))?;
        Ok(true)
    }

    /// How much of the part is written, in bytes, and how large it will be.
    pub fn progress(&self) -> (u64, u64) {
        (self.done_bytes, self.part_bytes)
    }

    /// The part, if it became one; else nothing of it stays.
    pub(crate) fn into_part(self) -> Option<(String, Arc<dyn DiskFile>)> {
        match self.file {
            Some(file) if self.whole => Some((self.path, file)),
            Some(_) => {
                // What cannot be removed now is found by the next start.
                let _ = self.disk.remove_file(&self.path);
                None
            }
            None => None,
        }
    }
}

const STEP_BYTES: u64 = 256 << 10;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// So many zeros, in slices.
pub(super) fn zeros(count: usize) -> Vec<&'static [u8]> {
    let whole = std::iter::repeat_n(&ZEROS[..], count / ZEROS.len());
    let rest = &ZEROS[..count % ZEROS.len()];
    whole.chain((!rest.is_empty()).then_some(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_a_changed_one_is_refused() {
        let head = PartHead {
            log_id: 5,
            generation: 8,
            first_lsn: 100,
            flushed: 99,
        };
        let page = head.encode();
        assert_eq!(page.len() as u64, PART_HEAD_BYTES);
        assert_eq!(PartHead::decode(&page), Ok(head));
        for at in 0..HEAD_BYTES {
            let mut changed = page.clone();
            changed[at] ^= 1;
            assert!(PartHead::decode(&changed).is_err(), "byte {at}");
        }
    }
}
