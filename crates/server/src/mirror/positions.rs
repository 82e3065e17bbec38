//! How positions stand in the metadata of group offsets: whose they are, and one for each
//! partition. Pure text; it knows nothing of Kafka clients.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use commitlog::PartitionId;

/// First word of the text.
const VERSION: &str = "1";

/// Whose positions these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Identity of the data directory: offsets mean nothing in another.
    pub directory: String,
    /// Identity of the process, so that a successor is told from oneself, and the number of its
    /// shards.
    pub incarnation: String,
}

impl Claim {
    /// That of a process with that many shards.
    pub fn new(directory: String, process: &str, shards: u32) -> Self {
        let incarnation = format!("{process}/{shards}");
        Self {
            directory,
            incarnation,
        }
    }

    /// Whether another process has written its claim behind this one's; `claimed`: of each shard of
    /// this process, whether its slots had this claim when these claims were read. It concerns a
    /// shard that has none yet, too: the other process fences only who began before it.
    pub fn is_overwritten(&self, claims: &BTreeMap<u32, Self>, claimed: &[bool]) -> bool {
        claims.iter().any(|(slot, claim)| {
            let owner = owner(*slot, claimed.len() as u32) as usize;
            claimed[owner] && claim.incarnation != self.incarnation
        })
    }

    /// How many shards the process has.
    pub fn shards(&self) -> Option<u32> {
        let (_, shards) = self.incarnation.rsplit_once('/')?;
        shards.parse().ok()
    }
}

/// Claim and positions as text.
pub fn encode(claim: &Claim, positions: &BTreeMap<PartitionId, u64>) -> String {
    let mut text = format!("{VERSION} {} {}", claim.directory, claim.incarnation);
    for (partition, next_offset) in positions {
        let _ = write!(text, " {partition:x}:{next_offset:x}");
    }
    text
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub fn decode(text: &str) -> Option<(Claim, BTreeMap<PartitionId, u64>)> {
    let mut words = text.split(' ');
    if words.next() != Some(VERSION) {
        return None;
    }
    let claim = Claim {
        directory: words.next()?.to_owned(),
        incarnation: words.next()?.to_owned(),
    };
    let mut positions = BTreeMap::new();
    for word in words {
        let (partition, next_offset) = word.split_once(':')?;
        let partition = PartitionId::from_str_radix(partition, 16).ok()?;
        let next_offset = u64::from_str_radix(next_offset, 16).ok()?;
        // Another number of slots may have left an older one behind.
        let known: &mut u64 = positions.entry(partition).or_default();
        *known = next_offset.max(*known);
    }
    Some((claim, positions))
}

/// The slot that holds a partition's position, of so many.
pub fn slot(partition: PartitionId, slots: u32) -> u32 {
    partition % slots.max(1)
}

/// The shard that owns a slot, of so many.
pub fn owner(slot: u32, shards: u32) -> u32 {
    slot % shards.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            directory: "AbC_-12".to_owned(),
            incarnation: "18f".to_owned(),
        }
    }

    #[test]
    fn positions_come_back_as_they_were_written() {
        for positions in [
            BTreeMap::new(),
            BTreeMap::from([(1, 0), (0xffff_ffff, u64::MAX - 1)]),
        ] {
            let text = encode(&claim(), &positions);
            assert_eq!(decode(&text), Some((claim(), positions)), "{text}");
        }
        let text = encode(&claim(), &BTreeMap::from([(26, 255)]));
        assert_eq!(text, "1 AbC_-12 18f 1a:ff");
    }

    #[test]
    fn what_another_wrote_is_not_taken_for_positions() {
        for text in [
            "",
            "2 a b 1:1",
            "1",
            "1 a",
            "1 a b 1",
            "1 a b x:1",
            "1 a b 1:-1",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_claim_tells_how_many_shards_its_process_has() {
        let claim = Claim::new("d".to_owned(), "p", 3);
        let text = encode(&claim, &BTreeMap::new());
        assert_eq!(decode(&text).and_then(|(claim, _)| claim.shards()), Some(3));
    }

    #[test]
    fn who_writes_over_one_shard_has_taken_over_from_all() {
        let (own, other) = (
            Claim::new("d".to_owned(), "own", 3),
            Claim::new("d".to_owned(), "other", 1),
        );
        let claims = |of: [&Claim; 6]| (0..).zip(of.map(Clone::clone)).collect();
        let begun = claims([&own, &own, &other, &own, &own, &other]);
        assert!(!own.is_overwritten(&begun, &[true, true, false]), "a start");
        let taken = claims([&other; 6]);
        assert!(!own.is_overwritten(&taken, &[false; 3]), "a successor");
        assert!(own.is_overwritten(&taken, &[true, false, false]));
        assert!(own.is_overwritten(&begun, &[true, true, true]));
        assert!(!own.is_overwritten(&claims([&own; 6]), &[true; 3]));
    }

    #[test]
    fn every_slot_has_one_owner() {
        let owned = |shards| (0..32).map(|slot| owner(slot, shards)).collect::<Vec<_>>();
        assert!(owned(1).iter().all(|shard| *shard == 0));
        assert_eq!(owned(3)[..4], [0, 1, 2, 0]);
        assert_eq!(slot(70, 32), 6);
    }
}
