//! What the origin learns about a request's client: device, connection, country and network.

use std::path::PathBuf;

use http::uri::Scheme;
use larder::ViewerLayer;
use larder::viewer::{ClientAddress, Database, DatabaseFile};

use crate::client::Client;

/// Options about the client.
#[derive(Default)]
pub struct ViewerOptions {
    /// Files with databases in MaxMind's format.
    pub databases: Vec<PathBuf>,
    /// Whether the fields are added without a database, too.
    pub is_on: bool,
}

/// Adds the fields.
pub struct Viewer {
    pub is_on: bool,
    pub layer: ViewerLayer,
}

impl ViewerOptions {
    /// Files are read again when they change.
    ///
    /// # Errors
    ///
    /// A file can't be read, or is no database.
    pub fn viewer(&self) -> Result<Viewer, String> {
        let with = |layer: ViewerLayer, path| Ok::<_, String>(layer.database(open(path)?));
        let layer = self.databases.iter().try_fold(layer(), with)?;
        Ok(Viewer { is_on: self.is_on || !self.databases.is_empty(), layer })
    }
}

/// The layer without a database.
fn layer() -> ViewerLayer {
    let of = |request: &http::request::Parts| request.extensions.get().map(Client::address);
    ViewerLayer::new().client_address(ClientAddress::by(of)).scheme(Scheme::HTTP)
}

impl Viewer {
    pub fn off() -> Self {
        Self { is_on: false, layer: layer() }
    }

    pub fn by(database: Database) -> Self {
        Self { is_on: true, layer: layer().database(database) }
    }
}

fn open(path: &PathBuf) -> Result<Database, String> {
    let file = DatabaseFile::new(path)
        .on_error(|error| eprintln!("larder: the database stays as it was: {error}"))
        .on_reload({
            let path = path.clone();
            move || println!("larder: the database is that of {} now", path.display())
        });
    file.open().map_err(|error| error.to_string())
}
