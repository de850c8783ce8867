//! A TCP proxy that cuts, delays, stalls and refuses connections. It has threads of its own, so that it goes on whatever the
//! runtime of a test does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What is done to connections, those that exist included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Of the server's bytes, a connection gets so many, and is cut then.
    pub cut_down: Option<u64>,
    /// The server gets so many bytes of a connection, which is cut then.
    pub cut_up: Option<u64>,
    /// Each piece of the server's bytes comes so much later.
    pub delay: Duration,
    /// New connections are closed at once.
    pub refuses: bool,
    /// No byte passes.
    pub stalls: bool,
    /// None of the server's bytes passes.
    pub stalls_down: bool,
}

#[derive(Default)]
struct Shared {
    changed: Condvar,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    down: u64,
    faults: Faults,
    has_ended: bool,
    open: Vec<TcpStream>,
    server: u16,
    up: u64,
}

#[derive(Clone, Copy)]
enum Way {
    Down,
    Up,
}

/// Passes connections on to a server.
pub struct Faulty {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Faulty {
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::<Shared>::default();
        shared.state.lock().unwrap().server = server;
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, faults: Faults) {
        self.shared.state.lock().unwrap().faults = faults;
        self.shared.changed.notify_all();
    }

    /// From now on, connections lead to another server; those that exist are closed.
    pub fn lead_to(&self, server: u16) {
        self.shared.state.lock().unwrap().server = server;
        self.cut();
    }

    /// New connections lead to another server; those that exist stay.
    pub fn lead_next_to(&self, server: u16) {
        self.shared.state.lock().unwrap().server = server;
    }

    /// Closes all connections.
    pub fn cut(&self) {
        for stream in self.shared.state.lock().unwrap().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many bytes have passed to the server and from it.
    pub fn passed(&self) -> (u64, u64) {
        let state = self.shared.state.lock().unwrap();
        (state.up, state.down)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().has_ended = true;
        self.shared.changed.notify_all();
        self.cut();
        // The listener ends when it sees another connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().flatten() {
        let (refuses, server) = {
            let state = shared.state.lock().unwrap();
            if state.has_ended {
                return;
            }
            (state.faults.refuses, state.server)
        };
        let address = SocketAddr::from(([127, 0, 0, 1], server));
        if refuses {
            continue;
        }
        let Ok(server) = TcpStream::connect(address) else {
            continue;
        };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        let both = |way, from: &TcpStream, to: &TcpStream| {
            let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
            let shared = Arc::clone(shared);
            thread::spawn(move || pass(way, from, to, &shared));
        };
        both(Way::Up, &client, &server);
        both(Way::Down, &server, &client);
        shared.state.lock().unwrap().open.extend([client, server]);
    }
}

fn pass(way: Way, mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    let mut passed = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let faults = {
            let mut state = shared.state.lock().unwrap();
            let stalls = |faults: Faults| faults.stalls || (faults.stalls_down && matches!(way, Way::Down));
            while stalls(state.faults) && !state.has_ended {
                state = shared.changed.wait(state).unwrap();
            }
            state.faults
        };
        let most = match way {
            Way::Down => faults.cut_down,
            Way::Up => faults.cut_up,
        };
        let left = most.map_or(u64::MAX, |most| most.saturating_sub(passed));
        let length = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        if matches!(way, Way::Down) {
            thread::sleep(faults.delay);
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        passed += length as u64;
        {
            let mut state = shared.state.lock().unwrap();
            match way {
                Way::Down => state.down += length as u64,
                Way::Up => state.up += length as u64,
            }
        }
        if passed >= most.unwrap_or(u64::MAX) {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
