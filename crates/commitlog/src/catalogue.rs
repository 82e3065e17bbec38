//! The catalogue: what streams there are and up to where each partition is durable in its segments.
//! It is replaced in one step at each checkpoint, and recovery begins from it.

use std::io;

use crate::disk::{Disk, Open, is_unreadable, read_whole};
use crate::error::Error;
use crate::fields::{Fields, Malformed, Put};
use crate::journal::JournalMark;
use crate::limits::{CATALOGUE_BYTES_MAX, CATALOGUE_READ_BYTES_MAX};
use crate::partition::{AbortedMark, ClosedMark, PartitionMark};
use crate::producers::Producers;
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
    /// One for each place; empty ones for memory streams.
    pub(crate) transactions: Vec<Transactions>,
}

/// What the mark of a partition leaves out: its producers, its aborted transactions and its closed
/// segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    pub(crate) producers: Producers,
    pub(crate) aborted: Vec<AbortedMark>,
    /// None where a catalogue of an older version does not say.
    pub(crate) closed: Option<Vec<ClosedMark>>,
}

pub(crate) const CATALOGUE: &str = "catalogue";
const CATALOGUE_NEW: &str = "catalogue.new";
const MAGIC: [u8; 8] = *b"SLUICECT";
/// Version 2 has producers and aborted transactions beside version 1, version 3 closed segments too,
/// version 4 their lengths. Before version 5 compaction left no word of the lengths that it changed, so
/// those of compacted streams say nothing.
const VERSION: u16 = 5;

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
            for transactions in &stream.transactions {
                transactions.encode(&mut out);
            }
        }
        let crc = crc_fast::crc32_iscsi(&out);
        out.put_u32(crc);
        out
    }

    fn decode(bytes: &[u8], version: u16) -> Result<Self, Malformed> {
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
            let mut transactions = Vec::with_capacity(places.len());
            for _ in &places {
                transactions.push(match version {
                    1 => Transactions::default(),
                    _ => Transactions::decode(&mut fields, version, settings.compact)?,
                });
            }
            catalogue.streams.push(CatalogueStream {
                settings,
                places,
                marks,
                transactions,
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
        Self::read_within(disk, CATALOGUE_READ_BYTES_MAX)
    }

    fn read_within(disk: &dyn Disk, bytes_max: u64) -> Result<Option<Self>, Error> {
        if !disk.exists(CATALOGUE) {
            return Ok(None);
        }
        let file = disk
            .open(CATALOGUE, Open::Read)
            .map_err(|e| Error::disk(CATALOGUE, "open", e))?;
        let read = |e| Error::disk_at(CATALOGUE, "read", 0, e);
        let bytes = file.len().map_err(read)?;
        if bytes > bytes_max {
            return Err(Error::Unsupported {
                path: CATALOGUE.into(),
                what: format!("the catalogue has {bytes} bytes, the most is {bytes_max}").into(),
            });
        }
        let bytes = read_whole(&*file, bytes_max)
            .map_err(io::Error::from)
            .map_err(|source| {
                if is_unreadable(&source) {
                    Error::hopeless(CATALOGUE, format!("it cannot be read ({source})"))
                } else {
                    read(source)
                }
            })?;
        if !bytes.starts_with(&MAGIC) || bytes.len() < MAGIC.len() + 2 {
            return Err(Error::hopeless(CATALOGUE, "this is not a catalogue"));
        }
        let version = u16::from_le_bytes([bytes[MAGIC.len()], bytes[MAGIC.len() + 1]]);
        if !(1..=VERSION).contains(&version) {
            let what = format!("the catalogue has format version {version}, not 1 to {VERSION}");
            return Err(Error::Unsupported {
                path: CATALOGUE.into(),
                what: what.into(),
            });
        }
        Self::decode(&bytes, version)
            .map(Some)
            .map_err(|what| Error::hopeless(CATALOGUE, what))
    }
}

impl Transactions {
    fn encode(&self, out: &mut Vec<u8>) {
        self.producers.encode(out);
        out.put_u32(u32::try_from(self.aborted.len()).expect("segments are bounded"));
        for (base, count) in &self.aborted {
            out.put_u64(*base);
            out.put_u64(*count);
        }
        let closed = self.closed.as_deref().unwrap_or_default();
        out.put_u32(u32::try_from(closed.len()).expect("segments are bounded"));
        for mark in closed {
            out.put_u64(mark.base);
            out.put_u64(mark.next);
            out.put_u64(mark.size_bytes);
        }
    }

    fn decode(fields: &mut Fields<'_>, version: u16, compact: bool) -> Result<Self, Malformed> {
        let mut transactions = Self {
            producers: Producers::decode(fields)?,
            aborted: Vec::new(),
            closed: None,
        };
        for _ in 0..fields.u32()? {
            transactions.aborted.push((fields.u64()?, fields.u64()?));
        }
        if version > 2 {
            let mut closed = Vec::new();
            for _ in 0..fields.u32()? {
                let (base, next) = (fields.u64()?, fields.u64()?);
                let size_bytes = if version > 3 { fields.u64()? } else { 0 };
                let says_nothing = version == 4 && compact;
                closed.push(ClosedMark {
                    base,
                    next,
                    size_bytes: if says_nothing { 0 } else { size_bytes },
                });
            }
            transactions.closed = Some(closed);
        }
        Ok(transactions)
    }
}

/// Puts an encoded catalogue in place of the old one; durable when it returns. One beyond
/// [`CATALOGUE_BYTES_MAX`] is refused, and the old one stays.
pub(crate) fn replace(disk: &dyn Disk, encoded: &[u8]) -> Result<(), Error> {
    replace_within(disk, encoded, CATALOGUE_BYTES_MAX)
}

fn replace_within(disk: &dyn Disk, encoded: &[u8], bytes_max: u64) -> Result<(), Error> {
    if encoded.len() as u64 > bytes_max {
        let what = format!("it has {} bytes, the most is {bytes_max}", encoded.len());
        let source = io::Error::new(io::ErrorKind::FileTooLarge, what);
        return Err(Error::disk(CATALOGUE, "write", source));
    }
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

    fn closed(base: u64, next: u64) -> ClosedMark {
        ClosedMark {
            base,
            next,
            size_bytes: 100 + base,
        }
    }

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
                transactions: vec![Transactions {
                    producers: Producers::default(),
                    aborted: vec![(5, 2)],
                    closed: Some(vec![closed(0, 3), closed(3, 5)]),
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
    fn a_catalogue_that_could_not_be_read_back_leaves_the_old_one_in_place() {
        let disk = MemoryDisk::new();
        replace(&disk, &sample().encode()).unwrap();
        let encoded = Catalogue::default().encode();
        let bytes = encoded.len() as u64;
        let error = replace_within(&disk, &encoded, bytes - 1).unwrap_err();
        assert!(error.to_string().contains("catalogue"), "{error}");
        assert_eq!(Catalogue::read(&disk).unwrap(), Some(sample()));
        replace_within(&disk, &encoded, bytes).unwrap();
        assert_eq!(Catalogue::read(&disk).unwrap(), Some(Catalogue::default()));
    }

    #[test]
    fn a_catalogue_too_large_to_be_read_is_not_called_damaged() {
        let disk = MemoryDisk::new();
        let encoded = sample().encode();
        let bytes = encoded.len() as u64;
        replace(&disk, &encoded).unwrap();
        let error = Catalogue::read_within(&disk, bytes - 1).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(&bytes.to_string()), "{error}");
        assert_eq!(
            Catalogue::read_within(&disk, bytes).unwrap(),
            Some(sample())
        );
    }

    /// Bytes that the first release wrote: one stream with one partition.
    #[test]
    fn a_catalogue_of_version_1_is_read() {
        let mut bytes = b"SLUICECT".to_vec();
        bytes.extend([1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 12, 0, 0, 0]);
        for number in [9u64, 100, 8, 4096, 90, 1_700_000_000_000] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([1, 0, 0, 0]);
        bytes.extend([1, 1, 0, 0, 0, b's', 1, 0, 0, 0, 1]);
        bytes.extend([0; 27]);
        bytes.extend([0, 0]);
        bytes.extend((128u64 << 20).to_le_bytes());
        bytes.extend([0; 17]);
        bytes.extend([1, 0, 0, 0, 11, 0, 0, 0, 2, 0, 0, 0]);
        for number in [5u64, 6, 7, 4] {
            bytes.extend(number.to_le_bytes());
        }
        let crc = crc_fast::crc32_iscsi(&bytes);
        bytes.extend(crc.to_le_bytes());
        let disk = MemoryDisk::new();
        replace(&disk, &bytes).unwrap();
        let mut expected = sample();
        expected.streams[0].transactions = vec![Transactions::default()];
        assert_eq!(Catalogue::read(&disk).unwrap(), Some(expected));
    }

    /// The sample as older versions wrote it: what they lack is cut out of today's bytes.
    fn as_version(version: u8) -> Vec<u8> {
        version_of(&sample(), version)
    }

    fn version_of(catalogue: &Catalogue, version: u8) -> Vec<u8> {
        let mut bytes = catalogue.encode();
        bytes.truncate(bytes.len() - 4);
        // Its last fields: how many closed segments, and of each base, next and length.
        let closed_at = bytes.len() - (4 + 2 * 24);
        let closed = bytes.split_off(closed_at);
        if version > 3 {
            bytes.extend(&closed);
        } else if version == 3 {
            bytes.extend(&closed[..4]);
            for mark in closed[4..].chunks(24) {
                bytes.extend(&mark[..16]);
            }
        }
        bytes[MAGIC.len()] = version;
        let crc = crc_fast::crc32_iscsi(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    #[test]
    fn catalogues_of_versions_2_and_3_are_read() {
        for version in [2, 3] {
            let disk = MemoryDisk::new();
            replace(&disk, &as_version(version)).unwrap();
            let mut expected = sample();
            let known = &mut expected.streams[0].transactions[0].closed;
            if version == 2 {
                *known = None;
            } else {
                let marks = known.iter_mut().flatten();
                marks.for_each(|mark| mark.size_bytes = 0);
            }
            assert_eq!(Catalogue::read(&disk).unwrap(), Some(expected), "{version}");
        }
    }

    #[test]
    fn version_4_says_nothing_of_lengths_that_compaction_may_have_changed() {
        for compact in [false, true] {
            let mut expected = sample();
            expected.streams[0].settings.compact = compact;
            let disk = MemoryDisk::new();
            replace(&disk, &version_of(&expected, 4)).unwrap();
            if compact {
                let known = &mut expected.streams[0].transactions[0].closed;
                let marks = known.iter_mut().flatten();
                marks.for_each(|mark| mark.size_bytes = 0);
            }
            assert_eq!(Catalogue::read(&disk).unwrap(), Some(expected), "{compact}");
        }
    }

    #[test]
    fn a_catalogue_of_a_newer_version_is_refused_and_left_alone() {
        let disk = MemoryDisk::new();
        let newer = as_version(VERSION as u8 + 1);
        replace(&disk, &newer).unwrap();
        let error = Catalogue::read(&disk).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let text = error.to_string();
        let version = VERSION + 1;
        assert!(text.contains(&format!("version {version}")), "{text}");
        assert!(text.contains("start that version"), "{text}");
        assert!(!text.contains("--accept-loss"), "{text}");
        assert_eq!(disk.contents(CATALOGUE), Some(newer));
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
