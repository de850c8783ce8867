//! Pages in the place of errors.

use std::collections::BTreeMap;

use http::StatusCode;
use http::uri::PathAndQuery;
use larder::ErrorPagesLayer;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::{Status, by_text, inner};

/// Pages by the statuses that they replace.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, Page>", into = "BTreeMap<String, Page>")]
pub struct ErrorPages(Vec<(StatusCode, Page)>);

impl TryFrom<BTreeMap<String, Page>> for ErrorPages {
    type Error = String;

    fn try_from(table: BTreeMap<String, Page>) -> Result<Self, String> {
        let read = |(text, page): (String, Page)| Ok((Status::of_error(&text)?, page));
        table.into_iter().map(read).collect::<Result<_, String>>().map(Self)
    }
}

impl From<ErrorPages> for BTreeMap<String, Page> {
    fn from(pages: ErrorPages) -> Self {
        pages.0.into_iter().map(|(status, page)| (status.as_u16().to_string(), page)).collect()
    }
}

impl From<ErrorPages> for ErrorPagesLayer {
    fn from(pages: ErrorPages) -> Self {
        pages.0.into_iter().fold(Self::new(), |layer, (error, Page { path, status })| {
            layer.page_as(error, path.0, status.map_or(error, |status| status.0))
        })
    }
}

/// A path, or a table with a path and the status that the page gets.
#[derive(Clone)]
pub struct Page {
    path: Path,
    status: Option<Status>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    path: Path,
    status: Option<Status>,
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Table { path, status } = match Value::deserialize(deserializer)? {
            table @ Value::Table(_) => inner(table)?,
            path => Table { path: inner(path)?, status: None },
        };
        // Another status has no content, says something about a request that it is not for, or is not for a page.
        let is_of_page =
            |status: StatusCode| status == StatusCode::OK || (400..600).contains(&status.as_u16());
        if let Some(Status(status)) = status.filter(|status| !is_of_page(status.0)) {
            let number = status.as_u16();
            return Err(D::Error::custom(format!(
                "'{number}' is not a status of a page; that is 200, 4xx or 5xx"
            )));
        }
        Ok(Self { path, status })
    }
}

impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { path, status } = self.clone();
        match status {
            None => path.serialize(serializer),
            Some(_) => Table { path, status }.serialize(serializer),
        }
    }
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Path(PathAndQuery);

by_text!(
    Path,
    |text| match text.parse() {
        Ok(path) if text.starts_with('/') => Ok(Self(path)),
        _ => Err(format!("'{text}' is not a path; one looks like /404.html")),
    },
    |path| path.0.as_str().to_owned()
);
