//! Processes that end with this one, whatever ends it, by the ids under which they were started.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts a command and names its id. When nobody holds the other end of its input any more, it kills the command (kill -9), and ends.
const KEEPER: &str = r#""$@" >log 2>&1 & echo $!; read -r _; kill -9 $! 2>/dev/null; wait $!"#;

/// A process in a folder of its own. It is killed when this is dropped.
pub struct Process {
    folder: PathBuf,
    pub id: u32,
    keeper: Child,
}

impl Process {
    pub fn start(program: &Path, arguments: &[String], folder: PathBuf) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{} does not start: {error}", program.display());
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(program)
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It would say whom it has killed.
            .stderr(Stdio::null())
            // Ctrl-C is for this process, which ends the others.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let id = line.trim().parse().map_err(|_| format!("{} has no id", program.display()))?;
        Ok(Self { folder, id, keeper })
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A folder for nobody else, which is removed when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| format!("{} can't be made: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and gives its path.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, String> {
        let file = self.join(name);
        let written = fs::File::create(&file).and_then(|mut file| file.write_all(content.as_bytes()));
        written.map_err(|error| format!("{} can't be written: {error}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
