//! The messages of sasl as the crate `kafka-protocol` has them, field by field.

use super::*;

pub(in crate::tests) fn sasl_handshake_request(
    from: &api::SaslHandshakeRequest<'_>,
) -> known::SaslHandshakeRequest {
    known::SaslHandshakeRequest::default().with_mechanism(text(from.mechanism))
}

pub(in crate::tests) fn sasl_handshake_response(
    from: &api::SaslHandshakeResponse<'_>,
) -> known::SaslHandshakeResponse {
    known::SaslHandshakeResponse::default()
        .with_error_code(from.error_code)
        .with_mechanisms(all(&from.mechanisms, |row| text(row)))
}

pub(in crate::tests) fn sasl_authenticate_request(
    from: &api::SaslAuthenticateRequest<'_>,
) -> known::SaslAuthenticateRequest {
    known::SaslAuthenticateRequest::default()
        .with_auth_bytes(Bytes::copy_from_slice(from.auth_bytes))
}

pub(in crate::tests) fn sasl_authenticate_response(
    from: &api::SaslAuthenticateResponse<'_>,
) -> known::SaslAuthenticateResponse {
    known::SaslAuthenticateResponse::default()
        .with_error_code(from.error_code)
        .with_error_message(from.error_message.map(text))
        .with_auth_bytes(Bytes::copy_from_slice(from.auth_bytes))
        .with_session_lifetime_ms(from.session_lifetime_ms)
}
