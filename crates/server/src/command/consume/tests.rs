//! `sluice consume` against a front door over loopback.

use std::sync::Arc;

use clap::Parser as _;
use commitlog::BatchBuilder;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::kafka::tests::{FakeLog, settings};
use crate::kafka::{FrontDoor, NodeFacts};

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: ConsumeArgs,
}

/// A front door with two streams, and what `sluice consume` makes of it.
struct House {
    log: Arc<FakeLog>,
    address: String,
    _stop: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

impl House {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let log = Arc::new(FakeLog::new());
        let (stop, stopped) = watch::channel(false);
        let address = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            tokio::spawn(
                FrontDoor::new(log.clone(), &settings(), NodeFacts::default())
                    .serve(listener, stopped),
            );
            address
        });
        log.create("door", 2);
        log.create("window", 1);
        for (partition, value) in [(0, "a"), (0, "b"), (1, "c"), (0, "d")] {
            append(&log, "door", partition, Some(value.as_bytes()));
        }
        Self {
            log,
            address,
            _stop: stop,
            _runtime: runtime,
        }
    }

    fn consume(&self, line: &str) -> anyhow::Result<String> {
        let words = format!("consume {line} --bootstrap {}", self.address);
        let Line { args } = Line::parse_from(words.split_whitespace());
        let mut out = Vec::new();
        consume(&args, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn fails(&self, line: &str) -> String {
        format!("{:#}", self.consume(line).unwrap_err())
    }
}

fn append(log: &FakeLog, stream: &str, partition: usize, value: Option<&[u8]>) {
    let mut batch = BatchBuilder::new();
    batch.push(7, Some(b"lock"), value, &[(b"mqtt.qos", b"1")]);
    log.append_batch(stream, partition, batch.finish());
}

#[test]
fn all_partitions_are_read_from_where_it_is_said() {
    let house = House::new();
    let sorted = |line: &str| {
        let out = house.consume(line).unwrap();
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted("door --from-beginning --exit"), ["a", "b", "c", "d"]);
    assert_eq!(sorted("door --offset -1 --exit"), ["c", "d"]);
    assert_eq!(sorted("door --offset 2 --partition 0 --exit"), ["d"]);
    assert_eq!(sorted("door --partition 1 --from-beginning --exit"), ["c"]);
    assert_eq!(sorted("door --exit"), [""; 0]);
    assert_eq!(
        sorted("door --partition 0 --from-beginning -n 2"),
        ["a", "b"]
    );
}

#[test]
fn an_offset_inside_a_batch_is_where_reading_begins() {
    let house = House::new();
    let mut batch = BatchBuilder::new();
    for value in [b"x", b"y", b"z"] {
        batch.push(7, None, Some(value), &[]);
    }
    house.log.append_batch("window", 0, batch.finish());
    assert_eq!(house.consume("window --offset 1 -n 1").unwrap(), "y\n");
    assert_eq!(house.consume("window --offset 1 -e").unwrap(), "y\nz\n");
}

#[test]
fn what_comes_later_is_awaited() {
    let house = House::new();
    std::thread::scope(|scope| {
        // Whether the record is there before or after we ask, it is the third.
        let reader = scope.spawn(|| house.consume("window --offset 0 -n 3").unwrap());
        for value in [b"x", b"y", b"z"] {
            append(&house.log, "window", 0, Some(value));
        }
        assert_eq!(reader.join().unwrap(), "x\ny\nz\n");
    });
}

#[test]
fn keys_headers_and_payloads_are_printed_on_demand() {
    let house = House::new();
    append(
        &house.log,
        "window",
        0,
        Some(br#"{"payload":"b24=","ts":1}"#),
    );
    append(&house.log, "window", 0, None);
    append(&house.log, "window", 0, Some(b"\xff"));
    let line = "window --from-beginning -e";
    assert_eq!(
        house
            .consume(&format!("{line} --key --decode -n 2"))
            .unwrap(),
        "lock\t{\"payload\":\"on\",\"ts\":1}\nlock\tnull\n"
    );
    assert_eq!(
        house.consume(&format!("{line} --json --decode")).unwrap(),
        concat!(
            r#"{"stream":"window","partition":0,"offset":0,"timestamp":7,"key":"lock","#,
            r#""headers":[["mqtt.qos","1"]],"value":{"payload":"on","ts":1}}"#,
            "\n",
            r#"{"stream":"window","partition":0,"offset":1,"timestamp":7,"key":"lock","#,
            r#""headers":[["mqtt.qos","1"]],"value":null}"#,
            "\n",
            r#"{"stream":"window","partition":0,"offset":2,"timestamp":7,"key":"lock","#,
            r#""headers":[["mqtt.qos","1"]],"value":{"base64":"/w=="}}"#,
            "\n",
        )
    );
}

/// The batch in Snappy: a block with its length and one literal.
fn packed(mut batch: Vec<u8>) -> Vec<u8> {
    let records = batch.split_off(61);
    assert!(records.len() < 60);
    batch.push(records.len() as u8);
    batch.push((records.len() as u8 - 1) << 2);
    batch.extend(records);
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = 2;
    let crc = commitlog::batch::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn compressed_records_are_read_and_markers_passed_over() {
    let house = House::new();
    let mut batch = BatchBuilder::new();
    for value in [b"x", b"y"] {
        batch.push(7, None, Some(value), &[]);
    }
    house.log.append_batch("window", 0, packed(batch.finish()));
    let marker = commitlog::control_batch(1, 0, false, 0, 7);
    house.log.append_batch("window", 0, marker);
    append(&house.log, "window", 0, Some(b"z"));
    let all = house.consume("window --from-beginning -e").unwrap();
    assert_eq!(all, "x\ny\nz\n");
    assert_eq!(house.consume("window --offset 1 -n 2").unwrap(), "y\nz\n");
}

#[test]
fn errors_say_what_to_do() {
    let house = House::new();
    assert_eq!(
        house.fails("gate"),
        "there is no stream gate; there are: door, window"
    );
    assert_eq!(
        house.fails("door -p 2"),
        "stream door has no partition 2: it has 0 to 1"
    );
    assert_eq!(
        house.fails("door -p 0 --offset 9"),
        "partition 0 has no offset 9: it holds 0 to 3 (exclusive)"
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let Line { args } = Line::parse_from(["consume", "door", "-b", &free.to_string()]);
    let error = consume(&args, io::sink()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot connect to {free}: ")),
        "{error}"
    );
    assert!(
        error.contains("start a node there with `sluice`"),
        "{error}"
    );
}

#[test]
fn what_retention_took_is_skipped() {
    let house = House::new();
    house.log.set_log_start("door", 0, 2);
    assert_eq!(house.consume("door -p 0 --offset 0 -n 1").unwrap(), "d\n");
}

#[test]
fn a_closed_output_ends_quietly() {
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let house = House::new();
    let Line { args } =
        Line::parse_from(["consume", "door", "--from-beginning", "-b", &house.address]);
    assert!(closed(&consume(&args, Closed).unwrap_err()));
}
