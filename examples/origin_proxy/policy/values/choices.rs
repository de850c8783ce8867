//! What can be chosen among a few.

use std::collections::BTreeMap;

use http::header::HeaderName;
use larder::policy::VaryField;
use larder::semantics::Credentials;
use larder::semantics::accept::{Codings, Languages};
use larder::semantics::freshness::Heuristic;
use serde::{Deserialize, Serialize};

use super::{Name, Time};

#[derive(Clone, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "codings are \"as-sent\", \"negotiated\", a list of names, or a list under 'cloudfront', 'fastly' or 'one_of'"
)]
pub enum CodingsValue {
    How(Comparison),
    Known(Vec<String>),
    Form(CodingsForm),
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodingsForm {
    Cloudfront(Vec<String>),
    Fastly(Vec<String>),
    OneOf(Vec<String>),
}

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

fn texts(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str)
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

/// Heuristic freshness; what is left out is as by default.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeuristicValue {
    errors: Option<bool>,
    most: Option<Time>,
    percent: Option<u32>,
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
