//! Those who wait for a rebalance: a place in the machine that is given up when the connection goes.

use std::sync::Arc;

use ::kafka::ErrorCode;
use ::kafka::group::{Answer, JoinRequest, Joined, SyncRequest, Synced, Token};
use tokio::sync::oneshot;

use super::{Groups, Inside};
use crate::node::random;

/// One that waits; the machine is told when it stops waiting without an answer.
struct Place {
    groups: Arc<Groups>,
    group: Arc<str>,
    token: Token,
}

impl Drop for Place {
    fn drop(&mut self) {
        let now_ms = self.groups.mono_ms();
        let mut inside = self.groups.lock();
        if inside.waiting.remove(&self.token).is_none() {
            return;
        }
        let mut answers = Vec::new();
        inside
            .machine
            .dropped(&self.group, self.token, now_ms, &mut answers);
        self.groups.deliver(&mut inside, answers);
    }
}

impl Inside {
    fn wait(&mut self) -> (Token, oneshot::Receiver<Answer>) {
        self.next_token += 1;
        let (answer, receiver) = oneshot::channel();
        self.waiting.insert(self.next_token, answer);
        (self.next_token, receiver)
    }
}

impl Groups {
    /// Joins; waits for the rebalance.
    pub(super) async fn join(self: &Arc<Self>, request: &JoinRequest<'_>) -> Joined {
        let (place, answer) = {
            let now_ms = self.mono_ms();
            let mut inside = self.lock();
            let mut answers = Vec::new();
            let (token, answer) = inside.wait();
            if inside.machine.is_full() {
                // Groups that nobody is in any more make room.
                let Inside {
                    machine, offsets, ..
                } = &mut *inside;
                machine.sweep(|id| offsets.has(id));
                if machine.is_full() {
                    machine.sweep(|_| false);
                }
            }
            inside
                .machine
                .join(request, token, now_ms, random::bytes(), &mut answers);
            inside.offsets.used(request.group, self.now_ms());
            self.deliver(&mut inside, answers);
            (self.place(request.group, token), answer)
        };
        let told = answer.await;
        drop(place);
        match told {
            Ok(Answer::Join(joined)) => joined,
            Ok(Answer::Sync(_)) | Err(_) => {
                Joined::refused(ErrorCode::CoordinatorNotAvailable, request.member_id)
            }
        }
    }

    /// Asks for the assignment, or brings it.
    pub(super) async fn sync(self: &Arc<Self>, request: &SyncRequest<'_>) -> Synced {
        let (place, answer) = {
            let now_ms = self.mono_ms();
            let mut inside = self.lock();
            let mut answers = Vec::new();
            let (token, answer) = inside.wait();
            inside.machine.sync(request, token, now_ms, &mut answers);
            self.deliver(&mut inside, answers);
            (self.place(request.group, token), answer)
        };
        let told = answer.await;
        drop(place);
        match told {
            Ok(Answer::Sync(synced)) => synced,
            Ok(Answer::Join(_)) | Err(_) => Synced::refused(ErrorCode::CoordinatorNotAvailable),
        }
    }

    fn place(self: &Arc<Self>, group: &str, token: Token) -> Place {
        Place {
            groups: self.clone(),
            group: group.into(),
            token,
        }
    }
}
