//! Downlinks: what is written to a stream of this node, or to a topic of the cluster behind, is
//! published to devices, each record once. It reads; the PUBLISHes and the position behind them are
//! one journal entry of a worker.

mod board;
mod limits;
mod position;
mod stream;
#[cfg(feature = "kafka")]
mod topic;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use broker::{Carried, DownlinkRules, Parcel, Refusal, SourceRecord, TopicTemplate};
use commitlog::PartitionId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::node::Node;
use crate::settings::{DownlinkSettings, DownlinkSource, leading_to};

pub use board::{Board, DownlinkPartitionRow, DownlinkRow};
pub use position::Positions;

/// Client id under which a downlink publishes, before its name.
const PUBLISHER: &str = "downlink/";

/// What a hook's record may be larger than the payload: base64, and escapes.
const COPY_GROWTH: u64 = 2;

/// What a hook's record has besides its payload: names, times, the topic.
const COPY_BYTES: usize = 2 << 10;

/// What all parts of one downlink share.
struct Link {
    node: Arc<Node>,
    board: Arc<Board>,
    rules: Arc<DownlinkRules>,
    positions: Arc<Positions>,
    stop: watch::Receiver<bool>,
}

/// Why a parcel was not taken.
enum Untaken {
    /// It may be taken later.
    Later,
    /// Not before the next start.
    Never,
}

/// Starts the downlinks of a node; they end with `stop`, or with the node.
pub fn start(
    node: &Arc<Node>,
    tasks: &mut JoinSet<()>,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    if node.downlinks.is_empty() {
        return Ok(());
    }
    let positions = Arc::new(Positions::load(&node.log)?);
    for board in node.downlinks.iter() {
        let settings = board.settings();
        let link = Link {
            node: Arc::clone(node),
            board: Arc::clone(board),
            rules: Arc::new(rules(node, settings)?),
            positions: Arc::clone(&positions),
            stop: stop.clone(),
        };
        match settings.source {
            DownlinkSource::Stream(_) => {
                tasks.spawn(stream::follow(link));
            }
            DownlinkSource::Topic(_) => follow_topic(link, tasks),
        }
    }
    Ok(())
}

#[cfg(feature = "kafka")]
fn follow_topic(link: Link, tasks: &mut JoinSet<()>) {
    let runtime = tokio::runtime::Handle::current();
    tasks.spawn_blocking(move || topic::follow(&link, &runtime));
}

/// Settings that name a topic are refused without the feature.
#[cfg(not(feature = "kafka"))]
fn follow_topic(link: Link, _tasks: &mut JoinSet<()>) {
    link.board
        .failed("this program has no client of Apache Kafka");
}

fn rules(node: &Node, downlink: &DownlinkSettings) -> anyhow::Result<DownlinkRules> {
    let settings = &node.settings;
    let partitions = |name: &str| -> anyhow::Result<Vec<PartitionId>> {
        let stream = node.log.stream(name);
        let stream = stream.with_context(|| format!("there is no stream {name}"))?;
        Ok(stream.partitions)
    };
    let back = leading_to(
        &downlink.source,
        &settings.downlinks,
        &settings.hooks,
        settings.mirror.as_ref(),
    );
    let part_bytes = settings.log.log_config().journal_part_bytes;
    let mut forbidden = DownlinkRules::no_streams();
    for name in &back {
        forbidden.extend(partitions(name)?);
    }
    Ok(DownlinkRules {
        source: downlink.source.name().into(),
        publisher: format!("{PUBLISHER}{}", downlink.name).into(),
        topic: TopicTemplate::parse(&downlink.topic).map_err(anyhow::Error::msg)?,
        qos: mqtt::QoS::from_u8(downlink.qos).context("a QoS is 0, 1 or 2")?,
        retain: downlink.retain,
        expiry_s: downlink.expiry_s,
        dead_letters: partitions(&downlink.dead_letter)?.into(),
        forbidden,
        record_bytes_max: record_bytes_max(part_bytes, settings.hooks.len()),
    })
}

/// Bytes of records, each with [`COPY_BYTES`], of which all that so many hooks make is in one entry
/// of the journal, beside what else its worker has in that turn.
fn record_bytes_max(part_bytes: u64, hooks: usize) -> usize {
    let copies = 2 + hooks as u64;
    (part_bytes / 2 / copies / COPY_GROWTH) as usize
}

/// Where a partition is, and under which key that is kept.
struct Place {
    partition: u32,
    key: Box<[u8]>,
    next: u64,
}

impl Link {
    fn settings(&self) -> &DownlinkSettings {
        self.board.settings()
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Records in parcels that an entry of the journal holds, whatever hooks make of them.
    fn parcels(&self, records: Vec<SourceRecord>, end: u64) -> Vec<(Vec<SourceRecord>, u64)> {
        parcels(records, end, self.rules.record_bytes_max)
    }

    /// Publishes records of a partition, and keeps the position behind them; tries again until the
    /// log has taken both. False: it never will.
    async fn carry(&self, place: &mut Place, records: Vec<SourceRecord>, next: u64) -> bool {
        static TOKENS: AtomicU64 = AtomicU64::new(1);
        let mut parcel = Parcel {
            token: 0,
            rules: Arc::clone(&self.rules),
            partition: place.partition,
            records,
            table: self.positions.table,
            key: place.key.clone(),
            next_offset: next,
        };
        while !self.is_stopping() {
            parcel.token = TOKENS.fetch_add(1, Ordering::Relaxed);
            match self.hand_over(parcel.clone()).await {
                Ok(carried) => {
                    self.board.carried(&carried);
                    place.next = next;
                    return true;
                }
                Err(Untaken::Never) => return false,
                Err(Untaken::Later) => {
                    self.board.waiting("the log takes nothing at the moment");
                    tokio::time::sleep(limits::RETRY).await;
                }
            }
        }
        false
    }

    async fn hand_over(&self, parcel: Parcel) -> Result<Carried, Untaken> {
        match self.node.carry(parcel).await {
            Some(Ok(carried)) => Ok(carried),
            Some(Err(Refusal::Full)) => Err(Untaken::Later),
            Some(Err(Refusal::Latched)) => {
                self.board
                    .failed("the log takes nothing until the node is restarted");
                Err(Untaken::Never)
            }
            None => Err(Untaken::Never),
        }
    }
}

/// Records in parcels of bounded size, each with the position behind it.
fn parcels(
    records: Vec<SourceRecord>,
    end: u64,
    bytes_max: usize,
) -> Vec<(Vec<SourceRecord>, u64)> {
    let bytes_max = bytes_max.min(limits::PARCEL_BYTES_MAX);
    let mut parcels: Vec<(Vec<SourceRecord>, u64)> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let next = record.offset + 1;
        let size = record.size_bytes() + COPY_BYTES;
        match parcels.last_mut() {
            Some((last, behind))
                if last.len() < limits::PARCEL_RECORDS_MAX && bytes + size <= bytes_max =>
            {
                bytes += size;
                last.push(record);
                *behind = next;
            }
            _ => {
                bytes = size;
                parcels.push((vec![record], next));
            }
        }
    }
    if let Some((_, behind)) = parcels.last_mut() {
        *behind = end.max(*behind);
    }
    parcels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64, bytes: usize) -> SourceRecord {
        SourceRecord {
            offset,
            value: Some(vec![0; bytes].into()),
            ..SourceRecord::default()
        }
    }

    #[test]
    fn parcels_are_bounded_and_their_positions_leave_nothing_out() {
        let large = limits::PARCEL_BYTES_MAX;
        let records = vec![
            record(3, 1),
            record(4, large),
            record(7, large),
            record(9, 1),
        ];
        let made: Vec<(usize, u64)> = parcels(records, 12, usize::MAX)
            .iter()
            .map(|(records, next)| (records.len(), *next))
            .collect();
        assert_eq!(made, [(1, 4), (1, 5), (1, 8), (1, 12)]);
        let many = (0..=(limits::PARCEL_RECORDS_MAX as u64)).map(|offset| record(offset, 1));
        let made = parcels(many.collect(), 0, usize::MAX);
        assert!(made.len() > 1);
        assert_eq!(
            made.last().unwrap().1,
            limits::PARCEL_RECORDS_MAX as u64 + 1
        );
        assert!(parcels(Vec::new(), 5, usize::MAX).is_empty());
    }

    /// All that hooks make of a parcel is in half an entry, whatever its records are and however many
    /// hooks take them; what is larger than that is never in a parcel with others.
    #[test]
    fn an_entry_of_the_journal_holds_whatever_hooks_make_of_a_parcel() {
        let part_bytes = 32 << 20;
        for hooks in [0, 1, 8, broker::limits::HOOKS_MAX] {
            let most = record_bytes_max(part_bytes, hooks);
            assert!(most > 2 * COPY_BYTES, "{hooks} hooks leave no room");
            for bytes in [1, 700, most / 3, most - COPY_BYTES, most] {
                let records = (0..2_000).map(|offset| record(offset, bytes));
                for (records, _) in parcels(records.collect(), 0, most) {
                    let copy = bytes.div_ceil(3) * 4 + COPY_BYTES;
                    let all = records.len() * copy * (hooks + 2);
                    assert!(
                        all as u64 <= part_bytes,
                        "{hooks} hooks, {bytes} bytes: {all}"
                    );
                }
            }
        }
    }
}
