//! Lines that a running proxy prints. That nobody reads them any more is no reason to fail, as it is for `println` and `eprintln`.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line about what is not as it should be, or who did what, to standard error.
pub fn say(line: impl Display) {
    _ = writeln!(io::stderr(), "larder: {line}");
}

/// Writes a line about what has gone well to standard output.
pub fn tell(line: impl Display) {
    _ = writeln!(io::stdout(), "larder: {line}");
}
