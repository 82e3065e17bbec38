//! ApiVersions (18): the first thing that a client asks. Features are left out; what is absent from
//! them is not supported.

wire! {
    /// Asks which APIs are served.
    pub struct ApiVersionsRequest<'a> {
        /// Name of the client library.
        client_software_name: &'a str = "", 3..;
        /// Version of the client library.
        client_software_version: &'a str = "", 3..;
    }

    /// One API that is served.
    pub struct ApiVersion {
        /// The API's number.
        api_key: i16 = 0, 0..;
        /// Oldest version served.
        min_version: i16 = 0, 0..;
        /// Newest version served.
        max_version: i16 = 0, 0..;
    }

    /// The APIs that are served. An answer to a version that we do not know has the shape of
    /// version 0.
    pub struct ApiVersionsResponse {
        /// `UNSUPPORTED_VERSION` where the request's version was not known.
        error_code: i16 = 0, 0..;
        /// The APIs.
        api_keys: Vec<ApiVersion> = Vec::new(), 0..;
        /// Always 0: nobody is throttled.
        throttle_time_ms: i32 = 0, 1..;
    }
}
