//! DescribeCluster: this node as the only broker and controller.

use ::kafka::api::{
    Api, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    OPERATIONS_NOT_ASKED,
};
use ::kafka::{ErrorCode, Frame, encode_response};

use super::super::FrontDoor;
use super::super::access::Resource;
use super::super::caller::Caller;
use super::super::limits::NODE_ID;

/// Kafka's number for endpoints of brokers, and for those of controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers a DescribeCluster request.
pub(in crate::kafka) fn answer(
    door: &FrontDoor,
    caller: &Caller,
    version: i16,
    correlation_id: i32,
    request: &DescribeClusterRequest,
) -> Frame {
    let advertised = caller.advertised();
    let response = if request.endpoint_type == BROKERS {
        DescribeClusterResponse {
            cluster_id: door.source.cluster_id(),
            controller_id: NODE_ID,
            brokers: vec![DescribeClusterBroker {
                broker_id: NODE_ID,
                host: &advertised.host,
                port: i32::from(advertised.port),
                rack: None,
                is_fenced: false,
            }],
            cluster_authorized_operations: if request.include_cluster_authorized_operations {
                door.authorized_operations(caller, Resource::Cluster)
            } else {
                OPERATIONS_NOT_ASKED
            },
            ..Default::default()
        }
    } else {
        door.counters.error(Api::DescribeCluster);
        let error = if request.endpoint_type == CONTROLLERS {
            ErrorCode::MismatchedEndpointType
        } else {
            ErrorCode::UnsupportedEndpointType
        };
        DescribeClusterResponse {
            error_code: error.as_i16(),
            error_message: Some("this is the endpoint of a broker"),
            endpoint_type: BROKERS,
            ..Default::default()
        }
    };
    encode_response(Api::DescribeCluster, version, correlation_id, &response)
}
