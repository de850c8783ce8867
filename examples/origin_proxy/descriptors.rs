//! How many file descriptors the process may have, and how they are divided.

/// Assumed if the system does not report a limit.
const UNKNOWN: usize = 1024;

/// Descriptors for other purposes than connections: the listener, the runtime, output.
const RESERVED: usize = 32;

/// More connections would fill the memory before they are of use.
const MOST: usize = 1 << 14;

/// Shares of the descriptors. Each client connection may become a tunnel, which needs a connection to the origin as
/// well. So clients get half of the descriptors; the rest is for calls and for idle connections to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Calls to the origin at once.
    pub calls: usize,
    /// Connections of clients.
    pub connections: usize,
    /// Idle connections to the origin.
    pub idle: usize,
}

impl Shares {
    pub fn of(descriptors: usize) -> Self {
        let free = descriptors.saturating_sub(RESERVED).max(8);
        Self { calls: (free / 4).min(MOST), connections: (free / 2).min(MOST), idle: (free / 8).min(MOST) }
    }
}

/// How many descriptors the process may have.
pub fn descriptors() -> usize {
    std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| soft_limit(&limits))
        .unwrap_or(UNKNOWN)
}

/// The first number of the line: `Max open files            1024                 4096                 files`.
fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_is_parsed() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             127000               127000               processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit(&limits.replace("1024  ", "unlimited")), Some(usize::MAX));
        assert_eq!(soft_limit(&limits.replace("open", "shut")), None);
        assert_eq!(soft_limit("Max open files"), None);
    }

    #[test]
    fn the_shares_add_up_to_no_more_than_the_descriptors() {
        for descriptors in [64, 100, 256, 1024, 20_000, 1 << 20, usize::MAX] {
            let shares = Shares::of(descriptors);
            assert!(shares.connections + shares.calls + shares.idle + RESERVED <= descriptors, "{shares:?}");
            assert!(2 * shares.connections + RESERVED <= descriptors, "{shares:?}");
            assert!(shares.idle > 0 && shares.connections <= MOST, "{shares:?}");
        }
        assert_eq!(Shares::of(0), Shares { calls: 2, connections: 4, idle: 1 });
    }
}
