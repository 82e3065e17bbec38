//! ApiVersions: what is served, from the one list in the crate `kafka`.

use ::kafka::api::{Api, ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::FrontDoor;
use super::caller::Caller;

/// Tells every API and version that is served.
pub(super) fn answer(
    _door: &FrontDoor,
    _caller: &Caller,
    version: i16,
    correlation_id: i32,
    _request: &ApiVersionsRequest<'_>,
) -> Frame {
    let response = ApiVersionsResponse {
        api_keys: Api::ALL.iter().copied().map(row).collect(),
        ..Default::default()
    };
    encode_response(Api::ApiVersions, version, correlation_id, &response)
}

/// Answers a version that we do not know in the shape of version 0, which every client reads; it
/// then asks again in a version from the answer (KIP-511).
pub(super) fn unsupported(correlation_id: i32) -> Frame {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.as_i16(),
        api_keys: vec![row(Api::ApiVersions)],
        ..Default::default()
    };
    encode_response(Api::ApiVersions, 0, correlation_id, &response)
}

fn row(api: Api) -> ApiVersion {
    let versions = api.listed_versions();
    ApiVersion {
        api_key: api.key(),
        min_version: *versions.start(),
        max_version: *versions.end(),
    }
}
