//! What can be chosen among a few.

use std::collections::BTreeMap;

use http::header::HeaderName;
use larder::policy::VaryField;
use larder::semantics::Credentials;
use larder::semantics::accept::{Codings, Languages};
use larder::semantics::freshness::Heuristic;
use larder::store::Levels;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Value;

use super::{List, Name, OffOr, Time, by_text, inner};
use crate::policy::error::{mistaken, unknown};

/// Codings: how they are compared, those that are known, or those with a form in which the origin is asked for them.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum CodingsValue {
    How(Comparison),
    Known(List<Coding>),
    Form(CodingsForm),
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodingsForm {
    Cloudfront(List<Coding>),
    Fastly(List<Coding>),
    OneOf(List<Coding>),
}

impl<'de> Deserialize<'de> for CodingsValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "as-sent" => Ok(Self::How(Comparison::AsSent)),
            Value::String(text) if text == "negotiated" => Ok(Self::How(Comparison::Negotiated)),
            list @ (Value::Array(_) | Value::String(_)) => inner(list).map(Self::Known),
            form @ Value::Table(_) => inner(form).map(Self::Form),
            other => Err(D::Error::custom(format!(
                "{other} is not a coding; there are \"as-sent\", \"negotiated\", a list of codings, and a list under \
                 'cloudfront', 'fastly' or 'one_of'"
            ))),
        }
    }
}

/// A content coding.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Coding(String);

by_text!(
    Coding,
    |text| {
        // Those of IANA's registry, with the two other names that RFC 9110 8.4.1 has.
        const KNOWN: [&str; 12] = [
            "aes128gcm",
            "br",
            "compress",
            "dcb",
            "dcz",
            "deflate",
            "exi",
            "gzip",
            "pack200-gzip",
            "x-compress",
            "x-gzip",
            "zstd",
        ];
        match text.to_ascii_lowercase().as_str() {
            "identity" => Err("'identity' is known in any case; leave it out".to_owned()),
            name if KNOWN.contains(&name) => Ok(Self(text.to_owned())),
            name if mistaken(name, &["as-sent", "negotiated"]).is_some() => {
                Err(unknown("coding", text, ["as-sent", "negotiated"]))
            }
            _ => Err(unknown("coding", text, KNOWN)),
        }
    },
    |coding| coding.0
);

/// How a field of negotiation is compared.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    AsSent,
    Negotiated,
}

impl From<CodingsValue> for Codings {
    fn from(value: CodingsValue) -> Self {
        match &value {
            CodingsValue::How(Comparison::AsSent) => Self::AsSent,
            CodingsValue::How(Comparison::Negotiated) => Self::Negotiated,
            CodingsValue::Known(names) => Self::known(texts(names)),
            CodingsValue::Form(CodingsForm::Cloudfront(names)) => Self::cloudfront(texts(names)),
            CodingsValue::Form(CodingsForm::Fastly(names)) => Self::fastly(texts(names)),
            CodingsValue::Form(CodingsForm::OneOf(names)) => Self::one_of(texts(names)),
        }
    }
}

fn texts(names: &List<Coding>) -> impl Iterator<Item = &str> {
    names.0.iter().map(|coding| coding.0.as_str())
}

impl From<Comparison> for Languages {
    fn from(value: Comparison) -> Self {
        match value {
            Comparison::AsSent => Self::AsSent,
            Comparison::Negotiated => Self::Negotiated,
        }
    }
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialsValue {
    Explicit,
    Rfc9111,
}

impl From<CredentialsValue> for Credentials {
    fn from(value: CredentialsValue) -> Self {
        match value {
            CredentialsValue::Explicit => Self::Explicit,
            CredentialsValue::Rfc9111 => Self::Rfc9111,
        }
    }
}

/// Which levels of a tier keep responses.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelsValue {
    Both,
    Far,
    Near,
}

impl From<LevelsValue> for Levels {
    fn from(value: LevelsValue) -> Self {
        match value {
            LevelsValue::Both => Self::Both,
            LevelsValue::Far => Self::Far,
            LevelsValue::Near => Self::Near,
        }
    }
}

/// Heuristic freshness; what is left out is as by default.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with 'percent', 'most' and 'errors'")]
pub struct HeuristicValue {
    errors: Option<bool>,
    most: Option<Time>,
    percent: Option<u32>,
}

impl OffOr for HeuristicValue {
    const LOOKS: &str = "a table with 'percent', 'most' and 'errors'";
}

impl From<HeuristicValue> for Heuristic {
    fn from(value: HeuristicValue) -> Self {
        let mut heuristic = Self::default();
        heuristic.errors = value.errors.unwrap_or(heuristic.errors);
        heuristic.most = value.most.map_or(heuristic.most, |most| most.0);
        heuristic.percent = value.percent.unwrap_or(heuristic.percent);
        heuristic
    }
}

/// What becomes of a field that `Vary` names.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaryChoice {
    AsSent,
    Bypass,
    Ignored,
    LowerCase,
}

impl From<VaryChoice> for VaryField {
    fn from(choice: VaryChoice) -> Self {
        match choice {
            VaryChoice::AsSent => Self::AsSent,
            VaryChoice::Bypass => Self::Bypass,
            VaryChoice::Ignored => Self::Ignored,
            VaryChoice::LowerCase => Self::lower_case(),
        }
    }
}

/// What becomes of fields that `Vary` names, by their names.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, VaryChoice>", into = "BTreeMap<String, VaryChoice>")]
pub struct VaryChoices(pub Vec<(HeaderName, VaryChoice)>);

impl TryFrom<BTreeMap<String, VaryChoice>> for VaryChoices {
    type Error = String;

    fn try_from(table: BTreeMap<String, VaryChoice>) -> Result<Self, String> {
        table
            .into_iter()
            .map(|(name, choice)| Ok((Name::try_from(name)?.0, choice)))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl From<VaryChoices> for BTreeMap<String, VaryChoice> {
    fn from(choices: VaryChoices) -> Self {
        choices.0.into_iter().map(|(name, choice)| (name.to_string(), choice)).collect()
    }
}
