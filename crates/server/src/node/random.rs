//! Randomness from the operating system, for names that must not be guessed or repeated.

/// A client id for a client that named none: a prefix and 96 random bits.
pub fn client_id() -> String {
    let mut id = String::from("sluice-");
    for byte in bytes::<12>() {
        id.push(char::from(HEX[usize::from(byte >> 4)]));
        id.push(char::from(HEX[usize::from(byte & 15)]));
    }
    id
}

/// An id in the form in which Apache Kafka writes its own: 128 random bits as 22 characters of
/// base64url.
pub fn kafka_uuid() -> String {
    let bits = u128::from_be_bytes(bytes::<16>());
    // 22 characters hold 132 bits; the last four are zero.
    (0..22)
        .map(|i| {
            let shift = 122 - 6 * i;
            let six = if shift >= 0 {
                bits >> shift
            } else {
                bits << -shift
            };
            char::from(BASE64URL[(six & 63) as usize])
        })
        .collect()
}

/// So many random bytes. Panics when the operating system has no randomness to give, since then
/// nothing that follows could be trusted.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let rest = &mut bytes[filled..];
        // SAFETY: the call writes at most as many bytes as there are behind the pointer. It takes no
        // descriptor, so that it works when there is none left.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if let Ok(got) = usize::try_from(got) {
            filled += got;
        } else {
            let failure = std::io::Error::last_os_error();
            let again = failure.kind() == std::io::ErrorKind::Interrupted;
            assert!(again, "the system has no randomness: {failure}");
        }
    }
    bytes
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_form_and_differ() {
        let (a, b) = (kafka_uuid(), kafka_uuid());
        assert_eq!(a.len(), 22);
        assert_ne!(a, b);
        assert!(a.bytes().all(|c| BASE64URL.contains(&c)));
        // Six times 22 is four bits more than 128, so the last character has four zero bits.
        let last = BASE64URL
            .iter()
            .position(|&c| c == a.as_bytes()[21])
            .unwrap();
        assert_eq!(last & 15, 0);
        assert_eq!(client_id().len(), 7 + 24);
        assert_ne!(client_id(), client_id());
    }
}
