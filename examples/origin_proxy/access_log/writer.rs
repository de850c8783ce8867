//! The thread that writes. Requests never wait for it: lines that the disk is too slow for are dropped, and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// How many bytes of lines may wait to be written.
const MOST_WAITING: usize = 16 << 20;

/// How long the end of the process waits for the disk.
const LAST_WAIT: Duration = Duration::from_secs(5);

pub struct Writer {
    file: PathBuf,
    messages: Sender<Message>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    waiting: AtomicUsize,
}

enum Message {
    /// Everything before this is written when it is answered.
    Flush(Sender<()>),
    Line(String),
    Reopen(File),
}

impl Writer {
    pub fn open(file: PathBuf) -> Result<Self, String> {
        let output = open(&file)?;
        let (messages, received) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        let counts = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || run(output, &received, &counts))
            .map_err(|error| format!("there is no thread for the access log: {error}"))?;
        Ok(Self { file, messages, shared })
    }

    pub fn write(&self, line: String) {
        let length = line.len();
        if self.shared.waiting.fetch_add(length, Ordering::Relaxed) + length > MOST_WAITING
            || self.messages.send(Message::Line(line)).is_err()
        {
            self.shared.waiting.fetch_sub(length, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn reopen(&self) -> Result<String, String> {
        if !is_standard_output(&self.file) {
            let Output::File(file) = open(&self.file)? else {
                return Ok(self.file.display().to_string());
            };
            _ = self.messages.send(Message::Reopen(file));
        }
        Ok(self.file.display().to_string())
    }

    pub fn flush(&self) {
        let (written, done) = mpsc::channel();
        if self.messages.send(Message::Flush(written)).is_ok() {
            _ = done.recv_timeout(LAST_WAIT);
        }
    }
}

enum Output {
    File(File),
    Standard,
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(lines),
            Self::Standard => {
                let mut output = io::stdout().lock();
                output.write_all(lines)?;
                output.flush()
            }
        }
    }
}

fn is_standard_output(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Lines are added. URLs may have secrets in them: others of the system have no right to read a new file.
fn open(file: &Path) -> Result<Output, String> {
    if is_standard_output(file) {
        return Ok(Output::Standard);
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    let opened =
        options.open(file).map_err(|error| format!("{}: can't be written to: {error}", file.display()));
    opened.map(Output::File)
}

fn run(mut output: Output, messages: &Receiver<Message>, shared: &Shared) {
    let (mut lines, mut has_failed) = (Vec::new(), false);
    while let Ok(first) = messages.recv() {
        let (mut next, mut flushed) = (Some(first), Vec::new());
        // As many at a time as there are, up to 64 KiB.
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => {
                    shared.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    lines.extend_from_slice(line.as_bytes());
                }
                Message::Flush(written) => flushed.push(written),
                Message::Reopen(file) => {
                    has_failed |= output.write(&lines).is_err();
                    lines.clear();
                    output = Output::File(file);
                }
            }
            if lines.len() < 0x1_0000 {
                next = messages.try_recv().ok();
            }
        }
        match output.write(&lines) {
            Ok(()) => has_failed = false,
            Err(error) if !has_failed => {
                has_failed = true;
                eprintln!("larder: the access log can't be written to: {error}");
            }
            Err(_) => {}
        }
        lines.clear();
        match shared.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => eprintln!("larder: {dropped} lines of the access log were dropped: it is too slow"),
        }
        for written in flushed {
            _ = written.send(());
        }
    }
}
