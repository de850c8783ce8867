//! Switches for what a key is made of.

use std::borrow::Cow;

use http::Extensions;
use http::header::HeaderName;

use super::StandardPolicy;
use crate::policy::{KeyRules, QueryRules, Selection};

impl StandardPolicy {
    /// The cookies that count, by name: see [`KeyRules::cookies`]. Default: all reach the service, and none is in the key.
    ///
    /// ```
    /// use larder::StandardPolicy;
    /// // Whatever else a browser sends is removed, and prevents nothing.
    /// let policy = StandardPolicy::default().cookies(["session", "theme"]);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn cookies(self, counting: impl Into<Selection>) -> Self {
        self.map_key(|rules| rules.cookies(counting))
    }

    /// Adds who asks to the key, as a layer in front of the cache has left it in the request's extensions: see
    /// [`KeyRules::identity`]. Default: nobody.
    #[must_use]
    pub fn identity<F, T>(self, name: impl Into<Cow<'static, str>>, identity: F) -> Self
    where
        F: Fn(&Extensions) -> Option<T> + Send + Sync + 'static,
        T: AsRef<[u8]>,
    {
        self.map_key(|rules| rules.identity(name, identity))
    }

    /// What a request's key is made of, in place of the rules that were set before; default the absolute URI. What
    /// [`StandardPolicy::key_field`] adds comes in addition.
    #[must_use]
    pub fn key(mut self, rules: KeyRules) -> Self {
        rules.fields().for_each(|name| self.rules.unkeyed.keep(name.clone()));
        self.key = Some(rules);
        self
    }

    /// Adds a request field to the key. With `Authorization` or `Cookie`, each user has entries of their own.
    #[must_use]
    pub fn key_field(mut self, name: HeaderName) -> Self {
        self.rules.unkeyed.keep(name.clone());
        self.key_fields.push(name);
        self
    }

    /// What of the query is in the key, and so what the service sees of it: see [`QueryRules`]. Default all.
    ///
    /// ```
    /// use larder::StandardPolicy;
    /// use larder::policy::QueryRules;
    /// let policy = StandardPolicy::default().query(QueryRules::all().ignore_trackers().sorted());
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn query(self, rules: impl Into<QueryRules>) -> Self {
        self.map_key(|key| key.query(rules))
    }

    fn map_key(mut self, map: impl FnOnce(KeyRules) -> KeyRules) -> Self {
        self.key = Some(map(self.key.take().unwrap_or_default()));
        self
    }
}
