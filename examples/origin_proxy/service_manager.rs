//! What systemd is told of a service of `Type=notify` (sd_notify(3)): without it, a unit counts as started before it listens.

/// Requests are served from now on.
pub fn ready() {
    tell("READY=1");
}

/// Connections are drained.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Nobody has to listen, so a failure is none.
#[cfg(target_os = "linux")]
fn tell(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match socket.as_bytes() {
        // An abstract name.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&socket),
    };
    if let (Ok(address), Ok(sender)) = (address, UnixDatagram::unbound()) {
        let _ = sender.send_to_addr(state.as_bytes(), &address);
    }
}

#[cfg(not(target_os = "linux"))]
fn tell(_: &str) {}
