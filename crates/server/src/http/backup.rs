//! Copies the data directory of the running node, where an admin says.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Note;
use super::problem::Problem;
use super::{Routes, Shared};
use crate::auth::Role;
use crate::node::BackupError;

/// A backup to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// The directory on the machine of the node, absolute; empty or absent.
    pub dir: String,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupRow {
    /// Where it is.
    pub dir: String,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The last entry of the journal in it.
    pub lsn: u64,
}

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/api/v1/backup", Role::Admin, backup);
}

/// Copies the data directory while the node goes on. The copy holds everything that was answered
/// before this was asked; a node starts on it as after a power cut.
#[utoipa::path(post, path = "/api/v1/backup", tag = "node", request_body = NewBackup,
    responses((status = 200, body = BackupRow), (status = 400, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem),
        (status = 507, body = Problem)))]
pub(super) async fn backup(
    State(api): State<Shared>,
    body: Result<Json<NewBackup>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(wanted) = body?;
    let note = Note(format!("to {}", wanted.dir));
    let mut response = match make(&api, wanted.dir).await {
        Ok(row) => Json(row).into_response(),
        Err(problem) => problem.into_response(),
    };
    response.extensions_mut().insert(note);
    Ok(response)
}

async fn make(api: &Shared, dir: String) -> Result<BackupRow, Problem> {
    let path = PathBuf::from(&dir);
    if !path.is_absolute() {
        let detail = "dir: it is an absolute path";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let Ok(_only) = api.backing_up.try_acquire() else {
        return Err(Problem::new(StatusCode::CONFLICT, "a backup is being made"));
    };
    let made = api.view.backup(path).await?;
    Ok(BackupRow {
        dir,
        files: made.files,
        bytes: made.bytes,
        lsn: made.lsn,
    })
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let (status, why) = match error {
            BackupError::Place(why) => (StatusCode::BAD_REQUEST, why),
            BackupError::Room(why) => (StatusCode::INSUFFICIENT_STORAGE, why),
            BackupError::Latched(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            BackupError::Failed(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
        };
        Self::new(status, why)
    }
}
