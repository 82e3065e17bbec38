//! The pages of the console and their templates. A page is the same for everybody: its scripts fill
//! it in.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use minijinja::{Environment, Value, context};

use super::{assets, headers};

/// A page: where it is, what the menu calls it, and under which heading of the menu it stands.
#[derive(Debug)]
pub(super) struct Page {
    /// Path in the address.
    pub path: &'static str,
    /// Name of its template and of its script, without the ending.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Heading of the menu; empty: none.
    pub group: &'static str,
}

const PAGES: &[Page] = &[
    page("/", "overview", "Overview", ""),
    page("/clients", "clients", "Clients", "Devices"),
    page(
        "/subscriptions",
        "subscriptions",
        "Subscriptions",
        "Devices",
    ),
    page("/retained", "retained", "Retained", "Devices"),
    page("/streams", "streams", "Streams", "Log"),
    page("/hooks", "hooks", "Hooks", "Log"),
    page("/mirror", "mirror", "Mirror", "Log"),
    page("/websocket", "websocket", "WebSocket", "Tools"),
    page("/live", "live", "Log and trace", "Tools"),
    page("/access", "access", "Users and access", "Node"),
    page("/settings", "settings", "Settings", "Node"),
];

const fn page(
    path: &'static str,
    name: &'static str,
    title: &'static str,
    group: &'static str,
) -> Page {
    Page {
        path,
        name,
        title,
        group,
    }
}

/// All pages, as the menu lists them.
pub(super) fn all() -> &'static [Page] {
    PAGES
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_loader(|name| Ok(assets::template(name)));
    environment
}

/// The page as HTML.
pub(super) fn render(page: &Page) -> Result<String, minijinja::Error> {
    let template = ENVIRONMENT.get_template(&format!("{}.html", page.name))?;
    template.render(context! {
        page => value(page),
        pages => PAGES.iter().map(value).collect::<Vec<Value>>(),
        version => env!("CARGO_PKG_VERSION"),
    })
}

/// The page as templates see it.
fn value(page: &Page) -> Value {
    context! {
        path => page.path,
        name => page.name,
        title => page.title,
        group => page.group,
    }
}

/// The answer to a request for a page.
pub(super) fn answer(page: &Page, asked: &HeaderMap) -> Response {
    let mut response = match render(page) {
        Ok(html) => html.into_response(),
        Err(error) => {
            tracing::error!(page = page.name, %error, "a page of the console does not render");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    headers::secure(headers, asked);
    response
}
