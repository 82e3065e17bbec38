//! Connections from this machine to itself: they meet no network, so nothing paces or slows what is
//! sent on them. It knows no protocol.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

/// The congestion control that every Linux has and lets anybody choose. It sets no timers between
/// packets, as BBR does: on loopback those cost more than sending.
const UNPACED: &[u8] = b"reno";

/// Has the connections that a listener will accept not paced, where none comes from elsewhere.
pub(crate) fn unpace_all(listener: &impl AsFd, bound: SocketAddr) {
    if bound.ip().to_canonical().is_loopback() {
        unpace(listener.as_fd());
    }
}

/// Has a connection not paced whose two ends are on this machine. One whose listener was told before
/// is so from its first packet on, which is better.
pub(crate) fn unpace_one(connection: &impl AsFd, peer: SocketAddr, local: SocketAddr) {
    let (peer, local) = (peer.ip().to_canonical(), local.ip().to_canonical());
    if peer.is_loopback() || peer == local {
        unpace(connection.as_fd());
    }
}

/// Where the system refuses, it stays as the system has it: that is slower, and no fault.
fn unpace(socket: BorrowedFd<'_>) {
    // SAFETY: the option's value is borrowed for longer than the call, and the descriptor is open
    // while it is borrowed.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            UNPACED.as_ptr().cast(),
            UNPACED.len() as libc::socklen_t,
        )
    };
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The congestion control of a socket.
    fn control(socket: &impl AsFd) -> String {
        let mut name = [0_u8; 16];
        let mut size = name.len() as libc::socklen_t;
        // SAFETY: both pointers lead to variables of this function, `size` tells how much room the
        // first one has, and the descriptor is open.
        let code = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_CONGESTION,
                name.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        assert_eq!(code, 0);
        let name = String::from_utf8(name.to_vec()).unwrap();
        name.trim_end_matches('\0').to_owned()
    }

    /// A listener, its address, and a connection that it accepted.
    fn accepted(bind: &str, told: bool) -> (TcpListener, SocketAddr, TcpStream, SocketAddr) {
        let listener = TcpListener::bind(bind).unwrap();
        let bound = listener.local_addr().unwrap();
        if told {
            unpace_all(&listener, bound);
        }
        let _peer = TcpStream::connect(("127.0.0.1", bound.port())).unwrap();
        let (connection, peer) = listener.accept().unwrap();
        (listener, bound, connection, peer)
    }

    #[test]
    fn only_what_stays_within_the_machine_is_not_paced() {
        let (listener, ..) = accepted("127.0.0.1:0", false);
        let usual = control(&listener);
        let other = usual != "reno";

        let (listener, _, connection, _) = accepted("127.0.0.1:0", true);
        assert_eq!([control(&listener), control(&connection)], ["reno"; 2]);

        // Others may come there too.
        let (listener, _, connection, peer) = accepted("0.0.0.0:0", true);
        assert_eq!([control(&listener), control(&connection)], [&*usual; 2]);
        let local = connection.local_addr().unwrap();
        let far = SocketAddr::from(([192, 0, 2, 1], 9092));
        unpace_one(&connection, far, local);
        assert_eq!(control(&connection) == "reno", !other);
        unpace_one(&connection, peer, local);
        assert_eq!(control(&connection), "reno");

        let (.., connection, _) = accepted("0.0.0.0:0", false);
        unpace_one(&connection, far, far);
        assert_eq!(control(&connection), "reno");
    }
}
