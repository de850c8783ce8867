//! The fields that say something about a viewer, and their names.

use http::header::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// A field that a [`ViewerLayer`](crate::ViewerLayer) adds, named after CloudFront's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViewerField {
    /// `CloudFront-Viewer-Address`: `198.51.100.10:46532`, an IPv6 address without brackets (`2001:db8::1:46532`; the port is
    /// what follows the last colon). Where only the address is known, the port is 0.
    Address,
    /// `CloudFront-Viewer-ASN`: the number of the autonomous system, as in `64496`.
    Asn,
    /// `CloudFront-Viewer-City`: in English, as in `S%C3%A3o Paulo`.
    City,
    /// `CloudFront-Viewer-Country`: two letters of ISO 3166-1, as in `US`.
    Country,
    /// `CloudFront-Viewer-Country-Name`: in English.
    CountryName,
    /// `CloudFront-Viewer-Country-Region`: up to three characters of ISO 3166-2, of the largest division.
    CountryRegion,
    /// `CloudFront-Viewer-Country-Region-Name`: in English.
    CountryRegionName,
    /// `CloudFront-Forwarded-Proto`: `http` or `https`.
    ForwardedProto,
    /// `CloudFront-Viewer-Header-Count`: how many field lines the request came with. Only added where it is asked for.
    HeaderCount,
    /// `CloudFront-Viewer-Http-Version`: `1.0`, `1.1`, `2.0` or `3.0`.
    HttpVersion,
    /// `CloudFront-Is-Android-Viewer`: `true` or `false`, as all of `Is`.
    IsAndroid,
    /// `CloudFront-Is-Desktop-Viewer`.
    IsDesktop,
    /// `CloudFront-Is-IOS-Viewer`.
    IsIos,
    /// `CloudFront-Is-Mobile-Viewer`.
    IsMobile,
    /// `CloudFront-Is-SmartTV-Viewer`.
    IsSmartTv,
    /// `CloudFront-Is-Tablet-Viewer`.
    IsTablet,
    /// `CloudFront-Viewer-JA3-Fingerprint`, of [`ViewerTls`](super::ViewerTls).
    Ja3,
    /// `CloudFront-Viewer-JA4-Fingerprint`, of [`ViewerTls`](super::ViewerTls).
    Ja4,
    /// `CloudFront-Viewer-Latitude`: degrees with five decimals, as in `34.19310`.
    Latitude,
    /// `CloudFront-Viewer-Longitude`: degrees with five decimals, as in `-118.13830`.
    Longitude,
    /// `CloudFront-Viewer-Metro-Code`: in the United States only, as in `803`.
    MetroCode,
    /// `CloudFront-Viewer-Postal-Code`.
    PostalCode,
    /// `CloudFront-Viewer-Time-Zone`: of IANA's database, as in `America/Los_Angeles`.
    TimeZone,
    /// `CloudFront-Viewer-TLS`: version, cipher and handshake, of [`ViewerTls`](super::ViewerTls).
    Tls,
}

use ViewerField::*;

impl ViewerField {
    /// What the `User-Agent` says of the device.
    pub const DEVICE: &'static [Self] = &[IsAndroid, IsDesktop, IsIos, IsMobile, IsSmartTv, IsTablet];

    /// What the connection says.
    pub const CONNECTION: &'static [Self] =
        &[Address, ForwardedProto, HeaderCount, HttpVersion, Ja3, Ja4, Tls];

    /// What a City or Country database says of the address.
    pub const GEOGRAPHY: &'static [Self] = &[
        City,
        Country,
        CountryName,
        CountryRegion,
        CountryRegionName,
        Latitude,
        Longitude,
        MetroCode,
        PostalCode,
        TimeZone,
    ];

    /// What an ASN database says of the address.
    pub const NETWORK: &'static [Self] = &[Asn];

    /// In the order of the variants, so that a field is its own index.
    const ALL: [Self; 24] = [
        Address,
        Asn,
        City,
        Country,
        CountryName,
        CountryRegion,
        CountryRegionName,
        ForwardedProto,
        HeaderCount,
        HttpVersion,
        IsAndroid,
        IsDesktop,
        IsIos,
        IsMobile,
        IsSmartTv,
        IsTablet,
        Ja3,
        Ja4,
        Latitude,
        Longitude,
        MetroCode,
        PostalCode,
        TimeZone,
        Tls,
    ];

    /// Its name at CloudFront, and what follows a prefix of the user's.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Address => ("cloudfront-viewer-address", "address"),
            Asn => ("cloudfront-viewer-asn", "asn"),
            City => ("cloudfront-viewer-city", "city"),
            Country => ("cloudfront-viewer-country", "country"),
            CountryName => ("cloudfront-viewer-country-name", "country-name"),
            CountryRegion => ("cloudfront-viewer-country-region", "country-region"),
            CountryRegionName => ("cloudfront-viewer-country-region-name", "country-region-name"),
            ForwardedProto => ("cloudfront-forwarded-proto", "forwarded-proto"),
            HeaderCount => ("cloudfront-viewer-header-count", "header-count"),
            HttpVersion => ("cloudfront-viewer-http-version", "http-version"),
            IsAndroid => ("cloudfront-is-android-viewer", "is-android"),
            IsDesktop => ("cloudfront-is-desktop-viewer", "is-desktop"),
            IsIos => ("cloudfront-is-ios-viewer", "is-ios"),
            IsMobile => ("cloudfront-is-mobile-viewer", "is-mobile"),
            IsSmartTv => ("cloudfront-is-smarttv-viewer", "is-smarttv"),
            IsTablet => ("cloudfront-is-tablet-viewer", "is-tablet"),
            Ja3 => ("cloudfront-viewer-ja3-fingerprint", "ja3-fingerprint"),
            Ja4 => ("cloudfront-viewer-ja4-fingerprint", "ja4-fingerprint"),
            Latitude => ("cloudfront-viewer-latitude", "latitude"),
            Longitude => ("cloudfront-viewer-longitude", "longitude"),
            MetroCode => ("cloudfront-viewer-metro-code", "metro-code"),
            PostalCode => ("cloudfront-viewer-postal-code", "postal-code"),
            TimeZone => ("cloudfront-viewer-time-zone", "time-zone"),
            Tls => ("cloudfront-viewer-tls", "tls"),
        }
    }

    /// Its name at CloudFront, in lower case.
    ///
    /// ```
    /// use larder::StandardPolicy;
    /// use larder::viewer::ViewerField;
    /// let policy = StandardPolicy::default().key_field(ViewerField::IsMobile.name());
    /// # let _ = policy;
    /// ```
    pub fn name(self) -> HeaderName {
        HeaderName::from_static(self.names().0)
    }
}

/// Some of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet(u32);

impl FieldSet {
    pub(super) const ALL: Self = Self::of_all(&ViewerField::ALL);
    pub(super) const DEVICE: Self = Self::of_all(ViewerField::DEVICE);
    /// What databases know.
    pub(super) const PLACE: Self =
        Self::of_all(ViewerField::GEOGRAPHY).and(Self::of_all(ViewerField::NETWORK));

    pub(super) fn of(fields: impl IntoIterator<Item = ViewerField>) -> Self {
        fields.into_iter().fold(Self::default(), |set, field| set.and(Self::of_all(&[field])))
    }

    const fn of_all(fields: &[ViewerField]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < fields.len() {
            bits |= 1 << fields[index] as u32;
            index += 1;
        }
        Self(bits)
    }

    #[must_use]
    pub(super) const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    #[must_use]
    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(super) fn has(self, field: ViewerField) -> bool {
        self.0 & (1 << field as u32) != 0
    }

    pub(super) fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// The names that the fields have here.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Of all fields, in their order.
    names: Box<[HeaderName]>,
    /// In lower case.
    prefix: Box<str>,
}

/// CloudFront's, in lower case.
const CLOUDFRONT: &str = "cloudfront-";

impl Default for Names {
    fn default() -> Self {
        Self { names: ViewerField::ALL.map(ViewerField::name).into(), prefix: CLOUDFRONT.into() }
    }
}

impl Names {
    /// `None` for a prefix that makes no names, or too many fields would begin with.
    pub(super) fn with_prefix(prefix: &str) -> Option<Self> {
        let prefix = prefix.to_ascii_lowercase();
        if prefix == CLOUDFRONT {
            return Some(Self::default());
        }
        // All of `x-`, and a part of a word, would take fields of others away.
        if prefix == "x-" || prefix.len() < 2 || prefix.len() > 64 || !prefix.ends_with('-') {
            return None;
        }
        let name = |field: ViewerField| format!("{prefix}{}", field.names().1).parse().ok();
        let names: Box<[HeaderName]> = ViewerField::ALL.into_iter().map(name).collect::<Option<_>>()?;
        Some(Self { names, prefix: prefix.into() })
    }

    /// Whether they begin with `CloudFront-`.
    pub(super) fn are_cloudfronts(&self) -> bool {
        &*self.prefix == CLOUDFRONT
    }

    pub(super) fn of(&self, field: ViewerField) -> &HeaderName {
        &self.names[field as usize]
    }

    /// Removes everything that has the prefix, whoever has sent it. Many a service takes `_` for `-`, so it counts as one.
    pub(super) fn remove_all(&self, headers: &mut HeaderMap) {
        // Most requests have none.
        let sent: SmallVec<[HeaderName; 2]> =
            headers.keys().filter(|name| self.is_prefixed(name)).cloned().collect();
        for name in sent {
            headers.remove(name);
        }
    }

    fn is_prefixed(&self, name: &HeaderName) -> bool {
        let (name, prefix) = (name.as_str().as_bytes(), self.prefix.as_bytes());
        let is_same = |(named, own): (&u8, &u8)| named == own || (*named == b'_' && *own == b'-');
        name.len() >= prefix.len() && name.iter().zip(prefix).all(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_field_is_its_own_index() {
        for (index, field) in ViewerField::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, index, "{field:?}");
            assert_eq!(*Names::default().of(field), field.name());
        }
        let groups =
            [ViewerField::DEVICE, ViewerField::CONNECTION, ViewerField::GEOGRAPHY, ViewerField::NETWORK];
        assert_eq!(FieldSet::of(groups.concat()), FieldSet::ALL);
        assert_eq!(groups.concat().len(), ViewerField::ALL.len(), "each is in one group");
    }

    #[test]
    fn cf5_a_prefix_replaces_that_of_cloudfront() {
        let names = Names::with_prefix("X-Viewer-").expect("a prefix");
        assert_eq!(names.of(IsMobile), "x-viewer-is-mobile");
        assert_eq!(names.of(Country), "x-viewer-country");
        let cloudfront = Names::with_prefix("CloudFront-").expect("a prefix");
        assert_eq!(cloudfront.of(IsMobile), "cloudfront-is-mobile-viewer");
        for wrong in
            ["", "-", "X-", "x-", "X-Viewer", "X Viewer-", "X-Viewér-", &format!("X{}-", "a".repeat(64))]
        {
            assert!(Names::with_prefix(wrong).is_none(), "{wrong:?}");
        }
    }

    #[track_caller]
    fn check_removed(prefix: &str, name: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, times) in [(name, 2), ("host", 1)] {
            for _ in 0..times {
                headers.append(HeaderName::try_from(name).expect("a name"), HeaderValue::from_static("x"));
            }
        }
        Names::with_prefix(prefix).expect("a prefix").remove_all(&mut headers);
        assert_eq!(headers.len(), if expected { 1 } else { 3 }, "{prefix} {name}");
        assert!(headers.contains_key("host"));
    }

    #[test]
    fn a11_every_spelling_of_the_prefix_is_removed() {
        for name in [
            "CloudFront-Viewer-Country",
            "cloudfront-viewer-country",
            "CLOUDFRONT_VIEWER_COUNTRY",
            "CloudFront_Viewer-Country",
            "cloudfront-",
            "CloudFront-Whatever-Comes-Next",
        ] {
            check_removed("CloudFront-", name, true);
        }
        for name in
            ["cloudfront", "x-cloudfront-viewer-country", "cloud-front-viewer", "cloudfrontviewer-country"]
        {
            check_removed("CloudFront-", name, false);
        }
        check_removed("X-Viewer-", "x_viewer_country", true);
        check_removed("X-Viewer-", "CloudFront-Viewer-Country", false);
    }
}
