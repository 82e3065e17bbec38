//! Copies the data directory of the running node, where an admin says.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Routes, Shared};
use crate::auth::Role;

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
        (status = 409, body = Problem)))]
pub(super) async fn backup(
    State(api): State<Shared>,
    body: Result<Json<NewBackup>, JsonRejection>,
) -> Result<Json<BackupRow>, Problem> {
    let bad = |what: String| Problem::new(StatusCode::BAD_REQUEST, what);
    let Json(wanted) = body.map_err(|error| bad(error.body_text()))?;
    let dir = PathBuf::from(&wanted.dir);
    if !dir.is_absolute() {
        return Err(bad("dir: it is an absolute path".to_owned()));
    }
    let Ok(_only) = api.backing_up.try_acquire() else {
        return Err(Problem::new(StatusCode::CONFLICT, "a backup is being made"));
    };
    let made = api.view.backup(dir).await.map_err(bad)?;
    Ok(Json(BackupRow {
        dir: wanted.dir,
        files: made.files,
        bytes: made.bytes,
        lsn: made.lsn,
    }))
}
