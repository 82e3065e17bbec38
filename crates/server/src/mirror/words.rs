//! What an error of librdkafka or of the cluster means to an operator, in one line. It changes
//! nothing and asks nobody.

/// What librdkafka's complaint means. What is not known stays as it is.
pub fn plain(text: &str) -> String {
    let broker = broker(text);
    let at = broker.map_or(String::new(), |broker| format!(" at {broker}"));
    let lower = text.to_ascii_lowercase();
    let has = |needle: &str| lower.contains(needle);
    if has("connecting to a ssl listener") || has("connecting to a tls listener") {
        return format!(
            "the broker{at} hangs up on the first request: it speaks TLS there; write tls = true, or the port without TLS"
        );
    }
    if has("wrong version number") || has("connecting to a plaintext broker listener") {
        return format!(
            "TLS against plaintext: the broker{at} does not speak TLS there; leave tls out, or write its TLS port"
        );
    }
    if has("certificate verify failed") || has("broker certificate could not be verified") {
        return format!(
            "the certificate of the broker{at} is not trusted: tls_ca must hold the authority that signed it, and the name must be in it ({text})"
        );
    }
    if has("certificate required") || has("bad certificate") {
        return format!(
            "the broker{at} wants a certificate that it trusts: write tls_certificate and tls_key"
        );
    }
    if has("authentication failed")
        || has("sasl authentication error")
        || has("invalid credentials")
    {
        return format!(
            "login refused{at}: sasl_username or sasl_password is wrong, or the user has no password of this sasl_mechanism"
        );
    }
    if has("unsupported sasl mechanism") || has("mechanism handshake failed") {
        return format!("the broker{at} does not take this sasl_mechanism ({text})");
    }
    if has("connection refused") {
        return format!("nothing listens{at}: wrong port, or the broker is down");
    }
    if has("failed to resolve") || has("name or service not known") {
        return format!("the name{at} cannot be resolved ({text})");
    }
    if has("connection setup timed out") || has("timed out") && has("connect") {
        return format!("no connection{at}: no answer in time (firewall, or the wrong address)");
    }
    if has("local: timed out") {
        return format!("the cluster does not answer{at}");
    }
    if has("broker transport failure") {
        return format!("the connection to the cluster is lost{at}");
    }
    // "[thrd:main]: " is of no use to anybody but librdkafka's authors.
    let behind = text
        .strip_prefix("[thrd:")
        .and_then(|rest| rest.split_once("]: "));
    behind.map_or(text, |(_, rest)| rest).to_owned()
}

/// `kafka1:9092` of `sasl_plaintext://kafka1:9092/bootstrap: Connect to ...`.
fn broker(text: &str) -> Option<&str> {
    let address = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (address, _) = address.split_once(['/', ' '])?;
    let address = address.trim_end_matches(':');
    let (_, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok().map(|_| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_become_one_line_that_says_what_to_do() {
        let said = |text: &str| plain(text);
        let refused = "k1:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(
            said(refused),
            "nothing listens at k1:9092: wrong port, or the broker is down"
        );
        let tls = "k1:9093/bootstrap: Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?)";
        assert!(said(tls).contains("speaks TLS there"), "{}", said(tls));
        let plaintext = "ssl://k1:9092/bootstrap: SSL handshake failed: error:0A00010B:SSL routines::wrong version number: connecting to a PLAINTEXT broker listener? (after 3ms)";
        assert!(said(plaintext).starts_with("TLS against plaintext: the broker at k1:9092"));
        let login = "sasl_plaintext://k1:9092/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms:";
        assert!(said(login).contains("does not take this sasl_mechanism"));
        let password = "sasl_plaintext://k1:9092/bootstrap: SASL authentication error: Authentication failed: Invalid username or password (after 303ms in state AUTH_REQ)";
        assert!(said(password).starts_with("login refused at k1:9092: sasl_username"));
        assert_eq!(said("something else"), "something else");
        let silent = "[thrd:main]: TxnCoordinator/1: Failed to add offsets to transaction on broker TxnCoordinator/1: Local: Timed out";
        assert_eq!(said(silent), "the cluster does not answer");
        assert_eq!(said("[thrd:main]: x"), "x");
    }
}
