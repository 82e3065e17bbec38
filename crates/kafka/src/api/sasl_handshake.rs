//! SaslHandshake (17): choose a mechanism. After version 0 the bytes of the mechanism follow bare,
//! without request headers.

wire! {
    /// Chooses a mechanism.
    pub struct SaslHandshakeRequest<'a> {
        /// The mechanism.
        mechanism: &'a str = "", 0..;
    }

    /// The mechanisms that the server knows.
    pub struct SaslHandshakeResponse<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// The mechanisms.
        mechanisms: Vec<&'a str> = Vec::new(), 0..;
    }
}
