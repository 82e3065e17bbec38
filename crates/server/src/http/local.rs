//! Refuses what a web page of elsewhere makes a browser on this machine ask: whoever means this node
//! names it by a loopback address, and a page of its own has no other origin. Reading too: a name of
//! elsewhere that is made to lead here (DNS rebinding) makes the answers readable to its pages.

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;

/// Headers that tell of a proxy: then whoever asks may be anywhere.
const PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Lets through what is asked under a loopback name, or under none, by no page but one of this node.
pub(super) fn only_local(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    if PROXIES.iter().any(|name| headers.contains_key(*name)) {
        return refused(
            "this came through a proxy: behind one /api/v1 wants a token of everybody; make one \
             with `sluice token add`",
        );
    }
    let hosts = headers.get_all(header::HOST).iter();
    let mut hosts = hosts.map(|host| host.to_str().unwrap_or_default());
    if !hosts.all(loopback) {
        return refused(
            "without a token /api/v1 answers under a loopback address only, such as 127.0.0.1 or \
             localhost: that is what Host must name",
        );
    }
    if !is_own_page(headers) {
        return refused(
            "without a token /api/v1 answers no page but those of this node, under a loopback \
             address: that is what Origin must name",
        );
    }
    Ok(())
}

/// Whether no page asks, or one of this node.
fn is_own_page(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = |origin: &str| {
        let bare = origin
            .strip_prefix("http://")
            .or(origin.strip_prefix("https://"));
        bare.is_some_and(|bare| !host.is_empty() && bare.eq_ignore_ascii_case(host))
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let mut sites = headers.get_all("sec-fetch-site").iter();
    origins.all(|origin| origin.to_str().is_ok_and(own))
        && sites.all(|site| site == "same-origin" || site == "none")
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

    fn judged(headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, axum::http::HeaderValue::from_static(value));
        }
        only_local(&map).is_ok()
    }

    #[test]
    fn only_programs_and_pages_of_this_node_are_let_in() {
        const HOST: (&str, &str) = ("host", "localhost:18083");
        for headers in [
            &[][..],
            &[HOST],
            &[HOST, ("origin", "http://localhost:18083")],
            &[HOST, ("origin", "https://LOCALHOST:18083")],
            &[HOST, ("sec-fetch-site", "same-origin")],
            &[HOST, ("sec-fetch-site", "none")],
        ] {
            assert!(judged(headers), "{headers:?}");
        }
        for headers in [
            &[("host", "evil.example")][..],
            &[HOST, ("host", "evil.example")],
            // A page of another program on this machine.
            &[HOST, ("origin", "http://localhost:3000")],
            &[HOST, ("origin", "null")],
            &[("origin", "http://localhost:18083")],
            // An image or a script of a page of elsewhere.
            &[HOST, ("sec-fetch-site", "cross-site")],
            &[HOST, ("sec-fetch-site", "same-site")],
            &[HOST, ("x-forwarded-for", "10.0.0.7")],
            &[HOST, ("via", "1.1 proxy")],
        ] {
            assert!(!judged(headers), "{headers:?}");
        }
    }

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
