//! Apache Kafka's `partition.metadata`: names the topic id that a folder belongs to.

/// The file's name in a partition's folder.
pub(crate) const METADATA_FILE: &str = "partition.metadata";

/// The file's text.
pub(crate) fn metadata_text(topic_id: &[u8; 16]) -> String {
    format!("version: 0\ntopic_id: {}", base64_url(topic_id))
}

/// base64url without padding, as Kafka prints a Uuid: 22 characters.
fn base64_url(id: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from_be_bytes(*id);
    // 128 bits are 21 characters of six bits and one of the last two.
    let character = |at: u32| {
        let bits = if at < 21 {
            number >> (122 - 6 * at)
        } else {
            number << 4
        };
        char::from(ALPHABET[(bits & 0x3f) as usize])
    };
    (0..22).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_printed_as_kafka_does() {
        // Uuid.METADATA_TOPIC_ID (0, 1) and a random one, from java.util.Base64's URL encoder.
        assert_eq!(base64_url(&1u128.to_be_bytes()), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(base64_url(&[0xfb; 16]), "-_v7-_v7-_v7-_v7-_v7-w");
        assert_eq!(
            metadata_text(&[0; 16]),
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA"
        );
    }
}
