//! The guarded doors of a test cluster: TLS, mutual TLS, SASL PLAIN and SCRAM, with certificates made
//! on the spot, and permissions: `guest` has none but what it is given. The passwords are public: the
//! cluster listens on loopback.

use std::fs;
use std::path::Path;

use crate::process::{command, read};

/// Listeners besides the open one. `SSL` asks for a client certificate.
pub const DOORS: [&str; 3] = ["SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Arguments of Kafka's storage tool that make the SCRAM users.
pub const SCRAM_USERS: [&str; 4] = [
    "--add-scram",
    "SCRAM-SHA-256=[name=lock,password=lock-secret]",
    "--add-scram",
    "SCRAM-SHA-512=[name=lock,password=lock-secret]",
];

/// A CA, a certificate of the brokers for 127.0.0.1 and one of a client, as PEM files in `folder`:
/// `ca.pem`, `broker.pem` (with its key), `client.pem`, `client.key`.
pub fn certificates(folder: &Path) -> anyhow::Result<()> {
    let openssl = |arguments: &[&str]| {
        let mut openssl = command("openssl", arguments);
        openssl.current_dir(folder);
        read(openssl)
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=Test CA",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ])?;
    for (name, subject) in [("broker", "/CN=127.0.0.1"), ("client", "/CN=sluice-mirror")] {
        let file = |ending: &str| format!("{name}.{ending}");
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            subject,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
        ])?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "30",
            "-copy_extensions",
            "copy",
            "-out",
            &file("pem"),
        ])?;
    }
    let broker = fs::read_to_string(folder.join("broker.key"))?
        + &fs::read_to_string(folder.join("broker.pem"))?;
    fs::write(folder.join("broker-store.pem"), broker)?;
    Ok(())
}

/// The lines of a node's settings.
pub fn settings(folder: &Path) -> String {
    let folder = folder.display();
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_lock=\"lock-secret\" \
                 user_guest=\"guest-secret\";";
    let mut text = format!(
        "ssl.keystore.type=PEM\n\
         ssl.keystore.location={folder}/broker-store.pem\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={folder}/ca.pem\n\
         listener.name.ssl.ssl.client.auth=required\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS;User:lock;User:CN=sluice-mirror\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n"
    );
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    for door in ["sasl_plaintext", "sasl_ssl"] {
        for (mechanism, login) in [
            ("plain", plain),
            ("scram-sha-256", scram),
            ("scram-sha-512", scram),
        ] {
            let name = format!("listener.name.{door}.{mechanism}.sasl.jaas.config");
            text.extend([name.as_str(), "=", login, "\n"]);
        }
    }
    text
}
