//! Scripts that a server runs as one step, by their hash where it has them.

use redis::{Cmd, cmd};

pub(super) struct Script {
    code: String,
    hash: String,
}

impl Script {
    pub(super) fn new(code: impl Into<String>) -> Self {
        let code = code.into();
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    pub(super) fn by_hash(&self, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
        call("EVALSHA", &self.hash, keys, arguments)
    }

    pub(super) fn whole(&self, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
        call("EVAL", &self.code, keys, arguments)
    }
}

fn call(command: &str, script: &str, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
    let mut command = cmd(command);
    command.arg(script).arg(keys.len());
    keys.iter().chain(arguments).for_each(|word| {
        command.arg(*word);
    });
    command
}
