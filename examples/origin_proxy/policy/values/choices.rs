//! What can be chosen among a few.

use larder::semantics::Credentials;
use larder::semantics::accept::{Codings, Languages};
use larder::semantics::freshness::Heuristic;
use serde::{Deserialize, Serialize};

use super::Time;

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
