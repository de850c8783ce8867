//! What the origin learns about a request's client: device, connection, country and network.

use std::path::PathBuf;

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

impl ViewerOptions {
    /// The layer that adds the fields; `None` if nobody wants them. Files are read again when they change.
    ///
    /// # Errors
    ///
    /// A file can't be read, or is no database.
    pub fn layer(&self) -> Result<Option<ViewerLayer>, String> {
        if self.databases.is_empty() && !self.is_on {
            return Ok(None);
        }
        self.databases.iter().try_fold(layer(), |layer, path| Ok(layer.database(open(path)?))).map(Some)
    }
}

/// The layer without a database.
pub fn layer() -> ViewerLayer {
    let of = |request: &http::request::Parts| request.extensions.get().map(Client::address);
    ViewerLayer::new().client_address(ClientAddress::by(of)).scheme(http::uri::Scheme::HTTP)
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
