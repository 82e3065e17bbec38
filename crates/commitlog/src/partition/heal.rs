//! What `--accept-loss` does for a damaged segment: it is written anew with every batch that is still
//! whole, so that one bad place takes nothing else with it. What goes is named.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::{BatchHead, HEADER_BYTES, set_base_offset};
use crate::disk::{Disk, Open, read_whole};
use crate::error::Error;
use crate::segment::{CLEANED, Segment, SegmentRewrite, check_batch};

use super::open::offsets;
use super::{Notice, PartitionMark};

/// Looks at every batch of these segments; position and next offset of the mark follow where the
/// active one becomes shorter. What went is told in `lost`.
pub(super) fn segments(
    disk: &Arc<dyn Disk>,
    dir: &str,
    bases: &[u64],
    mark: &mut PartitionMark,
    lost: &mut Vec<Notice>,
) -> Result<(), Error> {
    for (at, &base) in bases.iter().enumerate() {
        if base == mark.segment_base {
            active(disk, dir, mark, lost)?;
            continue;
        }
        let next = bases.get(at + 1).copied().unwrap_or(mark.next_offset);
        closed(disk, dir, (base, next), lost)?;
    }
    Ok(())
}

/// The same for one closed segment, whose offsets lie from `base` to before `next`.
pub(super) fn closed(
    disk: &Arc<dyn Disk>,
    dir: &str,
    (base, next): (u64, u64),
    lost: &mut Vec<Notice>,
) -> Result<(), Error> {
    let found = Found::read(disk, dir, base, (u64::MAX, next))?;
    if found.is_damaged() {
        lost.extend(found.told());
        found.write_anew(disk, dir)?;
    }
    Ok(())
}

/// The same for the active segment alone.
pub(super) fn active(
    disk: &Arc<dyn Disk>,
    dir: &str,
    mark: &mut PartitionMark,
    lost: &mut Vec<Notice>,
) -> Result<(), Error> {
    let bounds = (mark.position, mark.next_offset);
    let found = Found::read(disk, dir, mark.segment_base, bounds)?;
    if !found.is_damaged() && found.bytes.len() as u64 == mark.position {
        return Ok(());
    }
    if (found.bytes.len() as u64) < mark.position {
        let what = format!(
            "at byte {}: the file ends there, but the checkpoint knows {} bytes; {} are lost",
            found.bytes.len(),
            mark.position,
            offsets(found.kept_to(), mark.next_offset),
        );
        lost.push(Notice {
            path: found.path.clone(),
            what,
        });
    }
    lost.extend(found.told());
    mark.position = found.write_anew(disk, dir)?;
    mark.next_offset = found.kept_to();
    Ok(())
}

/// A stretch of a segment's file.
struct Piece {
    at: Range<usize>,
    is: Is,
}

enum Is {
    /// A batch that stays.
    Whole(BatchHead),
    /// A batch whose checksum matches, but whose offsets, which lie outside it, are others than
    /// they can have been; where only one place is left for it, that.
    Astray(BatchHead, Option<u64>),
    /// No batch: says why.
    Damaged(String),
}

/// What a segment's file holds.
struct Found {
    base: u64,
    next: u64,
    path: String,
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Found {
    /// Reads a segment up to byte `end`; all its offsets lie before `next`.
    fn read(
        disk: &Arc<dyn Disk>,
        dir: &str,
        base: u64,
        (end, next): (u64, u64),
    ) -> Result<Self, Error> {
        let path = Segment::at(disk, dir, base).path("log");
        let file = disk
            .open(&path, Open::Read)
            .map_err(|source| Error::disk(&path, "open", source))?;
        let bytes = read_whole(&*file, end).map_err(|failed| failed.of(&path))?;
        let mut found = Self {
            base,
            next,
            path,
            pieces: Vec::new(),
            bytes,
        };
        found.divide();
        found.sort_out();
        found.put_right();
        Ok(found)
    }

    /// Finds the batches whose checksums match, wherever they begin.
    fn divide(&mut self) {
        let bytes = &self.bytes[..];
        let mut at = 0;
        while at < bytes.len() {
            let (end, is) = match check_batch(&bytes[at..], 0) {
                Ok(head) => (at + head.size_bytes(), Is::Whole(head)),
                Err(error) => {
                    let last = bytes.len().saturating_sub(HEADER_BYTES);
                    let behind = (at + 1..=last).find(|at| check_batch(&bytes[*at..], 0).is_ok());
                    let end = behind.unwrap_or(bytes.len());
                    (end, Is::Damaged(error.to_string()))
                }
            };
            self.pieces.push(Piece { at: at..end, is });
            at = end;
        }
    }

    /// Offsets rise: of the batches that are whole, the most that do so stay. One that was torn out
    /// of its place thus takes none of those behind it with it.
    fn sort_out(&mut self) {
        let mut chains = Chains::default();
        for (number, piece) in self.pieces.iter().enumerate() {
            if let Is::Whole(head) = piece.is
                && head.base_offset() >= self.base
                && head.last_offset() < self.next
            {
                chains.add(number, &head);
            }
        }
        let mut kept = chains.longest();
        for (number, piece) in self.pieces.iter_mut().enumerate() {
            if kept.front() == Some(&number) {
                kept.pop_front();
            } else if let Is::Whole(head) = piece.is {
                piece.is = Is::Astray(head, None);
            }
        }
    }

    /// Where batches that went astray fill exactly what their neighbours leave, their offsets are
    /// known all the same.
    fn put_right(&mut self) {
        let (mut from, mut run) = (self.base, Vec::new());
        for number in 0..=self.pieces.len() {
            let to = match self.pieces.get(number).map(|piece| &piece.is) {
                Some(Is::Astray(head, _)) => {
                    run.push((number, u64::from(head.last_offset_delta()) + 1));
                    continue;
                }
                // Nobody knows how many batches were there.
                Some(Is::Damaged(_)) => None,
                Some(Is::Whole(head)) => Some(head.base_offset()),
                None => Some(self.next),
            };
            let span: u64 = run.iter().map(|(_, span)| span).sum();
            let fits = to.is_some_and(|to| to.checked_sub(from) == Some(span));
            for (number, span) in run.drain(..) {
                if let Is::Astray(_, place) = &mut self.pieces[number].is
                    && fits
                {
                    *place = Some(from);
                    from += span;
                }
            }
            from = match self.pieces.get(number).map(|piece| &piece.is) {
                Some(Is::Whole(head)) => head.next_offset(),
                // Nothing that follows can be placed by what lies before this.
                _ => u64::MAX,
            };
        }
    }

    fn is_damaged(&self) -> bool {
        let mut pieces = self.pieces.iter();
        pieces.any(|piece| !matches!(piece.is, Is::Whole(_)))
    }

    /// The offset behind the last batch that stays.
    fn kept_to(&self) -> u64 {
        let kept = self.pieces.iter().rev().find_map(Piece::kept);
        kept.map_or(self.base, |(_, next)| next)
    }

    /// What is wrong and what becomes of it, one for each place.
    fn told(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut from = self.base;
        for (number, piece) in self.pieces.iter().enumerate() {
            let at = piece.at.start;
            if let Some((_, next)) = piece.kept() {
                from = next;
            }
            let behind = self.pieces[number + 1..].iter().find_map(Piece::kept);
            let to = behind.map_or(self.next, |(first, _)| first);
            let what = match &piece.is {
                Is::Whole(_) => continue,
                Is::Astray(head, Some(place)) => format!(
                    "the batch at byte {at} says that it begins with offset {}; that is damaged, \
                     and {place} was put in its place, the only one that fits those around it",
                    head.base_offset()
                ),
                Is::Astray(head, None) => format!(
                    "the batch at byte {at} is damaged: it says that it holds {}, which does not \
                     fit those around it; left out, and {} with it",
                    offsets(head.base_offset(), head.next_offset()),
                    offsets(from, to)
                ),
                Is::Damaged(what) => format!(
                    "the batch at byte {at} is damaged: {what}; left out, and {} with it",
                    offsets(from, to)
                ),
            };
            notices.push(Notice {
                path: self.path.clone(),
                what,
            });
        }
        notices
    }

    /// Returns the bytes of the new log. The indexes are made again when the segment is opened.
    fn write_anew(&self, disk: &Arc<dyn Disk>, dir: &str) -> Result<u64, Error> {
        let mut rewrite = SegmentRewrite::begin(disk, dir, self.base)?;
        for piece in &self.pieces {
            let batch = &self.bytes[piece.at.clone()];
            match piece.is {
                Is::Whole(_) => rewrite.append(batch)?,
                Is::Astray(_, Some(place)) => {
                    let mut batch = batch.to_vec();
                    set_base_offset(&mut batch, place);
                    rewrite.append(&batch)?;
                }
                Is::Astray(_, None) | Is::Damaged(_) => {}
            }
        }
        let segment = rewrite.finish()?.segment;
        // Without its old indexes first: a crash in between must not pair them with the new log.
        for extension in ["timeindex", "index"] {
            let path = segment.path(extension);
            if disk.exists(&path) {
                let removed = disk.remove_file(&path);
                removed.map_err(|source| Error::disk(path, "remove", source))?;
            }
        }
        for extension in ["log", "index", "timeindex"] {
            let path = segment.path(extension);
            let renamed = disk.rename(&format!("{path}.{CLEANED}"), &path);
            renamed.map_err(|source| Error::disk(path, "rename", source))?;
        }
        disk.sync_dir(dir)
            .map_err(|source| Error::disk(dir, "sync", source))?;
        Ok(segment.size_bytes())
    }
}

impl Piece {
    /// First offset and the offset behind the last one, as the batch is kept.
    fn kept(&self) -> Option<(u64, u64)> {
        match &self.is {
            Is::Whole(head) => Some((head.base_offset(), head.next_offset())),
            Is::Astray(head, Some(place)) => {
                Some((*place, place + u64::from(head.last_offset_delta()) + 1))
            }
            _ => None,
        }
    }
}

/// The longest run of batches, in the order of the file, whose offsets rise: for each length the run
/// that ends lowest.
#[derive(Default)]
struct Chains {
    /// For each length less one: where the best run of it ends.
    ends: Vec<usize>,
    links: Vec<Link>,
}

struct Link {
    number: usize,
    last_offset: u64,
    before: Option<usize>,
}

impl Chains {
    fn add(&mut self, number: usize, head: &BatchHead) {
        let links = &self.links;
        let length = self
            .ends
            .partition_point(|end| links[*end].last_offset < head.base_offset());
        let before = length.checked_sub(1).map(|shorter| self.ends[shorter]);
        let link = self.links.len();
        match self.ends.get(length) {
            Some(end) if self.links[*end].last_offset <= head.last_offset() => return,
            Some(_) => self.ends[length] = link,
            None => self.ends.push(link),
        }
        self.links.push(Link {
            number,
            last_offset: head.last_offset(),
            before,
        });
    }

    fn longest(&self) -> VecDeque<usize> {
        let mut run = VecDeque::new();
        let mut at = self.ends.last().copied();
        while let Some(link) = at.map(|at| &self.links[at]) {
            run.push_front(link.number);
            at = link.before;
        }
        run
    }
}
