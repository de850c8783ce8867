//! Large files in slices (docs/LARGE.md): how large they are, and of which files.

use larder::SliceLayer;
use larder::policy::Pattern;

use crate::config::Given;
use crate::units::{show_size, size};

/// Sizes that a slice can have.
const LEAST: u64 = 1 << 10;
const MOST: u64 = 1 << 30;

/// The options as they are given.
#[derive(Default)]
pub struct SliceParts {
    paths: Vec<Pattern>,
    size: Option<u64>,
}

/// What is asked for in slices.
#[derive(Default)]
pub struct SliceOptions {
    /// Of every path where there is none.
    paths: Vec<Pattern>,
    /// `None` where nothing is.
    size: Option<u64>,
}

impl SliceParts {
    /// Takes an option; whether it is one of these.
    pub fn set(&mut self, name: &str, given: &Given) -> Result<bool, String> {
        match name {
            "slice" => self.size = Some(slice_size(given.text()?)?),
            "slice-path" => self.paths.push(pattern(given.text()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What they say together. `max_object` is the largest object that is stored.
    pub fn options(self, max_object: u64) -> Result<SliceOptions, String> {
        let Self { paths, size } = self;
        match size {
            None if !paths.is_empty() => {
                Err("--slice-path goes with --slice, the size of the slices".to_owned())
            }
            Some(size) if size > max_object => Err(format!(
                "--slice {} is above the largest object stored, {}: no slice would be",
                show_size(size),
                show_size(max_object)
            )),
            size => Ok(SliceOptions { paths, size }),
        }
    }
}

impl SliceOptions {
    pub fn layer(self) -> SliceLayer {
        let Self { paths, size } = self;
        let layer = SliceLayer::new();
        match size {
            None => layer.when(|_| false),
            Some(size) if paths.is_empty() => layer.size(size),
            Some(size) => layer
                .size(size)
                .when(move |request| paths.iter().any(|path| path.matches(request.uri.path()))),
        }
    }
}

fn slice_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        size @ LEAST..=MOST => Ok(size),
        _ => Err(format!(
            "'{text}' is not a size of slices; it is {} to {}",
            show_size(LEAST),
            show_size(MOST)
        )),
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    match text.starts_with(['/', '*', '?']) {
        true => Ok(Pattern::new(text)),
        false => Err(format!("'{text}' matches no path; one looks like /films/*")),
    }
}
