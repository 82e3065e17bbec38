//! A node that is only said to exist: three clients, one stream, one hook.

use std::sync::Mutex;

use broker::{OrderKey, SubscriptionQuery};

use super::super::list::Page;
use super::super::view::{
    ClientDetails, GroupRow, HookRow, ListenerRow, PartitionRow, RetainedMessage, RetainedRow,
    Status, StreamRow, SubscriptionRow, Telling,
};
use super::super::{AuditRow, NodeView, counters, live};
use crate::auth::{Tokens, Users};

/// Three clients, one stream, one hook.
pub(super) struct Told {
    pub trouble: Mutex<Option<String>>,
    pub users: Users,
    pub tokens: Tokens,
    pub audited: Mutex<Vec<AuditRow>>,
    pub traces: crate::node::Traces,
    pub bans: Mutex<Vec<crate::auth::Ban>>,
    pub published: Mutex<Vec<crate::node::Deposit>>,
    pub http: Mutex<counters::HttpValues>,
    /// Whether the mirror is on; `None`: there is none.
    pub mirror: Mutex<Option<bool>>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            trouble: Mutex::default(),
            users: crate::auth::in_memory(),
            tokens: crate::auth::tokens_in_memory(),
            audited: Mutex::default(),
            traces: crate::node::Traces::default(),
            bans: Mutex::default(),
            published: Mutex::default(),
            http: Mutex::default(),
            mirror: Mutex::new(Some(true)),
        }
    }
}

fn told<T: Send + 'static>(answer: T) -> Telling<'static, T> {
    Box::pin(std::future::ready(answer))
}

fn session(id: &str) -> broker::ClientRow {
    broker::ClientRow {
        client_id: id.to_owned(),
        username: String::new(),
        connected: true,
        peer: None,
        keep_alive_s: None,
        version: mqtt::Version::V5,
        connected_ms: 0,
        disconnected_ms: None,
        session_expiry_s: 0,
        subscriptions: 0,
        inbox: 0,
        inflight: 0,
    }
}

impl NodeView for Told {
    fn status(&self) -> Telling<'_, Status> {
        told(Status {
            node: "sluice@127.0.0.1".into(),
            connections: 3,
            ..Status::default()
        })
    }

    fn listeners(&self) -> Vec<ListenerRow> {
        Vec::new()
    }

    fn clients(&self, query: broker::ClientQuery) -> Telling<'_, crate::node::ClientPage> {
        let after = query.after.map_or_else(String::new, |(_, id)| id);
        let mut ids = ["a", "b", "c"]
            .into_iter()
            .filter(|id| *id > after.as_str());
        let clients: Vec<_> = ids.by_ref().take(query.limit).map(session).collect();
        let last = clients.last().map(|last| last.client_id.clone());
        let next = ids.next().and(last).map(|id| (OrderKey::Number(0), id));
        told(crate::node::ClientPage { clients, next })
    }

    fn client(&self, client_id: String) -> Telling<'_, Option<ClientDetails>> {
        told((client_id == "a").then(ClientDetails::default))
    }

    fn kick(&self, client_id: String) -> Telling<'_, bool> {
        told(client_id == "a/b c")
    }

    fn subscriptions(
        &self,
        _query: SubscriptionQuery,
    ) -> Telling<'_, (Vec<SubscriptionRow>, bool)> {
        told((Vec::new(), false))
    }

    fn retained(&self, _filter: &str, _after: Option<&str>, _limit: usize) -> Page<RetainedRow> {
        Page::default()
    }

    fn retained_message(&self, topic: String) -> Telling<'_, Option<RetainedMessage>> {
        told((topic == "devices/1/state").then(RetainedMessage::default))
    }

    fn log(&self) -> Option<&commitlog::LogReader> {
        None
    }

    fn kafka_connections(&self, _after: u64, _limit: usize) -> Page<crate::kafka::ConnectionRow> {
        Page::default()
    }

    fn groups(&self, _: Option<&str>, _: Option<&str>, _: usize) -> Page<GroupRow> {
        Page::default()
    }

    fn streams(&self) -> Vec<StreamRow> {
        let partition = PartitionRow {
            log_start: 1,
            end: 4,
            flushed: 4,
            size_bytes: 99,
        };
        vec![StreamRow {
            name: "message_state".into(),
            partitions: vec![partition],
            ..StreamRow::default()
        }]
    }

    fn hooks(&self) -> Telling<'_, Vec<HookRow>> {
        told(vec![HookRow {
            event: "message.publish".into(),
            ..HookRow::default()
        }])
    }

    fn metrics(&self, http: counters::HttpValues) -> Telling<'_, String> {
        *self.http.lock().unwrap() = http;
        told("# EOF\n".to_owned())
    }

    fn users(&self) -> &Users {
        &self.users
    }

    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn totals(&self) -> Telling<'_, live::Totals> {
        told(live::Totals::default())
    }

    fn downlinks(&self) -> Vec<crate::downlink::DownlinkRow> {
        Vec::new()
    }

    fn mirror(&self) -> crate::mirror::view::MirrorView {
        let state = match *self.mirror.lock().unwrap() {
            None => "off",
            Some(true) => "connected",
            Some(false) => "paused",
        };
        crate::mirror::view::MirrorView {
            state: state.to_owned(),
            ..Default::default()
        }
    }

    fn switch_mirror(&self, on: bool) -> bool {
        let mut mirror = self.mirror.lock().unwrap();
        mirror.as_mut().map(|it| *it = on).is_some()
    }

    fn config(&self) -> String {
        "[node]\n".to_owned()
    }

    fn publish(
        &self,
        messages: Vec<crate::node::Deposit>,
    ) -> Telling<'_, Vec<Result<crate::node::Deposited, crate::node::DepositError>>> {
        let taken = |message: &crate::node::Deposit| match message.topic.as_str() {
            "denied" => Err(crate::node::DepositError::NotAuthorized),
            _ => Ok(crate::node::Deposited::default()),
        };
        let answers = messages.iter().map(taken).collect();
        self.published.lock().unwrap().extend(messages);
        told(answers)
    }

    fn switch_hook(
        &self,
        name: String,
        _on: bool,
    ) -> Telling<'_, Result<(), crate::node::HookChangeError>> {
        let known = name == "message.publish:message_state";
        told(
            known
                .then_some(())
                .ok_or(crate::node::HookChangeError::Unknown),
        )
    }

    fn reload_hooks(&self) -> Telling<'_, Result<(), crate::node::HookChangeError>> {
        told(Ok(()))
    }

    fn bans(&self) -> Vec<crate::auth::Ban> {
        self.bans.lock().unwrap().clone()
    }

    fn ban(
        &self,
        ban: crate::auth::Ban,
    ) -> Telling<'_, Result<crate::auth::Ban, crate::auth::BanError>> {
        self.bans.lock().unwrap().push(ban.clone());
        told(Ok(ban))
    }

    fn unban(
        &self,
        kind: crate::auth::BanKind,
        value: String,
    ) -> Telling<'_, Result<(), crate::auth::BanError>> {
        let mut bans = self.bans.lock().unwrap();
        let at = bans
            .iter()
            .position(|ban| ban.kind == kind && ban.value == value);
        let gone = at.map(|at| bans.remove(at)).map(|_| ());
        told(gone.ok_or(crate::auth::BanError::Unknown))
    }

    fn trace(&self, query: crate::node::TraceQuery) -> Option<crate::node::Tracing> {
        Some(self.traces.follow(query))
    }

    fn backup(
        &self,
        dir: std::path::PathBuf,
    ) -> Telling<'_, Result<crate::node::Backup, crate::node::BackupError>> {
        use crate::node::BackupError;
        let what = "said so".to_owned();
        told(Err(match dir.to_str() {
            Some("/room") => BackupError::Room(what),
            Some("/latched") => BackupError::Latched(what),
            Some("/failed") => BackupError::Failed(what),
            _ => BackupError::Place(what),
        }))
    }

    fn audit(&self, row: AuditRow) -> Telling<'_, ()> {
        self.audited.lock().unwrap().push(row);
        told(())
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap().clone()
    }
}
