//! The web UI: embedded in the binary, or read from a folder by those who work on it. Must never read a path outside
//! its folder, and never let a page stay in a cache after an upgrade.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::{Compression, write::GzEncoder};
use include_dir::{Dir, include_dir};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static DIST: Dir<'static> = include_dir!("$CUSTODY_UI_DIST");

/// What is shown when the binary was built without a UI.
const NO_UI: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Custody</title>\
<p>The web UI is not in this binary. Build it (npm ci and npm run build in the folder ui), then build Custody again.</p>\
<p>The API is at <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>.</p></html>";
/// Smaller files are sent as they are.
const GZIP_MIN: usize = 1_024;

/// Where pages come from.
#[derive(Debug)]
pub struct Assets {
    folder: Option<PathBuf>,
    gzipped: Mutex<BTreeMap<String, bytes::Bytes>>,
}

impl Assets {
    /// The embedded UI, or a folder's.
    pub fn new(folder: Option<PathBuf>) -> Assets {
        Assets { folder, gzipped: Mutex::default() }
    }

    fn find(&self, path: &str) -> Option<bytes::Bytes> {
        match &self.folder {
            None => DIST.get_file(path).map(|f| bytes::Bytes::from_static(f.contents())),
            Some(folder) => {
                let inside = Path::new(path).components().all(|c| matches!(c, std::path::Component::Normal(_)));
                if !inside {
                    return None;
                }
                std::fs::read(folder.join(path)).ok().map(bytes::Bytes::from)
            }
        }
    }

    /// The file of an address; pages of the app have no file of their own and get its one page.
    pub fn serve(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let path = uri.path().trim_start_matches('/');
        if let Some(bytes) = self.find(path).filter(|_| !path.is_empty()) {
            let immutable = path.starts_with("assets/");
            return self.answer(path, bytes, headers, immutable);
        }
        // A page may have a dot in its name, such as /docs/unit.v1: only what looks like a file of ours is missed as one.
        if path.starts_with("assets/") || media_type(path) != UNKNOWN_TYPE {
            return crate::problem::Problem::new(crate::problem::Code::NoRoute, "there is no such file")
                .into_response();
        }
        match self.find("index.html") {
            Some(bytes) => self.answer("index.html", bytes, headers, false),
            None => self.answer("index.html", bytes::Bytes::from_static(NO_UI.as_bytes()), headers, false),
        }
    }

    fn answer(&self, path: &str, bytes: bytes::Bytes, headers: &HeaderMap, immutable: bool) -> Response {
        let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|a| a.to_str().ok()).unwrap_or_default();
        let text = !matches!(extension(path), "png" | "webp" | "woff2" | "ico");
        let gzip = text && bytes.len() >= GZIP_MIN && accepts.split(',').any(|e| e.trim().starts_with("gzip"));
        let body = if gzip { self.gzip(path, &bytes, immutable) } else { bytes };
        let mut response = (StatusCode::OK, Body::from(body)).into_response();
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(path)));
        out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        let caching = if immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        if gzip {
            out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// Compressed once a file; what may change under its name is not kept.
    fn gzip(&self, path: &str, bytes: &bytes::Bytes, keep: bool) -> bytes::Bytes {
        let mut kept = self.gzipped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = kept.get(path) {
            return done.clone();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        // Writing to a Vec cannot fail.
        let done = encoder.write_all(bytes).and_then(|()| encoder.finish()).map_or_else(|_| bytes.clone(), Into::into);
        if keep && self.folder.is_none() {
            kept.insert(path.to_owned(), done.clone());
        }
        done
    }
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, e)| e)
}

/// The type of what has no known extension.
const UNKNOWN_TYPE: &str = "application/octet-stream";

fn media_type(path: &str) -> &'static str {
    match extension(path) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => UNKNOWN_TYPE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn folder() -> (tempfile::TempDir, Assets) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assets")).unwrap();
        std::fs::write(folder.path().join("index.html"), "<html>").unwrap();
        std::fs::write(folder.path().join("assets/a.js"), "x".repeat(5_000)).unwrap();
        std::fs::write(folder.path().join("../secret-of-the-test"), "no").ok();
        let assets = Assets::new(Some(folder.path().to_owned()));
        (folder, assets)
    }

    #[rstest]
    #[case::root("/", 200, "no-cache")]
    #[case::page("/chat/s-1", 200, "no-cache")]
    #[case::page_with_a_dot("/docs/unit.v1", 200, "no-cache")]
    #[case::asset("/assets/a.js", 200, "immutable")]
    #[case::missing("/assets/b.js", 404, "no-store")]
    #[case::above("/../secret-of-the-test.txt", 404, "no-store")]
    fn pages_are_revalidated_and_assets_are_not(#[case] path: &str, #[case] status: u16, #[case] cache: &str) {
        let (_folder, assets) = folder();
        let response = assets.serve(&path.parse().unwrap(), &HeaderMap::new());
        assert_eq!(response.status().as_u16(), status);
        assert!(response.headers()["cache-control"].to_str().unwrap().contains(cache));
    }

    #[test]
    fn text_is_compressed_for_those_who_take_it() {
        let (_folder, assets) = folder();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let response = assets.serve(&"/assets/a.js".parse().unwrap(), &headers);
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let plain = assets.serve(&"/assets/a.js".parse().unwrap(), &HeaderMap::new());
        assert!(plain.headers().get("content-encoding").is_none());
    }
}
