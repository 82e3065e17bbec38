//! The files of the console, embedded when the program is built for release and read from the source
//! folder in a debug build. They are answered with a validator, so that a browser asks again cheaply.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::RustEmbed;

use super::headers;

/// Scripts, styles, the icon and the libraries with their licences.
#[derive(RustEmbed)]
#[folder = "console/assets"]
struct Assets;

/// The templates of the pages.
#[derive(RustEmbed)]
#[folder = "console/templates"]
struct Templates;

/// The file at that path below `/assets/`; `None`: there is none.
pub(super) fn answer(path: &str, asked: &HeaderMap) -> Option<Response> {
    let file = Assets::get(path)?;
    let tag = tag(&file.metadata.sha256_hash());
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| {
        let known = known.to_str().unwrap_or_default();
        known.split(',').any(|one| one.trim() == tag)
    });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.into_owned().into_response()
    };
    let answer = response.headers_mut();
    answer.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type(path)),
    );
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    headers::secure(answer, asked);
    Some(response)
}

/// The text of a template.
pub(super) fn template(name: &str) -> Option<String> {
    let file = Templates::get(name)?;
    match file.data {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok(),
    }
}

/// Names of all files below `/assets/`.
#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    Assets::iter().map(Cow::into_owned).collect()
}

fn tag(hash: &[u8]) -> String {
    let start = hash.first_chunk().copied().unwrap_or_default();
    format!("\"{:032x}\"", u128::from_be_bytes(start))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}
