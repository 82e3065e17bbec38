//! The journal's reading side: entries in sequence over all parts, and the judgement on where and
//! why the sequence ends. Torn tails end it; damage below a flushed position is an error.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, Open, read_whole};
use crate::entry::{ENTRY_ALIGN, ENTRY_HEAD_BYTES, ENTRY_MAGIC, EntryHead};
use crate::error::Error;
use crate::journal::JournalMark;
use crate::journal::part::{FoundPart, JOURNAL_DIR, PART_HEAD_BYTES};
use crate::limits::JOURNAL_PART_BYTES_MAX;
use crate::partition::Notice;
use crate::stream::Lsn;

/// A part in reading order. Entries from `limit` on were written anew in a later part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainPart {
    pub(crate) path: String,
    pub(crate) generation: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) limit: Lsn,
    pub(crate) flushed: Lsn,
}

/// Orders parts for reading. A part of a later generation overrules every earlier one from its
/// first sequence on: an earlier start found the sequence broken there. What is overruled wholly is left
/// out.
pub(crate) fn chain(used: &[FoundPart]) -> Vec<ChainPart> {
    let mut limit = Lsn::MAX;
    let mut chain = Vec::new();
    for part in used.iter().rev() {
        if part.head.first_lsn >= limit {
            continue;
        }
        chain.push(ChainPart {
            path: part.path.clone(),
            generation: part.head.generation,
            first_lsn: part.head.first_lsn,
            limit,
            flushed: part.head.flushed,
        });
        limit = part.head.first_lsn;
    }
    chain.reverse();
    chain
}

/// An entry as it was read: head checked, body not yet decoded.
pub(crate) struct RawEntry {
    pub(crate) head: EntryHead,
    pub(crate) body: Bytes,
    pub(crate) path: Arc<str>,
    pub(crate) position: u64,
}

/// What an operator allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leniency {
    pub(crate) accept_loss: bool,
    pub(crate) skip: Vec<Lsn>,
}

/// Reads entries in sequence.
pub(crate) struct JournalReader {
    disk: Arc<dyn Disk>,
    parts: VecDeque<ChainPart>,
    expected: Lsn,
    /// Entries up to here are known to have been flushed, so they must be there.
    flushed: Lsn,
    leniency: Leniency,
    open: Option<OpenPart>,
    notices: Vec<Notice>,
    /// Where the sequence ended, if that is nothing unusual.
    end: Option<Notice>,
    lossy: bool,
    ended: bool,
}

struct OpenPart {
    path: Arc<str>,
    generation: u64,
    limit: Lsn,
    bytes: Bytes,
    position: u64,
}

impl JournalReader {
    /// Reads what follows `mark`.
    pub(crate) fn after_mark(
        disk: Arc<dyn Disk>,
        chain: &[ChainPart],
        mark: JournalMark,
        leniency: Leniency,
    ) -> Result<Self, Error> {
        let mut reader = Self::new(disk, mark.lsn + 1, mark.lsn, leniency);
        let Some(at) = chain
            .iter()
            .position(|part| part.generation >= mark.generation)
        else {
            if mark.generation == 0 {
                // A new log that was cut short before its first part was written.
                reader.ended = true;
                return Ok(reader);
            }
            let newest = chain.last();
            let path = newest.map_or(JOURNAL_DIR, |part| &*part.path);
            let newest = newest.map_or(0, |part| part.generation);
            reader.damage(Error::corrupt(
                path,
                0,
                format!(
                    "the journal is from an older generation ({newest}) than the catalogue, which \
                     goes on at generation {}",
                    mark.generation
                ),
            ))?;
            reader.ended = true;
            return Ok(reader);
        };
        reader.parts = chain[at..].iter().cloned().collect();
        let first = &reader.parts[0];
        if first.generation == mark.generation {
            let position = mark.position;
            let first = reader.parts.pop_front().expect("it was just looked at");
            reader.open_part(&first, position)?;
        } else if first.first_lsn != mark.lsn + 1 {
            let what = format!(
                "it begins with entry {}, but entry {} is wanted next; the part of generation {} \
                 is missing",
                first.first_lsn,
                mark.lsn + 1,
                mark.generation
            );
            let error = Error::corrupt(&*first.path, 0, what);
            reader.damage(error)?;
            reader.ended = true;
        }
        Ok(reader)
    }

    /// Reads from entry `from` on; `flushed` is a position known to be flushed.
    pub(crate) fn from_lsn(
        disk: Arc<dyn Disk>,
        chain: &[ChainPart],
        from: Lsn,
        flushed: Lsn,
        leniency: Leniency,
    ) -> Result<Self, Error> {
        let mut reader = Self::new(disk, from, flushed, leniency);
        let at = chain.iter().rposition(|part| part.first_lsn <= from);
        let Some(at) = at else {
            let path = chain.first().map_or(JOURNAL_DIR, |part| &*part.path);
            return Err(Error::corrupt(
                path,
                0,
                format!("entry {from} is wanted, but the journal does not reach back to it"),
            ));
        };
        reader.parts = chain[at..].iter().cloned().collect();
        reader.expected = chain[at].first_lsn;
        while reader.expected < from && reader.next()?.is_some() {}
        Ok(reader)
    }

    fn new(disk: Arc<dyn Disk>, expected: Lsn, flushed: Lsn, leniency: Leniency) -> Self {
        Self {
            disk,
            parts: VecDeque::new(),
            expected,
            flushed,
            leniency,
            open: None,
            notices: Vec::new(),
            end: None,
            lossy: false,
            ended: false,
        }
    }

    /// The next entry, none at the end of the sequence.
    pub(crate) fn next(&mut self) -> Result<Option<RawEntry>, Error> {
        while !self.ended {
            let Some(open) = &mut self.open else {
                match self.parts.pop_front() {
                    Some(part) => self.open_part(&part, PART_HEAD_BYTES)?,
                    None => self.ended = true,
                }
                continue;
            };
            if self.expected >= open.limit {
                self.open = None;
                continue;
            }
            match open.entry(self.expected) {
                Ok(entry) => {
                    self.expected += 1;
                    self.flushed = self.flushed.max(entry.head.flushed);
                    return Ok(Some(entry));
                }
                Err(why) => self.judge(&why)?,
            }
        }
        Ok(None)
    }

    /// The sequence number that would come next.
    pub(crate) fn expected(&self) -> Lsn {
        self.expected
    }

    /// Whether flushed entries were given up.
    pub(crate) fn lossy(&self) -> bool {
        self.lossy
    }

    /// What an operator should know about where the sequence ended.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Where the sequence ended, where nothing was begun there nor follows: as each journal ends.
    pub(crate) fn take_end(&mut self) -> Option<Notice> {
        self.end.take()
    }

    fn open_part(&mut self, part: &ChainPart, position: u64) -> Result<(), Error> {
        self.flushed = self
            .flushed
            .max(part.flushed.min(self.expected.saturating_sub(1)));
        self.open = Some(OpenPart {
            path: Arc::from(&*part.path),
            generation: part.generation,
            limit: part.limit,
            bytes: load(&*self.disk, &part.path)?,
            position,
        });
        Ok(())
    }

    /// The expected entry is not where it should be: torn tail, or damage?
    fn judge(&mut self, why: &Break) -> Result<(), Error> {
        let open = self.open.take().expect("a part was being read");
        let ahead = self.look_ahead(&open)?;
        let flushed = self.flushed.max(ahead.flushed);
        let lsn = self.expected;
        if flushed < lsn {
            let notice = Notice {
                path: open.path.to_string(),
                what: format!(
                    "the journal ends before entry {lsn} at byte {}: {why}; nothing behind it was \
                     known to be flushed",
                    open.position
                ),
            };
            if why.is_usual() && !ahead.found {
                self.end = Some(notice);
            } else {
                self.notices.push(notice);
            }
            self.ended = true;
            return Ok(());
        }
        if self.leniency.skip.contains(&lsn) {
            if let Some(position) = ahead.successor {
                self.notices.push(Notice {
                    path: open.path.to_string(),
                    what: format!("entry {lsn} at byte {} was skipped: {why}", open.position),
                });
                self.lossy = true;
                self.expected += 1;
                self.open = Some(OpenPart { position, ..open });
                return Ok(());
            }
            if self
                .parts
                .front()
                .is_some_and(|part| part.first_lsn == lsn + 1)
            {
                self.lossy = true;
                self.expected += 1;
                return Ok(());
            }
        }
        self.damage(Error::corrupt(
            &*open.path,
            open.position,
            format!(
                "journal entry {lsn}: {why}, although the journal was flushed up to entry \
                 {flushed}; --skip-entry {lsn} goes on without this entry if what follows it is \
                 whole"
            ),
        ))?;
        self.ended = true;
        Ok(())
    }

    /// Damage is an error, or a notice where loss is accepted.
    fn damage(&mut self, error: Error) -> Result<(), Error> {
        if !self.leniency.accept_loss {
            return Err(error);
        }
        let Error::Corrupt {
            path,
            position,
            what,
        } = error
        else {
            return Err(error);
        };
        self.lossy = true;
        self.notices.push(Notice {
            path,
            what: format!("at byte {position}: {what}; what followed is given up"),
        });
        Ok(())
    }

    /// Looks for entries behind the break, in this part and all later ones.
    fn look_ahead(&self, open: &OpenPart) -> Result<Ahead, Error> {
        let mut ahead = Ahead::default();
        ahead.search(
            &open.bytes,
            open.position + ENTRY_ALIGN,
            open.generation,
            self.expected,
        );
        for part in &self.parts {
            ahead.flushed = ahead.flushed.max(part.flushed);
            if ahead.flushed >= self.expected {
                break;
            }
            let bytes = load(&*self.disk, &part.path)?;
            let mut later = Ahead::default();
            later.search(&bytes, PART_HEAD_BYTES, part.generation, self.expected);
            ahead.flushed = ahead.flushed.max(later.flushed);
            ahead.found |= later.found;
        }
        Ok(ahead)
    }
}

/// Why an entry is not where it should be.
enum Break {
    Full,
    Blank,
    /// Bytes of an older use of the part that are not the beginning of anything.
    Strange,
    /// Left from an older use of the part: its generation, and that of the part.
    Older(u64, u64),
    Other(Lsn),
    Checksum,
    Head(&'static str),
}

impl Break {
    /// Nothing was begun there: so every journal ends.
    fn is_usual(&self) -> bool {
        match self {
            Self::Full | Self::Blank | Self::Strange => true,
            Self::Older(found, generation) => found < generation,
            Self::Other(_) | Self::Checksum | Self::Head(_) => false,
        }
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the part is full"),
            Self::Blank => f.write_str("nothing is written there"),
            Self::Strange => f.write_str("no entry begins here"),
            Self::Older(found, generation) => write!(
                f,
                "what is there is left from an older generation ({found} instead of {generation})"
            ),
            Self::Other(lsn) => write!(f, "entry {lsn} is there instead"),
            Self::Checksum => f.write_str("its checksum does not match"),
            Self::Head(what) => f.write_str(what),
        }
    }
}

impl OpenPart {
    fn entry(&mut self, expected: Lsn) -> Result<RawEntry, Break> {
        let rest = &self.bytes[(self.position as usize).min(self.bytes.len())..];
        if rest.len() < ENTRY_HEAD_BYTES {
            return Err(Break::Full);
        }
        let head = EntryHead::decode(rest).map_err(|what| {
            let blank = rest[..ENTRY_HEAD_BYTES].iter().all(|byte| *byte == 0);
            if blank {
                Break::Blank
            } else if rest[..4] == ENTRY_MAGIC {
                Break::Head(what)
            } else {
                Break::Strange
            }
        })?;
        if head.generation != self.generation {
            return Err(Break::Older(head.generation, self.generation));
        }
        if head.lsn != expected {
            return Err(Break::Other(head.lsn));
        }
        if !head.matches(rest) {
            return Err(Break::Checksum);
        }
        let start = self.position as usize + ENTRY_HEAD_BYTES;
        let entry = RawEntry {
            head,
            body: self.bytes.slice(start..start + head.body_bytes as usize),
            path: Arc::clone(&self.path),
            position: self.position,
        };
        self.position += head.stride();
        Ok(entry)
    }
}

/// What was found behind a break.
#[derive(Default)]
struct Ahead {
    /// Some whole entry of this life is there.
    found: bool,
    /// Highest flushed position that a whole entry names.
    flushed: Lsn,
    /// Where the entry after the missing one begins.
    successor: Option<u64>,
}

impl Ahead {
    fn search(&mut self, bytes: &[u8], from: u64, generation: u64, missing: Lsn) {
        let mut at = from as usize;
        while at + ENTRY_HEAD_BYTES <= bytes.len() {
            let rest = &bytes[at..];
            let head = (rest[..4] == ENTRY_MAGIC)
                .then(|| EntryHead::decode(rest).ok())
                .flatten();
            let whole = head.filter(|head| {
                head.generation == generation && head.lsn > missing && head.matches(rest)
            });
            let Some(head) = whole else {
                at += ENTRY_ALIGN as usize;
                continue;
            };
            self.found = true;
            self.flushed = self.flushed.max(head.flushed);
            if head.lsn == missing + 1 {
                self.successor = Some(at as u64);
            }
            if self.flushed >= missing {
                break;
            }
            at += head.stride() as usize;
        }
    }
}

/// Highest flushed position that an entry beyond `missing` names in a part whose own header cannot
/// be read; 0 if there is none.
pub(crate) fn flushed_behind(disk: &dyn Disk, path: &str, missing: Lsn) -> Result<Lsn, Error> {
    let bytes = load(disk, path)?;
    let first = bytes.get(PART_HEAD_BYTES as usize..).unwrap_or_default();
    let Ok(head) = EntryHead::decode(first) else {
        return Ok(0);
    };
    let mut ahead = Ahead::default();
    ahead.search(&bytes, PART_HEAD_BYTES, head.generation, missing);
    Ok(ahead.flushed)
}

fn load(disk: &dyn Disk, path: &str) -> Result<Bytes, Error> {
    let file = disk
        .open(path, Open::Read)
        .map_err(|e| Error::disk(path, "open", e))?;
    let bytes = read_whole(&*file, JOURNAL_PART_BYTES_MAX).map_err(|failed| failed.of(path))?;
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::part::PartHead;

    fn part(generation: u64, first_lsn: Lsn) -> FoundPart {
        FoundPart {
            path: format!("{generation}"),
            head: PartHead {
                log_id: 1,
                generation,
                first_lsn,
                flushed: 0,
            },
            bytes: 0,
        }
    }

    #[test]
    fn a_later_part_overrules_earlier_ones_from_its_first_entry() {
        let parts = [
            part(1, 1),
            part(2, 50),
            part(3, 80),
            part(4, 60),
            part(5, 60),
        ];
        let chain: Vec<_> = chain(&parts)
            .into_iter()
            .map(|p| (p.generation, p.first_lsn, p.limit))
            .collect();
        assert_eq!(chain, [(1, 1, 50), (2, 50, 60), (5, 60, Lsn::MAX)]);
    }
}
