//! What a target of a purge reaches, and by which names a response can be reached: the same on all nodes.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::announced::AskedUri;
use crate::entry::key::CacheKey;
use crate::semantics::groups;
use crate::store::PurgeTarget;
use crate::store::target::split;

/// The keyed hash of a name's kind and bytes. Two names with the same hash are purged together, which costs a fetch and leaks
/// nothing.
pub(super) type Name = u64;

/// What a name is of. The numbers are in the table of marks: they do not change.
#[derive(Clone, Copy)]
enum Kind {
    /// A tag in lower case, whatever its origin.
    FoldedTag = 1,
    Group = 2,
    /// An authority.
    Host = 3,
    Key = 4,
    /// `scheme://authority`.
    Origin = 5,
    /// A path with its query, on whatever host.
    Path = 6,
    Tag = 7,
    Uri = 8,
    /// `scheme://authority/path`, whatever the query.
    Queries = 9,
}

/// What a target reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Everything,
    /// Responses in a group, too, where `is_group`.
    Name {
        is_group: bool,
        name: Name,
    },
    /// No response has a key like that.
    Nothing,
    /// Of URIs, or of paths where it starts with a slash.
    Prefix(Box<[u8]>),
}

/// Hashes names.
#[derive(Clone)]
pub(super) struct Names {
    secret: [u8; 16],
}

impl Names {
    /// All nodes need the same secret, which no client knows: with it, anybody could look for names with the same hash.
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    fn name(&self, kind: Kind, bytes: &[u8]) -> Name {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(&[kind as u8]);
        hasher.write(bytes);
        hasher.finish()
    }

    /// What a target reaches.
    pub(super) fn reach(&self, target: &PurgeTarget) -> Reach {
        let named = |kind, bytes: &[u8]| Reach::Name { is_group: false, name: self.name(kind, bytes) };
        let grouped =
            |kind, name: &str| Reach::Name { is_group: true, name: self.name(kind, name.as_bytes()) };
        match target {
            PurgeTarget::All => Reach::Everything,
            PurgeTarget::Group(group) => grouped(Kind::Group, group),
            PurgeTarget::Host(authority) => named(Kind::Host, authority.as_bytes()),
            PurgeTarget::Key(key) => named(Kind::Key, key.as_bytes()),
            PurgeTarget::Path(path) if path.starts_with(b"/") => named(Kind::Path, path),
            PurgeTarget::PathPrefix(prefix) if **prefix == *b"/" => Reach::Everything,
            PurgeTarget::PathPrefix(prefix) if prefix.starts_with(b"/") => Reach::Prefix(prefix.clone()),
            PurgeTarget::Prefix(prefix) if prefix.is_empty() => Reach::Everything,
            // The URI of a key begins with a scheme.
            PurgeTarget::Path(_) | PurgeTarget::PathPrefix(_) => Reach::Nothing,
            PurgeTarget::Prefix(prefix) if prefix.starts_with(b"/") => Reach::Nothing,
            PurgeTarget::Prefix(prefix) => match origin(prefix) {
                Some(origin) if origin.len() + 1 == prefix.len() => named(Kind::Origin, origin),
                _ => Reach::Prefix(prefix.clone()),
            },
            PurgeTarget::Tag(tag) => grouped(Kind::Tag, tag),
            PurgeTarget::TagAnyCase(tag) => grouped(Kind::FoldedTag, &tag.to_ascii_lowercase()),
            PurgeTarget::Uri(uri) => named(Kind::Uri, uri),
        }
    }

    /// The names under which a response is announced: those of its URIs, and where it answers for other queries, those of their paths.
    pub(super) fn announced(&self, key: &CacheKey, answers_for_other_queries: bool) -> Vec<Name> {
        let mut names = Vec::with_capacity(2);
        for uri in key.uris() {
            names.push(self.name(Kind::Uri, uri));
            if answers_for_other_queries {
                names.push(self.name(Kind::Queries, without_query(uri)));
            }
        }
        names
    }

    /// The URIs that these targets name, where all of them are URIs; empty otherwise.
    pub(super) fn asked(&self, targets: &[PurgeTarget]) -> Vec<AskedUri> {
        let asked = |target: &PurgeTarget| match target {
            PurgeTarget::Uri(uri) => {
                Some(AskedUri::new(self.name(Kind::Uri, uri), self.name(Kind::Queries, without_query(uri))))
            }
            _ => None,
        };
        targets.iter().map(asked).collect::<Option<_>>().unwrap_or_default()
    }

    /// The name of the host of a prefix of URIs, where that is in it whole.
    pub(super) fn host_of(&self, prefix: &[u8]) -> Option<Name> {
        origin(prefix).map(|_| self.name(Kind::Host, split(prefix).0))
    }

    /// Calls `with` for each name by which any response under a key can be reached.
    pub(super) fn of_key(&self, key: &CacheKey, mut with: impl FnMut(Name)) {
        with(self.name(Kind::Key, key.as_bytes()));
        if let Some(whole) = key.whole() {
            with(self.name(Kind::Key, whole));
        }
        for uri in key.uris() {
            let (authority, path) = split(uri);
            with(self.name(Kind::Uri, uri));
            with(self.name(Kind::Host, authority));
            with(self.name(Kind::Path, path));
            if let Some(origin) = origin(uri) {
                with(self.name(Kind::Origin, origin));
            }
        }
    }

    /// Calls `with` for each name by which a response in these groups can be reached besides.
    pub(super) fn of_groups<'a>(
        &self,
        groups: impl IntoIterator<Item = &'a str>,
        mut with: impl FnMut(Name),
    ) {
        for group in groups {
            let tag = groups::tag(group);
            with(self.name(Kind::Group, group.as_bytes()));
            with(self.name(Kind::Tag, tag.as_bytes()));
            with(self.name(Kind::FoldedTag, tag.to_ascii_lowercase().as_bytes()));
        }
    }
}

fn without_query(uri: &[u8]) -> &[u8] {
    uri.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// The scheme and the authority of an absolute URI that has a path. A prefix of paths is none, also where it has a URI in it.
fn origin(uri: &[u8]) -> Option<&[u8]> {
    let (_, path) = split(uri);
    let has_scheme = !uri.starts_with(b"/") && uri.windows(3).any(|three| three == b"://");
    (has_scheme && path.starts_with(b"/")).then(|| &uri[..uri.len() - path.len()])
}

/// Whether a prefix of URIs, or of paths, is that of a URI.
pub(super) fn is_prefix_of(prefix: &[u8], uri: &[u8]) -> bool {
    match prefix.first() {
        Some(b'/') => split(uri).1.starts_with(prefix),
        _ => uri.starts_with(prefix),
    }
}
