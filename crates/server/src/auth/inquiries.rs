//! What only a callout knows of what a client may do: of its will, of the subscriptions that come back
//! with its session, of what it publishes and subscribes to. It lets nobody in and knows no sessions.

use std::net::IpAddr;
use std::sync::Arc;

use broker::access::{Access, Action, Otherwise, Permit, Question, Subject};
use mqtt::Connect;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::admission::Auth;
use super::callout::{Answer, Asked};
use super::limits::ASKED_AT_ONCE;

/// About whom a callout is asked.
struct Asker {
    client_id: String,
    username: String,
    address: String,
}

impl Asker {
    fn asks<'a>(&'a self, question: &'a Question) -> Asked<'a> {
        Asked {
            clientid: &self.client_id,
            username: &self.username,
            password: None,
            peerhost: &self.address,
            action: Some(match question.action {
                Action::Publish => "publish",
                Action::Subscribe => "subscribe",
            }),
            topic: Some(&question.topic),
        }
    }
}

impl Auth {
    /// What must be known of a client's will before it is in.
    pub(super) async fn permits_for_will(
        &self,
        access: Option<&Access>,
        connect: &Connect<'_>,
        (client_id, username, address): (&str, &str, IpAddr),
    ) -> Vec<Permit> {
        let (Some(access), Some(will)) = (access, &connect.will) else {
            return Vec::new();
        };
        let subject = Subject {
            client_id,
            username,
            address: Some(address),
        };
        if access.decide(&subject, Action::Publish, will.topic) != Otherwise::Ask {
            return Vec::new();
        }
        let question = Question {
            action: Action::Publish,
            topic: will.topic.into(),
        };
        self.permits(&subject, vec![question]).await
    }

    /// Asks what only a callout knows. What is not answered is denied, and asked again next time.
    pub async fn permits(&self, subject: &Subject<'_>, questions: Vec<Question>) -> Vec<Permit> {
        let found = self.find_out(subject, questions).await;
        found.into_iter().map(|(permit, _)| permit).collect()
    }

    /// The same of subscriptions that come back with their session. `None`: not all was answered; what
    /// a service has forgotten to forbid must not be served, and what it could not be asked about must
    /// not be taken away, so that the client has to come again.
    pub async fn permits_on_return(
        &self,
        subject: &Subject<'_>,
        questions: Vec<Question>,
    ) -> Option<Vec<Permit>> {
        let asked = questions.len();
        let found = self.find_out(subject, questions).await;
        let all = found.len() == asked && found.iter().all(|(_, answered)| *answered);
        all.then(|| found.into_iter().map(|(permit, _)| permit).collect())
    }

    /// Permits, and whether each was answered; in any order.
    async fn find_out(
        &self,
        subject: &Subject<'_>,
        questions: Vec<Question>,
    ) -> Vec<(Permit, bool)> {
        let plan = self.plan();
        let Some(callout) = &plan.callout else {
            return Vec::new();
        };
        let until = Instant::now() + callout.timeout();
        let address = subject.address.map(|at| at.to_canonical().to_string());
        let asker = Arc::new(Asker {
            client_id: subject.client_id.to_owned(),
            username: subject.username.to_owned(),
            address: address.unwrap_or_default(),
        });
        let mut found = Vec::with_capacity(questions.len());
        let mut questions = questions.into_iter();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < ASKED_AT_ONCE
                && let Some(question) = questions.next()
            {
                let (callout, asker) = (Arc::clone(callout), Arc::clone(&asker));
                asking.spawn(async move {
                    if Instant::now() >= until {
                        return (question, None);
                    }
                    let answer = callout.ask(&asker.asks(&question)).await;
                    (question, answer)
                });
            }
            let (question, answer) = match asking.join_next().await {
                None => return found,
                Some(Err(_)) => continue,
                Some(Ok(answered)) => answered,
            };
            let (allowed, keep_ms) = match answer {
                Some(Answer::Allow(_)) => (true, callout.cache_ms),
                Some(Answer::Deny) => (false, callout.cache_ms),
                Some(Answer::Ignore) => (plan.authorization.allow_no_match, callout.cache_ms),
                None => (false, 0),
            };
            let permit = Permit {
                question,
                allowed,
                keep_ms,
            };
            found.push((permit, answer.is_some()));
        }
    }
}
