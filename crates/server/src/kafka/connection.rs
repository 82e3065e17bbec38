//! One connection: requests are begun in the order in which they come, also while earlier ones
//! still wait for their answers, and answers leave in that order. It knows no API.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::kafka::api::{Api, ApiVersionsRequest};
use ::kafka::{Frame, RequestHeader, WireError, decode_request, frame};
use bytes::{Buf, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::caller::Caller;
use super::dispatch::{self, Asked, HangUp, Reply};
use super::listener::stopping;
use super::moderation::Moderation;
use super::outgoing::{Next, Outgoing};
use super::roster::Place;
use super::sasl::{self, Sasl};
use super::transport::Transport;
use super::{FrontDoor, api_versions, limits};
use crate::doorway::{Doorway, Pace};

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The peer closed it, or the network did.
    Closed,
    /// The node stops.
    Stopping,
    /// The user's password is another now, or the user is there no more.
    Revoked,
    /// The peer was silent or did not read for too long.
    TimedOut,
    /// The peer sent what is no request.
    Malformed(WireError),
    /// The peer asked for something before it logged in, or when its login was over.
    NotLoggedIn(Api),
    /// The peer asked for an API or a version that is not served.
    Unsupported { api_key: i16, version: i16 },
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    door: Arc<FrontDoor>,
    transport: Transport,
    caller: Arc<Caller>,
    place: Place,
    stop: watch::Receiver<bool>,
) {
    let mut connection = Connection {
        login: Arc::new(Sasl::new(&caller.listener)),
        pace: caller.listener.doorway.as_ref().and_then(Doorway::pace),
        logging_in: false,
        refused: false,
        ending: false,
        muted: None,
        waited: false,
        put: false,
        moderation: Moderation::new(Instant::now()),
        mark_alarm: None,
        door,
        transport,
        caller,
        place,
        understood: false,
        buffer: BytesMut::new(),
        read_bytes: limits::READ_BYTES,
        share: Share::default(),
        growth: None,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        out: Outgoing::default(),
        since: Instant::now(),
    };
    let end = connection.run(stop).await;
    let (counters, peer) = (&connection.door.counters, connection.caller.peer);
    match end {
        End::Closed | End::Stopping => {}
        End::Revoked => {
            let user = connection.caller.principal.name();
            tracing::info!(%peer, user, "a Kafka connection ends: its user was changed or deleted");
        }
        End::TimedOut => counters.timed_out.add(1),
        End::Malformed(error) => {
            counters.malformed.add(1);
            tracing::debug!(%peer, %error, "a Kafka connection sent what is no request");
        }
        End::NotLoggedIn(api) => {
            counters.not_logged_in.add(1);
            let api = api.name();
            tracing::debug!(%peer, api, "a Kafka connection has not logged in, or too long ago");
        }
        End::Unsupported { api_key, version } => {
            counters.unsupported.add(1);
            tracing::debug!(
                %peer,
                api_key,
                version,
                "a Kafka connection asked for what is not served"
            );
        }
    }
}

struct Connection {
    door: Arc<FrontDoor>,
    transport: Transport,
    caller: Arc<Caller>,
    place: Place,
    login: Arc<Sasl>,
    /// How fast the client is read, where its listener bounds that.
    pace: Option<Box<Pace>>,
    /// A step of the login is under way: nothing else begins.
    logging_in: bool,
    /// The login failed: nothing begins any more.
    refused: bool,
    /// What came last was no request that is served: nothing behind it begins.
    ending: bool,
    /// Until when nothing is read, because the client was over its quota.
    muted: Option<Pin<Box<Sleep>>>,
    /// The request at the front of the buffer has waited for what the client owes already.
    waited: bool,
    /// A request has put something to what is handed to the log next.
    put: bool,
    /// How much must have come before the connection is looked at.
    moderation: Moderation,
    /// When that has taken too long.
    mark_alarm: Option<Pin<Box<Sleep>>>,
    /// A request was understood: larger ones are taken.
    understood: bool,
    buffer: BytesMut,
    /// What is read at once: more where requests are large.
    read_bytes: usize,
    /// What the request at the front of the buffer has of the memory for requests.
    share: Share,
    /// More of it is awaited.
    growth: Option<Growth>,
    /// Begun and not yet answered, oldest first.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Answers to be written.
    out: Outgoing,
    /// Since when the peer is owed nothing and silent, or sends the request at hand.
    since: Instant,
}

/// A request's share of the memory for requests; none as long as little of it has come.
#[derive(Default)]
struct Share {
    permit: Option<OwnedSemaphorePermit>,
    /// It is the one request that goes on when all of the memory is taken.
    elder: Option<OwnedSemaphorePermit>,
}

/// Waiting for more of the memory.
struct Growth {
    since: Instant,
    share: Pin<Box<dyn Future<Output = Share> + Send>>,
}

/// A request that was begun.
struct Waiting {
    api: Api,
    header: (i16, i16),
    since: Instant,
    size_bytes: usize,
    reply: Reply,
    _share: Share,
}

impl Share {
    /// How much of the request may be held, in bytes.
    fn bytes(&self) -> usize {
        let held = self
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        if self.elder.is_some() {
            usize::MAX
        } else {
            held * 1024
        }
    }

    fn merge(&mut self, more: Self) {
        match (&mut self.permit, more.permit) {
            (Some(permit), Some(more)) => permit.merge(more),
            (_, None) => {}
            (permit, more) => *permit = more,
        }
        self.elder = self.elder.take().or(more.elder);
    }
}

impl Connection {
    async fn run(&mut self, stop: watch::Receiver<bool>) -> End {
        let mut stop = std::pin::pin!(stopping(stop));
        let mut revoked = std::pin::pin!(self.place.revoked());
        let mut alarm = std::pin::pin!(sleep_until(self.since + limits::FIRST_REQUEST_MAX));
        loop {
            let (mut stopped, mut revoked) = (stop.as_mut(), revoked.as_mut());
            let turn = poll_fn(|cx| {
                if stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(End::Stopping));
                }
                if revoked.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(End::Revoked));
                }
                self.poll_turn(cx, alarm.as_mut())
            });
            if let Err(end) = turn.await {
                return end;
            }
            if let Err(end) = self.write().await {
                return end;
            }
            if self.refused {
                return End::Closed;
            }
        }
    }

    /// Begins what has come and gathers what is answered, until there is something to write.
    fn poll_turn(&mut self, cx: &mut Context<'_>, alarm: Pin<&mut Sleep>) -> Poll<Result<(), End>> {
        loop {
            let muted = self.poll_muted(cx).is_pending();
            if !muted {
                self.begin_all(cx)?;
            }
            self.gather(cx)?;
            if !self.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if muted {
                break;
            }
            if self.muted.is_some() {
                // The pause is to wake us, also where nothing is to be written.
                continue;
            }
            let silent = self.buffer.is_empty();
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Closed)),
                Poll::Ready(Ok(read)) => {
                    self.door.counters.bytes_in.add(read as u64);
                    self.moderation.found(read);
                    if let Some(pause) = self.pace.as_mut().and_then(|pace| pace.took(read)) {
                        self.muted = Some(Box::pin(sleep_until(Instant::now() + pause)));
                    }
                    if silent {
                        self.since = Instant::now();
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            // An idle connection holds no buffer.
            self.buffer = BytesMut::new();
        }
        ready!(self.poll_alarm(cx, alarm));
        Poll::Ready(Err(End::TimedOut))
    }

    /// Pending while the client waits for its quota.
    fn poll_muted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(muted) = &mut self.muted {
            ready!(muted.as_mut().poll(cx));
            self.muted = None;
            // The time until now was not the peer's.
            self.since = Instant::now();
        }
        Poll::Ready(())
    }

    /// Ready when the peer was silent, or slow, for too long.
    fn poll_alarm(&self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<()> {
        let awaits_us = !self.waiting.is_empty() || self.growth.is_some();
        let patience = if awaits_us || self.muted.is_some() {
            // It waits for us.
            return Poll::Pending;
        } else if !self.understood {
            limits::FIRST_REQUEST_MAX.min(self.door.idle_max())
        } else if self.buffer.is_empty() {
            self.door.idle_max()
        } else {
            limits::REQUEST_MAX
        };
        // The alarm is only ever drawn nearer: most of the time it rings once in an idle time.
        let mut deadline = self.since + patience;
        if let Some(login) = self.login.deadline() {
            deadline = deadline.min(login);
        }
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }

    /// Whether one more request may be begun before the oldest is answered.
    fn may_begin(&self) -> bool {
        !self.logging_in
            && !self.refused
            && !self.ending
            && self.waiting.len() < self.door.settings.requests_outstanding_max as usize
            && self.waiting_bytes < limits::OUTSTANDING_BYTES_MAX
    }

    /// Size of the largest request that is taken now, in bytes.
    fn request_bytes_max(&self) -> u32 {
        let max = self.door.request_bytes_max();
        if self.understood && self.login.settled() {
            max
        } else {
            ::kafka::limits::FIRST_REQUEST_BYTES_MAX.min(max)
        }
    }

    /// Begins the requests that are whole in the buffer, and hands what they append to the log in
    /// one go.
    fn begin_all(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let begun = self.begin_each(cx);
        self.bring();
        begun
    }

    /// Hands to the log what was put.
    fn bring(&mut self) {
        if std::mem::take(&mut self.put) {
            self.door.source.bring();
            self.moderation.appended();
        }
    }

    fn begin_each(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while self.may_begin() {
            let whole = frame(&self.buffer, self.request_bytes_max()).map_err(End::Malformed)?;
            let Some((request, taken)) = whole else {
                break;
            };
            let owed = self.owed(request);
            if !owed.is_zero() && !self.waited {
                // Once: others who share the quota cannot keep this one out for ever.
                self.waited = true;
                self.mute(owed);
                break;
            }
            self.waited = false;
            let mut frame = self.buffer.split_to(taken);
            frame.advance(4);
            self.read_bytes = taken.clamp(limits::READ_BYTES, limits::BUSY_READ_BYTES);
            self.begin(frame, cx)?;
        }
        Ok(())
    }

    fn begin(&mut self, frame: BytesMut, cx: &mut Context<'_>) -> Result<(), End> {
        let share = std::mem::take(&mut self.share);
        self.since = Instant::now();
        if self.login.raw() {
            let (door, caller) = (self.door.clone(), self.caller.clone());
            let begun = Waiting {
                api: Api::SaslAuthenticate,
                header: (Api::SaslAuthenticate.key(), 0),
                since: self.since,
                size_bytes: frame.len(),
                reply: sasl::begin_raw(self.login.clone(), door, caller, frame.freeze()),
                _share: share,
            };
            self.await_answer(begun, cx);
            return Ok(());
        }
        let fixed = RequestHeader::read_fixed(&frame).map_err(End::Malformed)?;
        let mut begun = Waiting {
            api: Api::ApiVersions,
            header: (fixed.api_key, fixed.api_version),
            since: self.since,
            size_bytes: frame.len(),
            reply: Reply::Ready(Ok(None)),
            _share: share,
        };
        match RequestHeader::read(&frame) {
            Ok((header, api, body)) => {
                if !self.login.admits(api) {
                    return Err(End::NotLoggedIn(api));
                }
                self.meet(api, header.client_id, || decode_request(body))?;
                if api != Api::Produce {
                    // It may ask for what was appended before it.
                    self.bring();
                    self.unmoderated();
                }
                begun.api = api;
                self.door.counters.request(api);
                let (version, correlation_id) = (header.api_version, header.correlation_id);
                begun.reply = dispatch::begin(Asked {
                    door: self.door.clone(),
                    caller: self.caller.clone(),
                    login: self.login.clone(),
                    api,
                    version,
                    correlation_id,
                    read_bytes: self.read_bytes.max(self.moderation.room()),
                    frame,
                });
            }
            Err(WireError::Unsupported) if fixed.api_key == Api::ApiVersions.key() => {
                self.door.counters.request(Api::ApiVersions);
                self.door.counters.error(Api::ApiVersions);
                let answer = api_versions::unsupported(fixed.correlation_id);
                begun.reply = Reply::Ready(Ok(Some(answer.into())));
            }
            Err(error) => {
                // First what was asked before is answered.
                self.ending = true;
                begun.reply = Reply::Ready(Err(HangUp::Malformed(error)));
            }
        }
        self.understood = true;
        self.await_answer(begun, cx);
        Ok(())
    }

    /// Begins to answer a request; its answer leaves behind those of the requests before.
    fn await_answer(&mut self, mut begun: Waiting, cx: &mut Context<'_>) {
        self.logging_in = matches!(begun.api, Api::SaslHandshake | Api::SaslAuthenticate);
        self.place.begun();
        if matches!(begun.reply, Reply::Put(_)) {
            self.put = true;
        } else {
            // Requests have their order from this: see `dispatch::begin`.
            begun.reply.poll_ready(cx);
        }
        self.waiting_bytes += begun.size_bytes;
        self.waiting.push_back(begun);
    }

    /// A step of the login is answered.
    fn stepped(&mut self) {
        self.logging_in = false;
        self.refused = self.login.failed();
        if let Some(principal) = self.login.principal() {
            // Deleted while it logged in, when the roster did not know it yet.
            let name = principal.name().to_owned();
            Arc::make_mut(&mut self.caller).principal = principal;
            self.place.is_user(&self.caller);
            self.refused |= !self.door.users.exists(&name);
        }
    }

    /// How long the sender of a request waits for what it owes by other connections, or by requests
    /// that were begun before it: neither is a way around its quota.
    fn owed(&self, request: &[u8]) -> Duration {
        if self.door.quotas.is_empty() || !self.login.settled() {
            return Duration::ZERO;
        }
        let client_id = RequestHeader::read(request)
            .ok()
            .and_then(|(header, ..)| header.client_id);
        self.door.owed(&self.caller, client_id.unwrap_or(""))
    }

    fn mute(&mut self, pause: Duration) {
        self.muted = Some(Box::pin(sleep_until(Instant::now() + pause)));
    }

    /// Counts a request and its answer against the quota of the client, which is told and waits.
    fn charge(&mut self, api: Api, version: i16, request_bytes: usize, answer: &mut Frame) {
        if !self.login.settled() {
            // It is not known yet whose quota that is, and nobody uses up that of others.
            return;
        }
        let pause = self
            .door
            .charge(&self.caller, api, version, request_bytes, answer);
        if !pause.is_zero() {
            self.mute(pause);
        }
    }

    /// Keeps in mind what the request says of its sender.
    fn meet<'a>(
        &mut self,
        api: Api,
        client_id: Option<&str>,
        request: impl FnOnce() -> Result<ApiVersionsRequest<'a>, WireError>,
    ) -> Result<(), End> {
        let client_id = client_id.unwrap_or("");
        let mut software = None;
        if api == Api::ApiVersions {
            let request = request().map_err(End::Malformed)?;
            let told = [
                request.client_software_name,
                request.client_software_version,
            ];
            if told != ["", ""] {
                let [name, version] = told.map(|word| kept(word).to_owned());
                software = Some((name, version));
            }
        }
        if *self.caller.client_id != *client_id || software.is_some() {
            let caller = Arc::make_mut(&mut self.caller);
            if *caller.client_id != *client_id {
                caller.client_id = client_id.into();
            }
            caller.software = software.or(caller.software.take());
            self.place.is_now(&self.caller);
        }
        Ok(())
    }

    /// Takes the answers that may leave now.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Some(front) = self.waiting.front_mut() {
            if !front.reply.poll_ready(cx) {
                break;
            }
            if matches!(front.reply, Reply::Ready(Err(_))) && !self.out.is_empty() {
                // First what was answered before.
                break;
            }
            let Some(done) = self.waiting.pop_front() else {
                break;
            };
            self.since = Instant::now();
            self.waiting_bytes -= done.size_bytes;
            self.place.answered();
            if !matches!(done.reply, Reply::Ready(Err(_))) {
                let took = self.since.duration_since(done.since);
                self.door.counters.answered(done.api, took);
            }
            let Reply::Ready(outcome) = done.reply else {
                break;
            };
            if matches!(done.api, Api::SaslHandshake | Api::SaslAuthenticate) {
                self.stepped();
            }
            match outcome {
                Ok(Some(mut answer)) => {
                    self.charge(done.api, done.header.1, done.size_bytes, &mut answer.frame);
                    self.out.push(answer);
                }
                Ok(None) => self.charge(done.api, 0, done.size_bytes, &mut Frame::default()),
                Err(HangUp::Malformed(WireError::Unsupported)) => {
                    let (api_key, version) = done.header;
                    return Err(End::Unsupported { api_key, version });
                }
                Err(HangUp::Malformed(error)) => return Err(End::Malformed(error)),
                Err(HangUp::Unanswered) => return Err(End::Closed),
            }
        }
        Ok(())
    }

    /// Reads on, as far as the bounds let it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let there = self.buffer.len();
        if !self.may_begin() && there >= limits::READ_BYTES {
            // The time until we read on is not the sender's.
            self.mark_alarm = None;
            return Poll::Pending;
        }
        let mut room = self.read_bytes.max(self.moderation.room());
        if let Some(size) = self.buffer.first_chunk::<4>() {
            let total = i32::from_be_bytes(*size) as usize + 4;
            if total > there && there >= limits::READ_BYTES {
                ready!(self.poll_share(cx, there, total));
                room = total.min(self.share.bytes()) - there;
            }
        }
        let spare = self.buffer.capacity() - there;
        if spare >= room / 4 && spare > 0 {
            room = room.min(spare);
        }
        let read = self.transport.poll_read(cx, &mut self.buffer, room);
        if read.is_pending() && self.transport.is_plain() {
            self.moderate(cx);
        }
        read
    }

    /// What is asked now is not only for the log: nothing more is waited for.
    fn unmoderated(&mut self) {
        if self.moderation.other(self.since) {
            self.mark_alarm = None;
            self.transport.set_low_water_mark(1);
        }
    }

    /// All that has come was taken: says how much must come before the next look.
    fn moderate(&mut self, cx: &mut Context<'_>) {
        if self.moderation.has_found() {
            if self.moderation.patience().is_some() {
                self.door.counters.looks_moderated.add(1);
            }
            if let Some(bytes) = self.moderation.look_ends(Instant::now()) {
                self.transport.set_low_water_mark(bytes);
            }
            let until = self.moderation.patience().map(|it| Instant::now() + it);
            match (until, &mut self.mark_alarm) {
                (Some(until), Some(alarm)) => alarm.as_mut().reset(until),
                (until, alarm) => *alarm = until.map(|until| Box::pin(sleep_until(until))),
            }
        } else if self.mark_alarm.is_none()
            && let Some(patience) = self.moderation.patience()
        {
            self.mark_alarm = Some(Box::pin(sleep_until(Instant::now() + patience)));
        }
        if let Some(alarm) = &mut self.mark_alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            self.mark_alarm = None;
            let waits = self.transport.has_unread();
            self.moderation.give_up(waits, Instant::now());
            // Wakes us if something has come.
            self.transport.set_low_water_mark(1);
        }
    }

    /// Ready when the request at the front of the buffer, of which so much is there, has a share of
    /// the memory to go on with. A giant that is only announced takes next to nothing from anybody.
    fn poll_share(&mut self, cx: &mut Context<'_>, there: usize, total: usize) -> Poll<()> {
        let held = self.share.bytes();
        if held > there {
            return Poll::Ready(());
        }
        let growth = self.growth.get_or_insert_with(|| {
            let wanted = (there * limits::REQUEST_SHARE_GROWTH).min(total);
            let kib = (wanted - held).div_ceil(1024) as u32;
            let (memory, elder) = (&self.door.request_memory, &self.door.request_elder);
            Growth {
                since: Instant::now(),
                share: Box::pin(grow(memory.clone(), elder.clone(), kib)),
            }
        });
        let more = ready!(growth.share.as_mut().poll(cx));
        // The time until now was not the peer's.
        self.since += growth.since.elapsed();
        self.growth = None;
        self.share.merge(more);
        Poll::Ready(())
    }

    /// Writes all answers that were gathered.
    async fn write(&mut self) -> Result<(), End> {
        let owed = self.out.size_bytes();
        let at_least = limits::ANSWER_BYTES_PER_S_MIN as f64;
        let patience = limits::WRITE_STALL_MAX + Duration::from_secs_f64(owed as f64 / at_least);
        let until = Instant::now() + patience;
        while !self.out.is_empty() {
            let stalled = Instant::now() + limits::WRITE_STALL_MAX;
            let step = poll_fn(|cx| self.poll_write(cx));
            let written = match timeout_at(until.min(stalled), step).await {
                Ok(Ok(written)) if written > 0 => written,
                Ok(_) => return Err(End::Closed),
                Err(_) => return Err(End::TimedOut),
            };
            self.door.counters.bytes_out.add(written as u64);
            self.out.written(written);
        }
        let flush = poll_fn(|cx| self.transport.poll_flush(cx));
        timeout(limits::WRITE_STALL_MAX, flush)
            .await
            .map_err(|_| End::TimedOut)??;
        self.since = Instant::now();
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); limits::WRITE_SLICES];
        match self.out.next(&mut slices) {
            Next::Slices(count, more) => self.transport.poll_write(cx, &slices[..count], more),
            Next::File(file) => self.transport.poll_send(cx, file, limits::SEND_BYTES),
        }
    }
}

/// So much of the memory for requests, or the right to go on without. Requests that have come in part
/// may hold all of the memory, each waiting for more: one of them is let through then.
async fn grow(memory: Arc<Semaphore>, elder: Arc<Semaphore>, kib: u32) -> Share {
    // Neither semaphore is ever closed.
    tokio::select! {
        biased;
        permit = memory.acquire_many_owned(kib) => Share { permit: permit.ok(), elder: None },
        elder = elder.acquire_owned() => Share { permit: None, elder: elder.ok() },
    }
}

/// What is kept of a name that a peer gives itself.
fn kept(name: &str) -> &str {
    let mut end = name.len().min(limits::SOFTWARE_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
