//! The Kafka decoder: any bytes as a frame from a client. What it accepts must encode to something
//! that it accepts again and finds equal.

use kafka::api::{self, Api};
use kafka::{RequestHeader, Wire, WireError, decode_request, encode_request};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "kafka",
    seeds,
    run,
};

const REQUEST_BYTES_MAX: u32 = 1 << 20;

fn run(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some((frame, length))) = kafka::frame(rest, REQUEST_BYTES_MAX) {
        request(frame);
        rest = &rest[length..];
    }
}

fn request(frame: &[u8]) {
    let Ok((header, api, _)) = RequestHeader::read(frame) else {
        return;
    };
    let (version, client_id) = (header.api_version, header.client_id.unwrap_or_default());
    macro_rules! again {
        ($($api:ident: $request:ident,)*) => {
            match api {
                $(Api::$api => {
                    let Ok(first) = body::<api::$request>(frame) else {
                        return;
                    };
                    let bytes = encode_request(api, version, 1, client_id, &first).to_vec();
                    let second = body::<api::$request>(&bytes[4..])
                        .expect("an encoded request is valid");
                    assert_eq!(first, second);
                })*
            }
        };
    }
    kafka::each_request!(again);
}

fn body<'a, T: Wire<'a>>(frame: &'a [u8]) -> Result<T, WireError> {
    decode_request(RequestHeader::read(frame)?.2)
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for api in Api::ALL {
        for version in api.versions() {
            macro_rules! seed {
                ($($name:ident: $request:ident,)*) => {
                    match api {
                        $(Api::$name => {
                            encode_request(*api, version, 1, "seed", &api::$request::default())
                        })*
                    }
                };
            }
            let frame = kafka::each_request!(seed);
            seeds.push(frame.to_vec());
        }
    }
    seeds
}
