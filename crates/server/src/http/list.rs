//! Lists in pages: what may be asked of any of them, the shape of the answer, and the paging of rows
//! that are all in memory. It must not know what a row is about.

use std::borrow::Cow;
use std::cmp::Ordering;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;

/// What may be asked of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Most items; bounded by `page_rows_max` of `[http]`.
    pub limit: Option<u32>,
    /// `next` of the page before; absent: the first page.
    pub cursor: Option<String>,
    /// Only items that contain this text.
    pub filter: Option<String>,
    /// Field to sort by, such as `name`; with `-` in front the other way round.
    pub sort: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order asked for.
    pub items: Vec<T>,
    /// `cursor` of the next page; `null`: this is the last.
    pub next: Option<String>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// A field of a row, as far as sorting and filtering go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell<'a> {
    /// A figure.
    Number(u64),
    /// A text.
    Text(Cow<'a, str>),
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Cell<'_> {
    fn from(figure: u64) -> Self {
        Self::Number(figure)
    }
}

impl From<bool> for Cell<'_> {
    fn from(yes: bool) -> Self {
        Self::Number(u64::from(yes))
    }
}

/// A row of a list that is all in memory.
pub trait Listed {
    /// Names of the fields to sort by, the usual order first. No two rows are equal in all of them.
    const FIELDS: &'static [&'static str];

    /// The field of that number in [`Listed::FIELDS`].
    fn field(&self, number: usize) -> Cell<'_>;
}

/// The order that `sort` asks for: number of the field, and whether it is turned round.
///
/// # Errors
/// There is no such field; names those there are.
pub fn order(sort: Option<&str>, fields: &[&str]) -> Result<(usize, bool), Problem> {
    let Some(sort) = sort.filter(|sort| !sort.is_empty()) else {
        return Ok((0, false));
    };
    let (name, descending) = match sort.strip_prefix('-') {
        Some(name) => (name, true),
        None => (sort, false),
    };
    match fields.iter().position(|field| *field == name) {
        Some(number) => Ok((number, descending)),
        None => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!(
                "sort: there is no `{name}`; there are {}",
                fields.join(", ")
            ),
        )),
    }
}

/// A page of `rows`, which are in the order of their first field or in none.
///
/// # Errors
/// The cursor is not one of this list, or there is no such field.
pub fn page<T: Listed>(rows: Vec<T>, query: &ListQuery, limit: usize) -> Result<Page<T>, Problem> {
    let (field, descending) = order(query.sort.as_deref(), T::FIELDS)?;
    let filter = query.filter.as_deref().filter(|text| !text.is_empty());
    let mut rows: Vec<T> = rows
        .into_iter()
        .filter(|row| filter.is_none_or(|text| contains(row, text)))
        .collect();
    let compare = |a: &[Cell<'_>], b: &[Cell<'_>]| {
        let order = a.cmp(b);
        if descending { order.reverse() } else { order }
    };
    rows.sort_by(|a, b| compare(&place(a, field), &place(b, field)));
    if let Some(cursor) = &query.cursor {
        let after: Vec<Cell<'static>> = decode::<Vec<Written>>(cursor)?
            .into_iter()
            .map(Cell::from)
            .collect();
        rows.retain(|row| compare(&place(row, field), &after) == Ordering::Greater);
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|last| {
        encode(
            &place(last, field)
                .into_iter()
                .map(Written::from)
                .collect::<Vec<_>>(),
        )
    });
    Ok(Page { items: rows, next })
}

/// What a row is sorted by: the field asked for, then all others.
fn place<T: Listed>(row: &T, field: usize) -> Vec<Cell<'_>> {
    let others = (0..T::FIELDS.len()).filter(|number| *number != field);
    std::iter::once(field)
        .chain(others)
        .map(|number| row.field(number))
        .collect()
}

fn contains<T: Listed>(row: &T, text: &str) -> bool {
    (0..T::FIELDS.len()).any(|number| match row.field(number) {
        Cell::Text(field) => field.contains(text),
        Cell::Number(_) => false,
    })
}

/// A cell in a cursor.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl From<Written> for Cell<'_> {
    fn from(written: Written) -> Self {
        match written {
            Written::Number(figure) => Self::Number(figure),
            Written::Text(text) => Self::from(text),
        }
    }
}

impl From<Cell<'_>> for Written {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Number(figure) => Self::Number(figure),
            Cell::Text(text) => Self::Text(text.into_owned()),
        }
    }
}

/// A cursor: text without meaning for whoever gets it.
pub fn encode<T: Serialize>(place: &T) -> String {
    let json = serde_json::to_vec(place).expect("texts and figures are JSON");
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(json)
}

/// The place behind which the page of a cursor begins.
///
/// # Errors
/// It is none of ours.
pub fn decode<T: for<'a> Deserialize<'a>>(cursor: &str) -> Result<T, Problem> {
    base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(cursor)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| {
            let what = "cursor: it is not `next` of a page of this list";
            Problem::new(StatusCode::BAD_REQUEST, what)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair(&'static str, u64);

    impl Listed for Pair {
        const FIELDS: &'static [&'static str] = &["name", "size"];

        fn field(&self, number: usize) -> Cell<'_> {
            match number {
                0 => self.0.into(),
                _ => self.1.into(),
            }
        }
    }

    fn walked(query: &ListQuery, limit: usize) -> Vec<&'static str> {
        let rows = || vec![Pair("c", 7), Pair("a", 7), Pair("d", 1), Pair("b", 9)];
        let mut query = query.clone();
        let mut names = Vec::new();
        loop {
            let page = page(rows(), &query, limit).unwrap();
            assert!(page.items.len() <= limit);
            names.extend(page.items.iter().map(|row| row.0));
            query.cursor = page.next;
            if query.cursor.is_none() {
                return names;
            }
        }
    }

    #[test]
    fn pages_together_are_the_list_in_any_order() {
        let sorted = |sort: &str| ListQuery {
            sort: Some(sort.to_owned()),
            ..ListQuery::default()
        };
        for limit in 1..6 {
            assert_eq!(walked(&ListQuery::default(), limit), ["a", "b", "c", "d"]);
            assert_eq!(walked(&sorted("-name"), limit), ["d", "c", "b", "a"]);
            assert_eq!(walked(&sorted("size"), limit), ["d", "a", "c", "b"]);
            assert_eq!(walked(&sorted("-size"), limit), ["b", "c", "a", "d"]);
        }
        let filtered = ListQuery {
            filter: Some("b".to_owned()),
            ..ListQuery::default()
        };
        assert_eq!(walked(&filtered, 1), ["b"]);
    }

    #[test]
    fn what_is_no_field_or_no_cursor_is_a_problem() {
        for (sort, cursor) in [
            (Some("colour"), None),
            (None, Some("???")),
            (None, Some("e30")),
        ] {
            let query = ListQuery {
                sort: sort.map(str::to_owned),
                cursor: cursor.map(str::to_owned),
                ..ListQuery::default()
            };
            assert!(page(vec![Pair("a", 1)], &query, 1).is_err(), "{query:?}");
        }
    }
}
