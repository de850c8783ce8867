//! How many descriptors the process may have, and who gets how many of them.

/// Where the system does not say how many descriptors there are.
const UNKNOWN: usize = 1024;

/// Descriptors that neither a client nor the origin has: the listener, what the runtime needs, output.
const RESERVED: usize = 32;

/// More would rather fill the memory than serve anybody.
const MOST: usize = 1 << 14;

/// Shares of the descriptors. Each client may have a tunnel, which is a connection to the origin as well; so clients
/// get half of what there is, and what is left serves the calls and the connections that are kept for the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Calls to the origin at once.
    pub calls: usize,
    /// Connections of clients.
    pub connections: usize,
    /// Connections to the origin that are kept without a request.
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
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             127000               127000               processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit(&limits.replace("1024  ", "unlimited")), Some(usize::MAX));
        assert_eq!(soft_limit(&limits.replace("open", "shut")), None);
        assert_eq!(soft_limit("Max open files"), None);
    }

    #[test]
    fn all_shares_fit_into_the_descriptors() {
        for descriptors in [64, 100, 256, 1024, 20_000, 1 << 20, usize::MAX] {
            let shares = Shares::of(descriptors);
            assert!(shares.connections + shares.calls + shares.idle + RESERVED <= descriptors, "{shares:?}");
            assert!(2 * shares.connections + RESERVED <= descriptors, "{shares:?}");
            assert!(shares.idle > 0 && shares.connections <= MOST, "{shares:?}");
        }
        assert_eq!(Shares::of(0), Shares { calls: 2, connections: 4, idle: 1 });
    }
}
