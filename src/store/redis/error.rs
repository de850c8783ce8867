//! What goes wrong between here and a server.

use std::error::Error as _;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;

use crate::error::StoreError;

/// Why a command has had no effect, or none that anybody knows of.
#[derive(Clone, Debug, Error)]
pub(super) enum LinkError {
    /// The answer is not what the command gives.
    #[error("the server's answer makes no sense: {0}")]
    Bad(Box<str>),
    /// There is no connection, or it broke, or the server is not ready.
    #[error("there is no connection to the server: {0}")]
    Down(Box<str>),
    #[error("the server does not have the script")]
    NoScript,
    /// It has failed too often of late.
    #[error("the server has failed too often of late, and is left alone for a moment")]
    Open,
    /// The server is well, and does not do it: no memory, no permission, a replica.
    #[error("the server refuses: {0}")]
    Refused(Box<str>),
    #[error("the server took longer than {0:?}")]
    Slow(Duration),
}

impl LinkError {
    pub(super) fn bad(what: impl Into<Box<str>>) -> Self {
        Self::Bad(what.into())
    }

    pub(super) fn of(error: &RedisError) -> Self {
        let text = || error.to_string().into_boxed_str();
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            )
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel
            | ErrorKind::Io => Self::Down(text()),
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::NoScript,
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Bad(text()),
            _ => Self::Refused(text()),
        }
    }

    /// What made a store fail.
    pub(super) fn of_store(error: &StoreError) -> Self {
        match error.source().and_then(|source| source.downcast_ref::<Self>()) {
            Some(error) => error.clone(),
            None if error.is_circuit_open() => Self::Open,
            None => error.timeout().map_or_else(|| Self::bad(error.to_string()), Self::Slow),
        }
    }

    /// Whether it speaks against the link, rather than against what was asked.
    pub(super) fn is_failure_of_link(&self) -> bool {
        matches!(self, Self::Down(_) | Self::Slow(_))
    }

    pub(super) fn to(self, action: &'static str) -> StoreError {
        match self {
            Self::Open => StoreError::circuit_open(action),
            Self::Slow(limit) => StoreError::timed_out(action, limit),
            down @ Self::Down(_) => StoreError::unreachable(action, down),
            other => StoreError::new(action, other),
        }
    }
}

/// Where nothing can be done in the background, nothing can be done.
pub(super) fn no_runtime() -> LinkError {
    LinkError::Down("there is no runtime".into())
}

/// Whether the connection is of no use any more, so that another one may answer at once.
pub(super) fn needs_another_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_connection_dropped()
}

/// Whether it comes from a replica, which was a primary before.
pub(super) fn is_of_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) || is_told_by_replica(&error.to_string())
}

/// Scripts of servers before 7.0 have an error of their own around it.
pub(super) fn is_told_by_replica(why: &str) -> bool {
    why.contains("READONLY")
}
