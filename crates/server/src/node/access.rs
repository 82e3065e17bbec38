//! Rules and users that change while clients are connected: what the configuration says anew, and the
//! connections of users whose password is another now or who are there no more.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker::ClientQuery;

use super::mailbox::Ask;
use super::{Node, PAGE_ROWS_MAX};
use crate::settings::{ListenerSettings, Settings};

impl Node {
    /// Puts authenticators and rules of new settings in force: for those who come and, as for the
    /// rules, for those who are in. Nothing else of the settings counts.
    ///
    /// # Errors
    /// They cannot be used, or go with other listeners than there are; all stays as it was.
    pub async fn reload_access(&self, settings: &Settings) -> Result<(), String> {
        let mqtt = |listener: &&ListenerSettings| listener.kind.speaks_mqtt();
        let said: Vec<&ListenerSettings> = settings.listeners.iter().filter(mqtt).collect();
        let same = |(facts, said): (&Arc<super::ListenerFacts>, &&ListenerSettings)| {
            let own = &facts.settings;
            (own.kind, own.bind) == (said.kind, said.bind)
        };
        if said.len() != self.listeners.len() || !self.listeners.iter().zip(&said).all(same) {
            return Err("the listeners for MQTT are others now, which needs a restart".to_owned());
        }
        let _changing = self.reloading.lock().await;
        let judging = Arc::new(self.auth.reload(&settings.keys)?);
        for (facts, said) in self.listeners.iter().zip(said) {
            facts.ask_by(&said.authenticators);
        }
        let ask = |answer| Ask::Judging {
            judging: Arc::clone(&judging),
            answer,
        };
        self.ask_all(ask).await;
        Ok(())
    }

    /// Ends the MQTT connections of users whose password has changed or who were deleted, as it
    /// happens, until the node stops.
    pub(super) async fn end_revoked(self: Arc<Self>) {
        let mut stop = self.stop.subscribe();
        let revocations = self.users.revocations();
        loop {
            let revoked = tokio::select! {
                revoked = revocations.next() => revoked,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            self.kick_users(&revoked).await;
        }
    }

    async fn kick_users(&self, names: &BTreeSet<String>) {
        let mut query = ClientQuery {
            connected: Some(true),
            limit: PAGE_ROWS_MAX,
            ..ClientQuery::default()
        };
        loop {
            let page = self.clients(query.clone()).await;
            for client in &page.clients {
                if names.contains(&client.username) {
                    self.kick(&client.client_id).await;
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return,
            }
        }
    }
}
