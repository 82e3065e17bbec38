//! Binds the listeners of the node, of whatever protocol.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the system takes for a listener before the program does, at most (and at most
/// `net.core.somaxconn`). A fleet that comes back at once waits here; the system lets whoever finds no place
/// try again a second later, and two, and four.
const BACKLOG: u32 = 4096;

/// Listens at this address.
pub(crate) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // The address is free again as soon as a node has ended.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_fleet_that_comes_at_once_finds_a_place() {
        let system = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let places = system.trim().parse().unwrap_or(128).min(1000);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        // Nobody accepts them.
        let fleet =
            (0..places).map(|_| TcpStream::connect_timeout(&at, Duration::from_millis(900)));
        let fleet: io::Result<Vec<TcpStream>> = fleet.collect();
        assert_eq!(fleet.unwrap().len(), places);
    }

    #[tokio::test]
    async fn addresses_of_both_kinds_are_bound_and_taken_ones_told() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(at.parse().unwrap()).unwrap();
            let taken = listen(listener.local_addr().unwrap());
            assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }
}
