//! SaslAuthenticate (36): a step of the mechanism (KIP-152); a lifetime in the answer since version 1
//! (KIP-368).

wire! {
    /// A step of the mechanism.
    pub struct SaslAuthenticateRequest<'a> {
        /// The bytes of the mechanism.
        auth_bytes: &'a [u8] = &[], 0..;
    }

    /// The server's step of the mechanism.
    pub struct SaslAuthenticateResponse<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 0..;
        /// The bytes of the mechanism.
        auth_bytes: &'a [u8] = &[], 0..;
        /// How long the authentication holds, in milliseconds; 0 for ever.
        session_lifetime_ms: i64 = 0, 1..;
    }
}
