//! The catalogue: what streams there are and up to where each partition is durable in its segments.
//! It is replaced in one step at each checkpoint, and recovery begins from it.

use crate::disk::{Disk, Open, read_whole};
use crate::error::Error;
use crate::fields::{Fields, Malformed, Put};
use crate::journal::JournalMark;
use crate::limits::CATALOGUE_BYTES_MAX;
use crate::partition::PartitionMark;
use crate::stream::{Lsn, Place, StreamSettings, decode_places, encode_places};

/// Everything that recovery must know beside the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalogue {
    /// Tells this log's journal from any other's.
    pub(crate) log_id: u64,
    /// The log was closed in order; what follows need not raise the leader epoch.
    pub(crate) clean: bool,
    pub(crate) epoch: i32,
    pub(crate) next_partition: u32,
    /// First generation of journal parts that the next start may use.
    pub(crate) next_generation: u64,
    /// All entries up to here are in the segments, durably.
    pub(crate) mark: JournalMark,
    /// Parts of the journal wholly at or below this entry are free.
    pub(crate) kept_from: Lsn,
    /// Time of the newest entry, ms since 1970.
    pub(crate) time_ms: u64,
    pub(crate) streams: Vec<CatalogueStream>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogueStream {
    pub(crate) settings: StreamSettings,
    pub(crate) places: Vec<Place>,
    /// One for each place; meaningless for memory streams.
    pub(crate) marks: Vec<PartitionMark>,
}

pub(crate) const CATALOGUE: &str = "catalogue";
const CATALOGUE_NEW: &str = "catalogue.new";
const MAGIC: [u8; 8] = *b"SLUICECT";
const VERSION: u16 = 1;

impl Catalogue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.put_u16(VERSION);
        out.put_u64(self.log_id);
        out.put_u8(u8::from(self.clean));
        out.put_u32(self.epoch as u32);
        out.put_u32(self.next_partition);
        out.put_u64(self.next_generation);
        out.put_u64(self.mark.lsn);
        out.put_u64(self.mark.generation);
        out.put_u64(self.mark.position);
        out.put_u64(self.kept_from);
        out.put_u64(self.time_ms);
        out.put_u32(u32::try_from(self.streams.len()).expect("streams are bounded"));
        for stream in &self.streams {
            stream.settings.encode(&mut out);
            encode_places(&stream.places, &mut out);
            for mark in &stream.marks {
                out.put_u64(mark.segment_base);
                out.put_u64(mark.position);
                out.put_u64(mark.next_offset);
                out.put_u64(mark.log_start);
            }
        }
        let crc = crc_fast::crc32_iscsi(&out);
        out.put_u32(crc);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, crc) = bytes
            .split_at_checked(bytes.len().wrapping_sub(4))
            .unwrap_or_default();
        if crc != crc_fast::crc32_iscsi(body).to_le_bytes() {
            return Err("the checksum of the catalogue does not match");
        }
        let mut fields = Fields::new(&body[MAGIC.len() + 2..]);
        let mut catalogue = Self {
            log_id: fields.u64()?,
            clean: fields.bool()?,
            epoch: fields.u32()? as i32,
            next_partition: fields.u32()?,
            next_generation: fields.u64()?,
            mark: JournalMark {
                lsn: fields.u64()?,
                generation: fields.u64()?,
                position: fields.u64()?,
            },
            kept_from: fields.u64()?,
            time_ms: fields.u64()?,
            streams: Vec::new(),
        };
        for _ in 0..fields.u32()? {
            let settings = StreamSettings::decode(&mut fields)?;
            let places = decode_places(&mut fields)?;
            let mut marks = Vec::with_capacity(places.len());
            for _ in &places {
                marks.push(PartitionMark {
                    segment_base: fields.u64()?,
                    position: fields.u64()?,
                    next_offset: fields.u64()?,
                    log_start: fields.u64()?,
                });
            }
            catalogue.streams.push(CatalogueStream {
                settings,
                places,
                marks,
            });
        }
        if fields.is_empty() {
            Ok(catalogue)
        } else {
            Err("the catalogue is too long")
        }
    }

    /// Reads the catalogue; none if there is no such file.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, Error> {
        if !disk.exists(CATALOGUE) {
            return Ok(None);
        }
        let file = disk
            .open(CATALOGUE, Open::Read)
            .map_err(|e| Error::disk(CATALOGUE, "open", e))?;
        let bytes = read_whole(&*file, CATALOGUE_BYTES_MAX)
            .map_err(|e| Error::disk_at(CATALOGUE, "read", 0, e))?;
        if !bytes.starts_with(&MAGIC) || bytes.len() < MAGIC.len() + 2 {
            return Err(Error::corrupt(CATALOGUE, 0, "this is not a catalogue"));
        }
        let version = u16::from_le_bytes([bytes[MAGIC.len()], bytes[MAGIC.len() + 1]]);
        if version != VERSION {
            let what = format!("the catalogue has format version {version}, not {VERSION}");
            return Err(Error::Unsupported {
                path: CATALOGUE.into(),
                what: what.into(),
            });
        }
        Self::decode(&bytes)
            .map(Some)
            .map_err(|what| Error::corrupt(CATALOGUE, 0, what))
    }
}

/// Puts an encoded catalogue in place of the old one; durable when it returns.
pub(crate) fn replace(disk: &dyn Disk, encoded: &[u8]) -> Result<(), Error> {
    let file = disk
        .open(CATALOGUE_NEW, Open::Create)
        .map_err(|e| Error::disk(CATALOGUE_NEW, "open", e))?;
    let write = |e| Error::disk_at(CATALOGUE_NEW, "write", 0, e);
    file.set_len(0).map_err(write)?;
    file.write_at(&[encoded], 0).map_err(write)?;
    file.sync_all()
        .map_err(|e| Error::disk(CATALOGUE_NEW, "sync", e))?;
    disk.rename(CATALOGUE_NEW, CATALOGUE)
        .map_err(|e| Error::disk(CATALOGUE_NEW, "rename", e))?;
    disk.sync_dir(ROOT)
        .map_err(|e| Error::disk(CATALOGUE, "sync", e))
}

/// The data directory itself.
pub(crate) const ROOT: &str = "";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn sample() -> Catalogue {
        Catalogue {
            log_id: 7,
            clean: true,
            epoch: 3,
            next_partition: 12,
            next_generation: 9,
            mark: JournalMark {
                lsn: 100,
                generation: 8,
                position: 4096,
            },
            kept_from: 90,
            time_ms: 1_700_000_000_000,
            streams: vec![CatalogueStream {
                settings: StreamSettings::new("s"),
                places: vec![Place { id: 11, suffix: 2 }],
                marks: vec![PartitionMark {
                    segment_base: 5,
                    position: 6,
                    next_offset: 7,
                    log_start: 4,
                }],
            }],
        }
    }

    #[test]
    fn a_catalogue_is_replaced_and_read_back() {
        let disk = MemoryDisk::new();
        assert_eq!(Catalogue::read(&disk).unwrap(), None);
        replace(&disk, &Catalogue::default().encode()).unwrap();
        replace(&disk, &sample().encode()).unwrap();
        disk.crash(true);
        assert_eq!(Catalogue::read(&disk).unwrap(), Some(sample()));
    }

    #[test]
    fn a_damaged_catalogue_is_named() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let disk = MemoryDisk::new();
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            replace(&disk, &changed).unwrap();
            let error = Catalogue::read(&disk).unwrap_err().to_string();
            assert!(error.contains("catalogue"), "{error}");
        }
        for length in 0..bytes.len() {
            let disk = MemoryDisk::new();
            replace(&disk, &bytes[..length]).unwrap();
            Catalogue::read(&disk).unwrap_err();
        }
    }
}
