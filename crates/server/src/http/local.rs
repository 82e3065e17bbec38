//! Refuses what a web page of elsewhere makes a browser on this machine ask: whoever means this node
//! names it by a loopback address, and a page of its own has no other origin. Reading too: a name of
//! elsewhere that is made to lead here (DNS rebinding) makes the answers readable to its pages.

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;

/// Lets through what is asked under a loopback name, or under none.
pub(super) fn only_local(headers: &HeaderMap) -> Result<(), Problem> {
    if local(headers) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "without a token /api/v1 answers under a loopback address only, such as 127.0.0.1 or \
         localhost: that is what Host, and Origin if there is one, must name",
    ))
}

fn local(headers: &HeaderMap) -> bool {
    let own = |name| {
        headers.get_all(name).iter().all(|value| {
            value.to_str().is_ok_and(|text| {
                let bare = text
                    .strip_prefix("http://")
                    .or(text.strip_prefix("https://"));
                let text = bare.unwrap_or(text);
                loopback(text)
            })
        })
    };
    own(header::HOST) && own(header::ORIGIN)
}

/// Whether `host` or `host:port` is this machine.
fn loopback(text: &str) -> bool {
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => text.split(':').next().unwrap_or(text),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_this_machine() {
        for own in [
            "localhost",
            "localhost:80",
            "127.0.0.1:18083",
            "[::1]:1",
            "127.1.2.3",
        ] {
            assert!(loopback(own), "{own}");
        }
        for other in [
            "evil.example",
            "10.0.0.1:80",
            "localhost.evil",
            "",
            "[::2]:1",
        ] {
            assert!(!loopback(other), "{other}");
        }
    }
}
