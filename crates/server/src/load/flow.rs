//! Messages through a broker: publishers with a window, subscribers that answer, open or closed
//! loop. Latency in an open loop counts from the time at which a message was meant to be sent.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, Incoming, ack, publish};
use super::payload::{door_lock_report, stamp, stamped};
use super::{Probe, Report, Span, Target};

/// Read buffer, shared by all connections.
const READ_BYTES: usize = 256 * 1024;
/// How often an open loop looks for messages that are due.
const PACE: Duration = Duration::from_micros(250);
/// Histograms reach one minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
const TIMER: Token = Token(usize::MAX);

/// Publishers, subscribers and their pace.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Publishing connections.
    pub publishers: usize,
    /// Subscribing connections.
    pub subscribers: usize,
    /// Topic of publisher `{i}`.
    pub topic: String,
    /// Filter of subscriber `{i}`.
    pub filter: String,
    /// QoS of publishers and subscriptions.
    pub qos: u8,
    /// Messages a second in all (open loop); absent: as fast as the windows allow (closed loop).
    pub rate: Option<f64>,
    /// Unacknowledged messages for each publisher; at QoS 0, undelivered ones where each message
    /// goes to subscribers.
    pub window: usize,
    /// Subscribers that get each message, for the closed loop; 0: deliveries do not hold back.
    pub fan_out: usize,
    /// Payload size.
    pub payload_bytes: usize,
    /// Warm-up and measurement.
    pub span: Span,
}

struct Publisher {
    frame: Vec<u8>,
    id_at: usize,
    payload_at: usize,
    /// Send time by packet id - 1; 0 = free.
    sent_at: Vec<u64>,
    free: Vec<u16>,
    undelivered: usize,
    /// Intended send times that the window held back.
    due: VecDeque<u64>,
}

struct Counts {
    messages: u64,
    deliveries: u64,
    ack: Histogram<u64>,
    delivery: Histogram<u64>,
}

/// Runs a flow and reports it.
pub fn flow(target: &Target, flow: &Flow) -> anyhow::Result<Report> {
    let mut run = Run::open(target, flow)?;
    run.until(Instant::now() + flow.span.warmup)?;
    run.counts = Counts::new()?;
    let before = target.pid.map(Probe::read).transpose()?;
    let start = Instant::now();
    run.until(start + flow.span.measure)?;
    let measured = start.elapsed();
    let after = target.pid.map(Probe::read).transpose()?;
    let counts = &run.counts;
    let mut report = Report::new(
        measured,
        counts.messages,
        counts.deliveries,
        before.zip(after),
    );
    report.ack_ms = super::Percentiles::of(&counts.ack);
    report.delivery_ms = super::Percentiles::of(&counts.delivery);
    Ok(report)
}

struct Run<'a> {
    flow: &'a Flow,
    poll: Poll,
    timer: OwnedFd,
    /// Publishers first, then subscribers.
    connections: Vec<Connection>,
    publishers: Vec<Publisher>,
    counts: Counts,
    start: Instant,
    /// The machine's monotonic clock at the start: what the stamps in payloads count from, so that
    /// other programs on this machine can tell how old a message is.
    stamps_from: u64,
    /// Messages of the open loop that were due so far.
    scheduled: u64,
}

impl<'a> Run<'a> {
    fn open(target: &Target, flow: &'a Flow) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        let mut publishers = Vec::new();
        let name = |template: &str, index: usize| template.replace("{i}", &index.to_string());
        // Subscribers connect first, so that no message is published before they listen; they come
        // after the publishers in the table.
        let mut listening = Vec::new();
        for index in 0..flow.subscribers {
            let id = format!("{}sub-{index}", target.client_prefix);
            let filter = name(&flow.filter, index);
            listening.push(Connection::open(target, &id, Some((&filter, flow.qos)))?);
        }
        for index in 0..flow.publishers {
            let id = format!("{}pub-{index}", target.client_prefix);
            connections.push(Connection::open(target, &id, None)?);
            let payload = door_lock_report(flow.payload_bytes, &id);
            let (frame, id_at, payload_at) = publish(&name(&flow.topic, index), flow.qos, &payload);
            publishers.push(Publisher {
                frame,
                id_at,
                payload_at,
                sent_at: vec![0; flow.window],
                free: (1..=flow.window as u16).rev().collect(),
                undelivered: 0,
                due: VecDeque::new(),
            });
        }
        connections.append(&mut listening);
        for (index, connection) in connections.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(connection.stream.socket(), Token(index), interest)?;
        }
        let timer = ticking_timer(PACE)?;
        if flow.rate.is_some() {
            let fd = timer.as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        }
        let counts = Counts::new()?;
        let start = Instant::now();
        Ok(Self {
            flow,
            poll,
            timer,
            connections,
            publishers,
            counts,
            start,
            stamps_from: monotonic_nanos(),
            scheduled: 0,
        })
    }

    fn until(&mut self, end: Instant) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0_u8; READ_BYTES];
        for index in 0..self.publishers.len() {
            self.publish(index)?;
        }
        while Instant::now() < end {
            if let Err(error) = self.poll.poll(&mut events, Some(Duration::from_millis(50))) {
                if error.kind() == std::io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error.into());
            }
            for event in &events {
                if event.token() == TIMER {
                    drain_timer(&self.timer);
                    continue;
                }
                let index = event.token().0;
                if event.is_readable() {
                    self.receive(index, &mut buffer)?;
                }
                if index < self.publishers.len() {
                    self.publish(index)?;
                } else {
                    self.connections[index].send()?;
                }
            }
            self.schedule()?;
        }
        Ok(())
    }

    /// Makes due what the open loop's clock says.
    fn schedule(&mut self) -> anyhow::Result<()> {
        let Some(rate) = self.flow.rate else {
            return Ok(());
        };
        let now = self.start.elapsed().as_nanos() as u64;
        let due = (now as f64 * rate / 1e9) as u64;
        let count = self.publishers.len() as u64;
        let first = self.scheduled;
        while self.scheduled < due {
            let intended = (self.scheduled as f64 * 1e9 / rate) as u64;
            let index = (self.scheduled % count) as usize;
            self.publishers[index].due.push_back(intended);
            self.scheduled += 1;
        }
        for number in first..due.min(first + count) {
            self.publish((number % count) as usize)?;
        }
        Ok(())
    }

    /// Sends what the window and the clock allow.
    fn publish(&mut self, index: usize) -> anyhow::Result<()> {
        let now = self.start.elapsed().as_nanos() as u64;
        let deliveries_max = self.flow.window * self.flow.fan_out.max(1);
        let publisher = &mut self.publishers[index];
        let connection = &mut self.connections[index];
        let held_back = self.flow.fan_out > 0 && self.flow.rate.is_none();
        loop {
            if held_back && publisher.undelivered + self.flow.fan_out > deliveries_max {
                break;
            }
            if self.flow.qos > 0 && publisher.free.is_empty() {
                break;
            }
            if self.flow.qos == 0 && !held_back && connection.out.len() > READ_BYTES {
                break;
            }
            let sent_at = if self.flow.rate.is_some() {
                let Some(intended) = publisher.due.pop_front() else {
                    break;
                };
                intended.max(1)
            } else {
                now.max(1)
            };
            stamp(
                &mut publisher.frame[publisher.payload_at..],
                self.stamps_from + sent_at,
            );
            if self.flow.qos > 0 {
                let Some(packet_id) = publisher.free.pop() else {
                    break;
                };
                publisher.sent_at[usize::from(packet_id) - 1] = sent_at;
                let at = publisher.id_at;
                publisher.frame[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
            } else {
                self.counts.messages += 1;
            }
            publisher.undelivered += self.flow.fan_out;
            connection.out.extend_from_slice(&publisher.frame);
        }
        connection.send().context("a publisher's connection broke")
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> anyhow::Result<()> {
        let now = self.start.elapsed().as_nanos() as u64;
        let stamps_from = self.stamps_from;
        let publishers = &mut self.publishers;
        let counts = &mut self.counts;
        let pairs = publishers.len() > 1;
        let is_publisher = index < publishers.len();
        let partner = if pairs && !is_publisher {
            index - publishers.len()
        } else {
            0
        };
        let mut delivered = 0;
        self.connections[index].receive(buffer, |packet, out| match packet {
            Incoming::Publish {
                qos,
                packet_id,
                payload,
            } => {
                delivered += 1;
                if let Some(sent_at) = stamped(payload) {
                    let age = (stamps_from + now).saturating_sub(sent_at);
                    counts.delivery.saturating_record(age.max(1));
                }
                match qos {
                    1 => ack(out, 0x40, packet_id),
                    2 => ack(out, 0x50, packet_id),
                    _ => {}
                }
            }
            Incoming::Puback(packet_id) | Incoming::Pubcomp(packet_id) if is_publisher => {
                let publisher = &mut publishers[index];
                let slot = usize::from(packet_id).wrapping_sub(1);
                if let Some(sent_at) = publisher.sent_at.get_mut(slot).filter(|at| **at > 0) {
                    counts.messages += 1;
                    counts
                        .ack
                        .saturating_record(now.saturating_sub(*sent_at).max(1));
                    *sent_at = 0;
                    publisher.free.push(packet_id);
                }
            }
            Incoming::Pubrec(packet_id) => ack(out, 0x62, packet_id),
            Incoming::Pubrel(packet_id) => ack(out, 0x70, packet_id),
            _ => {}
        })?;
        counts.deliveries += delivered;
        if delivered > 0 && self.flow.fan_out > 0 && partner < self.publishers.len() {
            let publisher = &mut self.publishers[partner];
            publisher.undelivered = publisher.undelivered.saturating_sub(delivered as usize);
            self.publish(partner)?;
        }
        Ok(())
    }
}

impl Counts {
    fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        Ok(Self {
            messages: 0,
            deliveries: 0,
            ack: histogram()?,
            delivery: histogram()?,
        })
    }
}

fn monotonic_nanos() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists and `now` is valid for writing.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(failed, 0, "every Linux has a monotonic clock");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn ticking_timer(period: Duration) -> anyhow::Result<OwnedFd> {
    let interval = libc::timespec {
        tv_sec: 0,
        tv_nsec: i64::from(period.subsec_nanos()),
    };
    let setting = libc::itimerspec {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: both calls get valid arguments; the descriptor is owned by nobody else.
    unsafe {
        let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("timerfd_create");
        }
        let timer = OwnedFd::from_raw_fd(fd);
        if libc::timerfd_settime(fd, 0, &raw const setting, std::ptr::null_mut()) < 0 {
            return Err(std::io::Error::last_os_error()).context("timerfd_settime");
        }
        Ok(timer)
    }
}

fn drain_timer(timer: &OwnedFd) {
    let mut ticks = [0_u8; 8];
    // SAFETY: the buffer is as long as said; an error means that no tick is waiting.
    unsafe { libc::read(timer.as_raw_fd(), ticks.as_mut_ptr().cast(), ticks.len()) };
}
