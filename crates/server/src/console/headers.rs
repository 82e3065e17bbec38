//! The headers that keep a page of the console what it is: no script or style but its own files, no
//! host but its own, in nobody's frame.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Writes the security headers. `asked` names the host of the page: the WebSocket tool may connect to
/// any port of that host, and to nothing else.
pub(super) fn secure(answer: &mut HeaderMap, asked: &HeaderMap) {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'{}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        sockets(asked)
    );
    // The host is made of letters, digits, dots and dashes: always a header value.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        answer.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ] {
        answer.insert(name, HeaderValue::from_static(value));
    }
}

/// Sources for WebSocket connections. A policy has no way to write an IPv6 address: then every host.
fn sockets(asked: &HeaderMap) -> String {
    let host = asked
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    if host.starts_with('[') {
        return " ws: wss:".to_owned();
    }
    let host = host.split(':').next().unwrap_or_default();
    let sound = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '-';
    if host.is_empty() || !host.chars().all(sound) {
        return String::new();
    }
    format!(" ws://{host}:* wss://{host}:*")
}
