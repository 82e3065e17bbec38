//! `sluice consume`: reads a stream from a running node as any Kafka client would, over the Kafka
//! protocol, and prints its records.

mod client;
mod print;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use commitlog::BatchError;
use commitlog::batch::batches;
use commitlog::limits::DECOMPRESSED_BYTES_MAX;
use kafka::api::{
    Api, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    MetadataRequest, MetadataRequestTopic, MetadataResponse, timestamps,
};
use kafka::{ErrorCode, Uuid};

use client::KafkaClient;
use print::Format;

/// How long the node may wait for records before it answers a fetch, in milliseconds.
const WAIT_MS: i32 = 10_000;

/// Bytes of records asked for at once, in all and from one partition.
const FETCH_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;

/// Read a stream and print its records
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The stream
    stream: String,
    /// Begin with the oldest record; without it and --offset, with the next that comes
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Begin at this offset of each partition; below zero: so many records before the end
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    offset: Option<i64>,
    /// Read this partition only
    #[arg(short, long, value_name = "P")]
    partition: Option<i32>,
    /// Print the key and a tab in front of the value
    #[arg(short, long)]
    key: bool,
    /// Decode the base64 payload in the records that hooks write
    #[arg(short, long)]
    decode: bool,
    /// Print a JSON object a record: partition, offset, timestamp, key, headers and value
    #[arg(short, long)]
    json: bool,
    /// End after so many records
    #[arg(short = 'n', long, value_name = "N")]
    max_messages: Option<u64>,
    /// End where the stream ended at the start
    #[arg(short, long)]
    exit: bool,
    /// Where the node listens for Kafka clients
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092"
    )]
    bootstrap: String,
}

/// Prints records until the end that was asked for. Who closes our output ends us quietly.
pub fn run(args: &ConsumeArgs) -> anyhow::Result<ExitCode> {
    let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    match consume(args, out) {
        Ok(()) => {}
        Err(error) if closed(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether our output is closed.
fn closed(error: &anyhow::Error) -> bool {
    let output = error.downcast_ref::<print::OutputError>();
    output.is_some_and(|output| output.0.kind() == io::ErrorKind::BrokenPipe)
}

fn consume(args: &ConsumeArgs, out: impl Write) -> anyhow::Result<()> {
    let mut client = KafkaClient::connect(&args.bootstrap)?;
    let topic = find(&mut client, &args.stream)?;
    let partitions = match args.partition {
        None => (0..topic.partitions).collect(),
        Some(partition) if (0..topic.partitions).contains(&partition) => vec![partition],
        Some(partition) => bail!(
            "stream {} has no partition {partition}: it has 0 to {}",
            topic.name,
            topic.partitions - 1
        ),
    };
    let places = places(args, &mut client, &topic, &partitions)?;
    let mut reading = Reading {
        args,
        topic: &topic,
        places,
        left: args.max_messages.unwrap_or(u64::MAX),
        out,
    };
    while !reading.done() {
        reading.step(&mut client)?;
    }
    Ok(())
}

/// The stream as the node knows it.
struct Topic {
    name: String,
    id: Uuid,
    partitions: i32,
}

/// How far a partition is read.
struct Place {
    partition: i32,
    next: i64,
    /// Where to stop.
    end: i64,
}

fn find(client: &mut KafkaClient, name: &str) -> anyhow::Result<Topic> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer: MetadataResponse<'_> = client.ask(Api::Metadata, &request)?;
    let topic = answer
        .topics
        .first()
        .context("the node's answer names no stream")?;
    match ErrorCode::from_i16(topic.error_code) {
        Some(ErrorCode::None) => {}
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidTopic) => {
            return Err(unknown(client, name));
        }
        _ => bail!(
            "the node cannot serve stream {name}: {}",
            code(topic.error_code)
        ),
    }
    if answer.brokers.len() > 1 {
        bail!(
            "{} is one of several brokers; use a Kafka client that asks each",
            client.address()
        );
    }
    Ok(Topic {
        name: name.to_owned(),
        id: topic.topic_id,
        partitions: i32::try_from(topic.partitions.len()).context("too many partitions")?,
    })
}

fn unknown(client: &mut KafkaClient, name: &str) -> anyhow::Error {
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let known = client
        .ask::<MetadataResponse<'_>>(Api::Metadata, &all)
        .map(|answer| {
            let mut names: Vec<_> = answer
                .topics
                .iter()
                .filter_map(|topic| topic.name)
                .collect();
            names.sort_unstable();
            names.join(", ")
        });
    match known {
        Ok(known) if !known.is_empty() => {
            anyhow::anyhow!("there is no stream {name}; there are: {known}")
        }
        _ => anyhow::anyhow!("there is no stream {name}"),
    }
}

/// Where to begin and to end in each partition.
fn places(
    args: &ConsumeArgs,
    client: &mut KafkaClient,
    topic: &Topic,
    partitions: &[i32],
) -> anyhow::Result<Vec<Place>> {
    let starts = list(client, topic, partitions, timestamps::EARLIEST)?;
    let ends = list(client, topic, partitions, timestamps::LATEST)?;
    let place = |((&partition, start), end): ((&i32, i64), i64)| Place {
        partition,
        next: match args.offset {
            Some(offset) if offset < 0 => end.saturating_add(offset).max(start),
            Some(offset) => offset,
            None if args.from_beginning => start,
            None => end,
        },
        end: if args.exit { end } else { i64::MAX },
    };
    Ok(partitions.iter().zip(starts).zip(ends).map(place).collect())
}

/// Asks for an end of each of the partitions.
fn list(
    client: &mut KafkaClient,
    topic: &Topic,
    partitions: &[i32],
    timestamp: i64,
) -> anyhow::Result<Vec<i64>> {
    let row = |&partition_index: &i32| ListOffsetsPartition {
        partition_index,
        timestamp,
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: &topic.name,
            partitions: partitions.iter().map(row).collect(),
        }],
        ..Default::default()
    };
    let answer: ListOffsetsResponse<'_> = client.ask(Api::ListOffsets, &request)?;
    let rows = answer
        .topics
        .first()
        .map_or(&[][..], |topic| &topic.partitions);
    partitions
        .iter()
        .map(|partition| {
            let row = rows.iter().find(|row| row.partition_index == *partition);
            let row = row.with_context(|| format!("no answer about partition {partition}"))?;
            if row.error_code != 0 {
                bail!(
                    "cannot find the ends of partition {partition}: {}",
                    code(row.error_code)
                );
            }
            Ok(row.offset)
        })
        .collect()
}

/// What is read, how far, and what becomes of it.
struct Reading<'a, W> {
    args: &'a ConsumeArgs,
    topic: &'a Topic,
    places: Vec<Place>,
    /// Records that may still be printed.
    left: u64,
    out: W,
}

impl<W: Write> Reading<'_, W> {
    fn done(&self) -> bool {
        self.left == 0 || self.places.iter().all(|place| place.next >= place.end)
    }

    /// Fetches once from all partitions that are not at their end, and prints.
    fn step(&mut self, client: &mut KafkaClient) -> anyhow::Result<()> {
        let open = self.places.iter().filter(|place| place.next < place.end);
        let row = |place: &Place| FetchPartition {
            partition: place.partition,
            fetch_offset: place.next,
            partition_max_bytes: PARTITION_BYTES,
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            topics: vec![FetchTopic {
                topic: &self.topic.name,
                topic_id: self.topic.id,
                partitions: open.map(row).collect(),
            }],
            ..Default::default()
        };
        let mut lost = Vec::new();
        let answer: FetchResponse<'_> = client.ask(Api::Fetch, &request)?;
        if answer.error_code != 0 {
            bail!("the node refuses to be read: {}", code(answer.error_code));
        }
        for row in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            match ErrorCode::from_i16(row.error_code) {
                Some(ErrorCode::None) => self.print(row)?,
                Some(ErrorCode::OffsetOutOfRange) => lost.push(row.partition_index),
                Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
                    bail!("stream {} was deleted", self.topic.name)
                }
                _ => bail!(
                    "cannot read partition {}: {}",
                    row.partition_index,
                    code(row.error_code)
                ),
            }
        }
        self.out.flush().map_err(print::OutputError)?;
        for partition in lost {
            self.find_again(client, partition)?;
        }
        // A node fills an answer in the order asked: each partition has its turn to be first.
        self.places.rotate_left(1);
        Ok(())
    }

    fn print(&mut self, row: &FetchPartitionResponse<'_>) -> anyhow::Result<()> {
        let partition = row.partition_index;
        let place = self
            .places
            .iter_mut()
            .find(|place| place.partition == partition);
        let place = place.context("the node answers with a partition that was not asked for")?;
        let format = Format {
            stream: &self.topic.name,
            key: self.args.key,
            decode: self.args.decode,
            json: self.args.json,
        };
        for batch in batches(row.records.received()) {
            let batch = match batch {
                Ok(batch) => batch,
                // A server may cut the last batch off.
                Err(BatchError::Short) => break,
                Err(error) => return Err(error).with_context(|| damaged(partition, place.next)),
            };
            batch
                .verify_crc()
                .with_context(|| damaged(partition, place.next))?;
            if batch.is_control() {
                // A marker holds no record of a client.
                place.next = place.next.max(batch.next_offset() as i64);
                continue;
            }
            let records = batch
                .plain(DECOMPRESSED_BYTES_MAX)
                .with_context(|| damaged(partition, place.next))?;
            for record in &records {
                let record = record.with_context(|| damaged(partition, place.next))?;
                let offset = record.offset as i64;
                if offset < place.next || offset >= place.end {
                    continue;
                }
                if self.left == 0 {
                    return Ok(());
                }
                format.print(&mut self.out, partition, &record)?;
                self.left -= 1;
            }
            place.next = place.next.max(batch.next_offset() as i64);
        }
        Ok(())
    }

    /// Goes on where a partition begins now, if retention was faster than we.
    fn find_again(&mut self, client: &mut KafkaClient, partition: i32) -> anyhow::Result<()> {
        let start = list(client, self.topic, &[partition], timestamps::EARLIEST)?[0];
        let end = list(client, self.topic, &[partition], timestamps::LATEST)?[0];
        let place = self
            .places
            .iter_mut()
            .find(|place| place.partition == partition);
        let place = place.context("the node answers with a partition that was not asked for")?;
        if place.next > start {
            bail!(
                "partition {partition} has no offset {}: it holds {start} to {end} (exclusive)",
                place.next
            );
        }
        eprintln!(
            "sluice: offsets {} to {start} of partition {partition} are no longer there",
            place.next
        );
        place.next = start;
        Ok(())
    }
}

fn damaged(partition: i32, offset: i64) -> String {
    format!("partition {partition} is damaged at offset {offset}")
}

/// An error code in words.
fn code(code: i16) -> String {
    ErrorCode::from_i16(code).map_or_else(|| format!("error code {code}"), |code| code.to_string())
}
