//! Web cache deception: a path that looks like that of a static file, with content that is not.
//!
//! Somebody is led to `/account/x.css`. The service answers as for `/account`, with that person's page, and a cache that takes
//! the path for a stylesheet's keeps it for everybody. What tells such a path from an honest one is the type of the content,
//! and marks by which services and caches read one path in two ways.
//!
//! These rules only ever forbid. They apply whatever `Cache-Control` says, which may have been set by the look of the path,
//! too, as `location ~ \.css$` does in nginx.

use std::borrow::Cow;

use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::storing::NotStored;

/// How often a path is decoded: by a proxy, by the service, and once by mistake.
const MOST_DECODED: usize = 3;

/// Whether a response may belong to another path than to the one that was asked for. `path` is as it was sent, without the
/// query.
///
/// # Errors
///
/// [`NotStored::DeceptivePath`] where the path has marks of an attack, [`NotStored::TypeMismatch`] where its extension and
/// the type of the content do not fit.
pub(crate) fn check(path: &str, status: StatusCode, headers: &HeaderMap) -> Result<(), NotStored> {
    let path = Reading::of(path);
    if !path.is_marked && path.families.is_empty() {
        return Ok(()); // most pages and calls of APIs
    }
    let types: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().map(media_type).collect();
    let is_of_files = !types.is_empty() && types.iter().all(|name| is_of_a_file(name));
    if path.is_marked && !(path.families.is_empty() && is_of_files) {
        return Err(NotStored::DeceptivePath);
    }
    // The type of an error or of a redirect is that of its own page; what has no content has no type.
    let is_empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    if path.families.is_empty() || !status.is_success() || is_empty {
        return Ok(());
    }
    let fits =
        !types.is_empty() && types.iter().all(|name| path.families.iter().all(|family| family.has(name)));
    if fits { Ok(()) } else { Err(NotStored::TypeMismatch) }
}

/// What a path looks like to those who read it in their own ways.
#[derive(Debug, Default)]
struct Reading {
    /// By its extension, as it was sent and as it may be read; one where all agree.
    families: SmallVec<[Family; 4]>,
    /// It has a dot segment, or a control character, which no link of an honest page has.
    is_marked: bool,
}

impl Reading {
    fn of(path: &str) -> Self {
        let mut reading = Self::default();
        let mut path = Cow::Borrowed(path.as_bytes());
        reading.add(&path);
        for _ in 0..MOST_DECODED {
            let Some(decoded) = decoded(&path) else {
                break;
            };
            path = Cow::Owned(decoded);
            reading.add(&path);
        }
        reading
    }

    /// Reads the path once more.
    fn add(&mut self, path: &[u8]) {
        let mut segments = path.split(|byte| matches!(byte, b'/' | b'\\'));
        self.is_marked |= path.iter().any(u8::is_ascii_control) || segments.clone().any(is_dot_segment);
        let last = segments.next_back().unwrap_or_default();
        // To some, a name ends where parameters, a query, a fragment or a C string does.
        let end = last.iter().position(|byte| matches!(byte, b';' | b'?' | b'#') || byte.is_ascii_control());
        for name in [last, &last[..end.unwrap_or(last.len())]] {
            if let Some(family) = Family::of_name(name).filter(|family| !self.families.contains(family)) {
                self.families.push(family);
            }
        }
    }
}

/// `.` and `..`, also with parameters: `..;`.
fn is_dot_segment(segment: &[u8]) -> bool {
    matches!(segment, b"." | b".." | [b'.', b';', ..] | [b'.', b'.', b';', ..])
}

/// The bytes with each `%xx` decoded; `None` where there is none.
fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let digit =
        |at: usize| char::from(*bytes.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte_at = |at: usize| Some(digit(at + 1)? << 4 | digit(at + 2)?);
    let first = bytes.iter().position(|byte| *byte == b'%')?;
    let (mut at, mut found) = (first, false);
    let mut decoded = bytes[..first].to_vec();
    while let Some(&byte) = bytes.get(at) {
        let escaped = if byte == b'%' { byte_at(at) } else { None };
        found |= escaped.is_some();
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    found.then_some(decoded)
}

/// Type and subtype in lower case, without parameters; empty where it can't be read.
fn media_type(value: &HeaderValue) -> Cow<'_, str> {
    let name = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether it is the type of files alone, and of nothing that a service makes for one person.
fn is_of_a_file(name: &str) -> bool {
    [Family::Font, Family::Image, Family::Media, Family::Script, Family::Stylesheet]
        .iter()
        .any(|family| !is_unknown(name) && family.has(name))
}

/// The type of bytes of which nothing is known, which storage services give to everything.
fn is_unknown(name: &str) -> bool {
    matches!(name, "application/octet-stream" | "binary/octet-stream")
}

/// What files with one kind of extension hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Archives, documents, programs.
    Binary,
    Font,
    Image,
    Media,
    Script,
    SourceMap,
    Stylesheet,
    Table,
    /// Images that are XML.
    Vector,
}

impl Family {
    /// By the extension of a file's name; `None` where it has none, or one that may have any content, such as `.html`,
    /// `.json`, `.txt` and `.xml`.
    fn of_name(name: &[u8]) -> Option<Self> {
        let dot = name.iter().rposition(|&byte| byte == b'.')?;
        let extension = &name[dot + 1..];
        let end = extension.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(extension.len());
        let mut lower = [0; 5];
        let lower = lower.get_mut(..end)?;
        lower.copy_from_slice(&extension[..end]);
        lower.make_ascii_lowercase();
        Some(match std::str::from_utf8(lower).ok()? {
            "7z" | "apk" | "bin" | "bz2" | "class" | "deb" | "dmg" | "doc" | "docx" | "eps" | "epub"
            | "exe" | "gz" | "ipa" | "iso" | "jar" | "msi" | "odp" | "ods" | "odt" | "pdf" | "ppt"
            | "pptx" | "ps" | "rar" | "rpm" | "rtf" | "swf" | "tar" | "tgz" | "war" | "wasm" | "xls"
            | "xlsx" | "xz" | "zip" | "zst" => Self::Binary,
            "eot" | "otf" | "ttc" | "ttf" | "woff" | "woff2" => Self::Font,
            "apng" | "avif" | "bmp" | "cur" | "gif" | "heic" | "heif" | "ico" | "jfif" | "jpe" | "jpeg"
            | "jpg" | "jxl" | "pict" | "png" | "tif" | "tiff" | "webp" => Self::Image,
            "3gp" | "aac" | "avi" | "flac" | "flv" | "m3u8" | "m4a" | "m4s" | "m4v" | "mid" | "midi"
            | "mkv" | "mov" | "mp3" | "mp4" | "mpd" | "mpeg" | "mpg" | "oga" | "ogg" | "ogv" | "opus"
            | "pls" | "wav" | "weba" | "webm" | "wma" | "wmv" => Self::Media,
            "cjs" | "js" | "mjs" => Self::Script,
            "map" => Self::SourceMap,
            "css" => Self::Stylesheet,
            "csv" | "tsv" => Self::Table,
            "svg" | "svgz" => Self::Vector,
            _ => return None,
        })
    }

    /// Whether such files have content of this type.
    fn has(self, name: &str) -> bool {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let is_script = ["application/", "text/"]
            .iter()
            .filter_map(|kind| name.strip_prefix(kind))
            .any(|kind| matches!(kind.strip_prefix("x-").unwrap_or(kind), "ecmascript" | "javascript"));
        let is_data = starts(&["application/json", "application/xml", "application/xhtml"])
            || name.ends_with("+json")
            || name.ends_with("+xml");
        is_unknown(name)
            || match self {
                Self::Binary => {
                    let is_known = matches!(name, "image/x-eps" | "text/rtf");
                    is_known || (name.starts_with("application/") && !is_data && !is_script)
                }
                Self::Font => {
                    starts(&["font/", "application/font", "application/x-font", "application/vnd.ms-"])
                }
                Self::Image => starts(&["image/", "video/mp4", "video/webm"]), // a GIF that was made a film
                Self::Media => {
                    let list = name.starts_with("application/") && name.ends_with("mpegurl");
                    list || starts(&[
                        "audio/",
                        "video/",
                        "application/dash+xml",
                        "application/mp4",
                        "application/ogg",
                    ])
                }
                Self::Script => is_script,
                Self::SourceMap => is_script || starts(&["application/json", "text/plain"]),
                Self::Stylesheet => name == "text/css",
                Self::Table => {
                    let sheets = ["application/csv", "application/vnd.ms-excel"];
                    starts(&["text/csv", "text/plain", "text/tab-separated-values"]) || sheets.contains(&name)
                }
                Self::Vector => starts(&["image/", "application/xml", "text/xml"]),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HTML: &str = "text/html; charset=utf-8";
    const JSON: &str = "application/json";

    fn verdict(path: &str, status: u16, types: &[&str]) -> Result<(), NotStored> {
        let value = |name: &&str| HeaderValue::from_str(name).expect("a value");
        let headers = types.iter().map(|name| (header::CONTENT_TYPE, value(name))).collect();
        check(path, StatusCode::from_u16(status).expect("a status"), &headers)
    }

    /// What becomes of a 200 with HTML, with JSON, and without a type.
    #[track_caller]
    fn is_refused(path: &str, reason: NotStored) {
        for types in [&[HTML][..], &[JSON], &["application/problem+json"], &["text/plain"], &["no type"], &[]]
        {
            assert_eq!(verdict(path, 200, types), Err(reason), "{path} {types:?}");
        }
    }

    #[test]
    fn a12_published_techniques_of_cache_deception_are_refused() {
        use NotStored::{DeceptivePath, TypeMismatch};
        // Gil 2017: a file that does not exist below a page, by any of the extensions that caches keep.
        for extension in [
            "css", "js", "mjs", "png", "jpg", "jpeg", "gif", "ico", "webp", "avif", "svg", "woff", "woff2",
            "ttf", "eot", "otf", "mp3", "mp4", "webm", "ogg", "pdf", "docx", "pptx", "xlsx", "zip", "gz",
            "7z", "exe", "jar", "apk", "swf",
        ] {
            is_refused(&format!("/account/x.{extension}"), TypeMismatch);
            is_refused(&format!("/account/x.{}", extension.to_uppercase()), TypeMismatch);
        }
        // Mirheidari et al. 2020, "Cached and Confused": path parameter, encoded newline, semicolon, `#`, `?`.
        is_refused("/account.php/x.css", TypeMismatch);
        is_refused("/account;x.css", TypeMismatch);
        is_refused("/account%3bx.css", TypeMismatch);
        is_refused("/account%23x.css", TypeMismatch);
        is_refused("/account%3Fx.css", TypeMismatch);
        is_refused("/account%0Ax.css", DeceptivePath);
        is_refused("/account%0d%0ax.css", DeceptivePath);
        // PortSwigger 2024: the delimiters of frameworks and servers, sent as they are or encoded, ...
        for delimiter in [
            "!", "$", "&", "'", "(", ")", "*", "+", ",", "-", ".", ":", "=", "@", "_", "~", "|", "%20",
            "%7c", "%c3",
        ] {
            is_refused(&format!("/account{delimiter}x.css"), TypeMismatch);
        }
        for delimiter in ["%00", "%01", "%09", "%0a", "%1f", "%7f"] {
            is_refused(&format!("/account{delimiter}.css"), DeceptivePath);
            is_refused(&format!("/account{delimiter}"), DeceptivePath);
        }
        is_refused("/account.css", TypeMismatch); // the format of a Rails route
        is_refused("/account/.css", TypeMismatch);
        is_refused("/account%2ecss", TypeMismatch);
        is_refused("/account%2Fx.css", TypeMismatch);
        is_refused("/account%5cx.css", TypeMismatch);
        is_refused("/account/x.css;a=b", TypeMismatch);
        is_refused("/account/x.css%3fa=b", TypeMismatch);
        is_refused("/account%253fx.css", TypeMismatch);
        is_refused("/account/x%252ecss", TypeMismatch);
        // ... and normalisation by the service, or by the cache: static directories, and files with known names.
        for path in [
            "/static/..%2faccount",
            "/static/..%2Faccount",
            "/static/%2e%2e/account",
            "/static/%2e%2e%2faccount",
            "/static/.%2e/account",
            "/static/..%5caccount",
            "/static/../account",
            "/static/..;/account",
            "/static/.%2faccount",
            "/static/..%252faccount",
            "/static/%252e%252e%252faccount",
            "/static/%25252e%25252e%25252faccount",
            "/account%2f..%2fstatic/any",
            "/account%2f%2e%2e%2findex.html",
            "/account/..%2frobots.txt",
            "/account;%2f%2e%2e%2frobots.txt",
            "/account%23%2f%2e%2e%2fresources",
            "/account%00%2f%2e%2e%2ffavicon.ico",
        ] {
            is_refused(path, DeceptivePath);
        }
        // A single-page application that answers for a file that is gone.
        is_refused("/assets/app-4f2a.js", TypeMismatch);
        // Whatever the file name says to whom.
        is_refused("/account/x.png;a=b.pdf", TypeMismatch);
        is_refused("/account/x.png;x.css", TypeMismatch);
        assert_eq!(verdict("/account/x.png;x.css", 200, &["image/png"]), Err(TypeMismatch));
        assert_eq!(verdict("/export/me;x.css", 200, &["text/csv"]), Err(TypeMismatch));
        // Two types are none, unless both fit.
        assert_eq!(verdict("/x.css", 200, &["text/css", HTML]), Err(TypeMismatch));
        assert_eq!(verdict("/x.css", 200, &["text/css", "text/css"]), Ok(()));
        // A path with marks is no file's, and a file is only an honest path's.
        assert_eq!(verdict("/static/..%2fx.png", 200, &["image/png"]), Err(DeceptivePath));
        assert_eq!(verdict("/pictures/..%2fme", 200, &["application/octet-stream"]), Err(DeceptivePath));
        assert_eq!(verdict("/pictures/..%2fme", 404, &[HTML]), Err(DeceptivePath));
        assert_eq!(verdict("/pictures/..%2fme", 200, &["image/png"]), Ok(()));
    }

    /// Paths and types as frameworks, registries and stores have them.
    const INNOCENT: &[(&str, &str)] = &[
        // Pages and calls of APIs.
        ("/", HTML),
        ("/account", HTML),
        ("/index.html", HTML),
        ("/index.php", HTML),
        ("/article.aspx", HTML),
        ("/docs/page.md", HTML),
        ("/blog/2026/09/21/a-post.with.dots/", HTML),
        ("/posts/1.json", JSON),
        ("/posts/1.xml", "application/xml"),
        ("/feed.rss", "application/rss+xml"),
        ("/feed.xml", "application/atom+xml"),
        ("/robots.txt", "text/plain"),
        ("/LICENSE", "text/plain"),
        ("/sitemap.xml", "text/xml"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/.well-known/security.txt", "text/plain"),
        ("/.well-known/apple-app-site-association", JSON),
        ("/api/v1.2/users", JSON),
        ("/api/v1.2.3/users/1.5", JSON),
        ("/graphql", "application/graphql-response+json"),
        ("/events", "text/event-stream"),
        ("/products;color=red;size=m", HTML),
        ("/app;jsessionid=0123ABC", HTML),
        ("/wiki/What%3F", HTML),
        ("/wiki/C%2B%2B", HTML),
        ("/wiki/AC%2FDC", HTML),
        ("/questions/tagged/c%23", HTML),
        ("/search/100%25", HTML),
        ("/search/a%20b%20%26%20c", HTML),
        ("/caf%C3%A9/%E2%82%AC", HTML),
        ("/@user", HTML),
        ("/a...b/", HTML),
        ("/...", HTML),
        ("/@48.85,2.35,12z", HTML),
        ("//double//slash", HTML),
        ("/sha256:4f2a", JSON),
        // Package registries and stores of files.
        ("/@scope%2fname", JSON),
        ("/@scope%2Fname", "application/vnd.npm.install-v1+json"),
        ("/react/-/react-18.2.0.tgz", "application/octet-stream"),
        ("/simple/larder/", HTML),
        ("/packages/larder-1.0-py3-none-any.whl", "binary/octet-stream"),
        ("/crates/larder/1.0.0/download", "application/gzip"),
        ("/org/acme/lib/1.0/lib-1.0.jar", "application/java-archive"),
        ("/org/acme/lib/1.0/lib-1.0.jar.sha1", "text/plain"),
        ("/org/acme/lib/1.0/lib-1.0.pom", "text/xml"),
        ("/v2/library/nginx/manifests/1.27", "application/vnd.docker.distribution.manifest.v2+json"),
        ("/bucket/folder%2Fobject.css", "binary/octet-stream"),
        ("/bucket/folder%2Fphoto.jpg", "image/jpeg"),
        ("/debian/dists/stable/Release.gpg", "application/pgp-signature"),
        ("/debian/pool/main/a/a_1.0.deb", "application/vnd.debian.binary-package"),
        ("/debian/dists/stable/main/Packages.xz", "application/x-xz"),
        // Files of frameworks.
        ("/_next/static/chunks/main-4f2a.js", "application/javascript; charset=UTF-8"),
        ("/_next/static/css/4f2a.css", "text/css; charset=UTF-8"),
        ("/_next/static/chunks/pages/blog/%5Bslug%5D-4f2a.js", "application/javascript"),
        ("/_next/image", "image/webp"),
        ("/_next/data/4f2a/index.json", JSON),
        ("/_nuxt/entry.4f2a.js", "text/javascript"),
        ("/_app/immutable/chunks/a.4f2a.js", "text/javascript"),
        ("/blog/__data.json", "text/sveltekit-data"),
        ("/assets/index-4f2a.js", "text/javascript"),
        ("/assets/index-4f2a.js.map", JSON),
        ("/assets/index-4f2a.css.map", "application/octet-stream"),
        ("/assets/logo-4f2a.svg", "image/svg+xml"),
        ("/assets/inter-4f2a.woff2", "font/woff2"),
        ("/assets/application-4f2a.css", "text/css"),
        ("/packs/js/application-4f2a.js", "application/javascript"),
        ("/posts/1.js", "text/javascript"),
        ("/static/admin/css/base.css", "text/css"),
        ("/static/admin/js/jquery.init.js", "text/javascript"),
        ("/wp-content/themes/a/style.css", "text/css"),
        ("/wp-includes/js/jquery/jquery.min.js", "application/javascript"),
        ("/wp-content/uploads/2026/09/photo.jpg", "image/webp"),
        ("/javax.faces.resource/style.css.xhtml", "text/css"),
        ("/style.css;jsessionid=0123ABC", "text/css"),
        ("/lib/main.mjs", "text/javascript"),
        ("/legacy.js", "application/x-javascript"),
        // Media, fonts, documents.
        ("/favicon.ico", "image/x-icon"),
        ("/favicon.ico", "image/vnd.microsoft.icon"),
        ("/photo.jpg", "image/avif"),
        ("/cat.gif", "video/mp4"),
        ("/drawing.svg", "text/xml"),
        ("/drawing.svgz", "image/svg+xml"),
        ("/font.ttf", "application/x-font-ttf"),
        ("/font.woff", "application/font-woff"),
        ("/font.eot", "application/vnd.ms-fontobject"),
        ("/live/stream.m3u8", "application/vnd.apple.mpegurl"),
        ("/live/stream.m3u8", "audio/mpegurl"),
        ("/live/stream.m3u8", "application/x-mpegURL"),
        ("/live/segment.ts", "video/mp2t"),
        ("/live/segment.m4s", "video/iso.segment"),
        ("/live/manifest.mpd", "application/dash+xml"),
        ("/talk.ogg", "application/ogg"),
        ("/talk.mp3", "audio/mpeg"),
        ("/music/Track%231.mp3", "audio/mpeg"),
        ("/images/what%3f.png", "image/png"),
        ("/tiles/12/2048/1362.png", "image/webp"),
        ("/tiles/12/2048/1362.pbf", "application/x-protobuf"),
        ("/report.pdf", "application/pdf"),
        ("/C%23.pdf", "application/pdf"),
        ("/report.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("/table.csv", "text/csv"),
        ("/table.csv", "application/vnd.ms-excel"),
        ("/book.epub", "application/epub+zip"),
        ("/app.wasm", "application/wasm"),
        ("/setup.exe", "application/x-msdownload"),
        ("/archive.tar.gz", "application/gzip"),
        ("/archive.zip", "application/x-zip-compressed"),
    ];

    /// Pages about files, and files that are sent with the type of something else: they are not stored.
    const MISTAKEN: &[(&str, &str)] = &[
        ("/package/chart.js", HTML),
        ("/wiki/Node.js", HTML),
        ("/questions/tagged/node.js", HTML),
        ("/wiki/File:Photo.jpg", HTML),
        ("/acme/tool/blob/main/src/index.js", HTML),
        ("/raw/main/style.css", "text/plain"),
        ("/jsonp.js", JSON),
        ("/sitemap.xml.gz", "application/xml"),
    ];

    #[test]
    fn a12_innocent_paths_are_stored_and_what_is_mistaken_is_known() {
        for (path, name) in INNOCENT {
            assert_eq!(verdict(path, 200, &[name]), Ok(()), "{path} {name}");
            // An error page says nothing of the path; nor does a redirect.
            for status in [301, 302, 404, 410, 500] {
                assert_eq!(verdict(path, status, &[HTML]), Ok(()), "{path} {status}");
            }
        }
        for (path, name) in MISTAKEN {
            assert_eq!(verdict(path, 200, &[name]), Err(NotStored::TypeMismatch), "{path} {name}");
        }
        let (innocent, mistaken) = (INNOCENT.len(), MISTAKEN.len());
        assert!(mistaken * 12 < innocent + mistaken, "{mistaken} of {}", innocent + mistaken);
        // What has no content has no type.
        for status in [204, 205] {
            assert_eq!(verdict("/pixel.gif", status, &[]), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn a12_the_guard_reads_any_path(path in "[/.%a-fA-F0-9;?#\\\\\\x00-\\x7f]{0,60}", kind in ".{0,20}") {
            let kind = HeaderValue::from_str(&kind).unwrap_or(HeaderValue::from_static(HTML));
            let headers = [(header::CONTENT_TYPE, kind)].into_iter().collect();
            let _ = check(&path, StatusCode::OK, &headers);
        }

        /// However a dot segment is encoded, and as often as services decode.
        #[test]
        fn a12_an_encoded_dot_segment_is_seen(
            before in "(/[a-z]{1,5}){0,3}",
            separators in prop::array::uniform2(prop::sample::select(vec!["/", "%2f", "%5C", "%252F"])),
            dots in prop::sample::select(vec!["..", ".%2e", "%2E.", "%2e%2e", "%252e%252e", ".", "%2e", "..;a"]),
            after in "[a-z]{1,5}",
        ) {
            let path = format!("{before}{}{dots}{}{after}", separators[0], separators[1]);
            prop_assert_eq!(verdict(&path, 200, &[HTML]), Err(NotStored::DeceptivePath));
        }
    }
}
