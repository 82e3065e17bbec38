//! Every API in every version against the crate `kafka-protocol`, both ways; prefixes and garbage.
//! The tables themselves roll the random messages.

mod oracle;

use crate::api::*;
use crate::primitives::Piece;
use crate::{
    Frame, Reader, Records, RequestHeader, Wire, WireError, Writer, decode_request,
    decode_response, encode_request, encode_response, frame, limits,
};
use bytes::Bytes;
use proptest::prelude::*;

/// A source of random values that is the same for the same seed (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A type of which random values can be rolled.
pub(crate) trait Roll {
    fn roll(dice: &mut Dice) -> Self;
}

macro_rules! roll_integers {
    ($($kind:ty),*) => {$(
        impl Roll for $kind {
            fn roll(dice: &mut Dice) -> Self {
                match dice.below(8) {
                    0 => 0,
                    1 => -1,
                    2 => <$kind>::MAX,
                    _ => dice.next() as $kind,
                }
            }
        }
    )*};
}

roll_integers!(i8, i16, i32, i64);

impl Roll for bool {
    fn roll(dice: &mut Dice) -> Self {
        dice.below(2) == 1
    }
}

impl Roll for crate::Uuid {
    fn roll(dice: &mut Dice) -> Self {
        let (high, low) = (dice.next(), dice.next());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }
}

impl Roll for &str {
    fn roll(dice: &mut Dice) -> Self {
        const LONG: &str = "a string of more than 127 bytes, so that its compact length takes two \
            bytes; it goes on for a while and says nothing else, as long strings are known to do";
        ["", "a", "message_state", "sluice", "caf\u{e9}", LONG][dice.below(6) as usize]
    }
}

impl Roll for &[u8] {
    fn roll(dice: &mut Dice) -> Self {
        [&b""[..], b"\0", b"range", &[0xff; 300]][dice.below(4) as usize]
    }
}

impl<T: Roll> Roll for Option<T> {
    fn roll(dice: &mut Dice) -> Self {
        (dice.below(4) != 0).then(|| T::roll(dice))
    }
}

impl<T: Roll> Roll for Vec<T> {
    fn roll(dice: &mut Dice) -> Self {
        (0..dice.below(4)).map(|_| T::roll(dice)).collect()
    }
}

impl Roll for Records<'_> {
    fn roll(dice: &mut Dice) -> Self {
        if dice.below(4) == 0 {
            return Records::Null;
        }
        let slice = |dice: &mut Dice| {
            Bytes::from(
                (0..dice.below(200))
                    .map(|_| dice.next() as u8)
                    .collect::<Vec<u8>>(),
            )
        };
        Records::Stored((0..dice.below(3)).map(|_| slice(dice)).collect())
    }
}

/// The bytes of a body alone.
fn body_bytes<'a>(api: Api, version: i16, body: &impl Wire<'a>) -> Vec<u8> {
    // The response header of all APIs but ApiVersions ends with tags where flexible.
    let frame = encode_response(api, version, 0, body).to_vec();
    let tags = usize::from(api.flexible(version) && api != Api::ApiVersions);
    frame[8 + tags..].to_vec()
}

/// What a message becomes by being sent: fields that the version lacks are back at their defaults.
fn read_back<'a, T: Wire<'a>>(api: Api, version: i16, bytes: &'a [u8]) -> T {
    let mut from = Reader::new(bytes, version, api.flexible(version));
    let read = T::read(&mut from).unwrap();
    assert_eq!(
        from.rest(),
        [],
        "{} {version} left bytes behind",
        api.name()
    );
    read
}

/// Encodes, lets the oracle decode and encode again, and decodes what the oracle wrote. A version
/// behind the oracle's newest has the same bytes, or is named as one that it does not know.
macro_rules! against_the_oracle {
    ($(
        $test:ident: $api:ident, $message:ident, $convert:ident, oracle up to $newest:literal
        $(without $own:literal)?;
    )*) => {
        proptest! {$(
            #[test]
            fn $test(seed: u64) {
                for version in Api::$api.versions() {
                    let rolled = $message::roll(&mut Dice(seed));
                    let bytes = body_bytes(Api::$api, version, &rolled);
                    let mut from = Reader::new(&bytes, version, Api::$api.flexible(version));
                    let sent = $message::read(&mut from).unwrap();
                    prop_assert!(from.rest().is_empty(), "version {} leaves bytes", version);
                    prop_assert_eq!(&body_bytes(Api::$api, version, &sent), &bytes);
                    let unknown: &[i16] = &[$($own)?];
                    if !unknown.contains(&version) {
                        let oracle_version = version.min($newest);
                        let known = oracle::$convert(&sent);
                        prop_assert_eq!(&oracle::decode(&bytes, oracle_version, &known), &known);
                        prop_assert_eq!(&oracle::encode(&known, oracle_version), &bytes);
                    }

                    // No version reads a message that ends early, and none panics at one.
                    for end in 0..bytes.len() {
                        let flexible = Api::$api.flexible(version);
                        let read = $message::read(&mut Reader::new(&bytes[..end], version, flexible));
                        prop_assert!(read.is_err());
                    }
                }
            }
        )*}
    };
}

mod messages;

against_the_oracle! {
    api_versions_requests: ApiVersions, ApiVersionsRequest, api_versions_request, oracle up to 4;
    api_versions_responses: ApiVersions, ApiVersionsResponse, api_versions_response,
        oracle up to 4;
    metadata_requests: Metadata, MetadataRequest, metadata_request, oracle up to 13;
    metadata_responses: Metadata, MetadataResponse, metadata_response, oracle up to 13;
    list_offsets_requests: ListOffsets, ListOffsetsRequest, list_offsets_request, oracle up to 10;
    list_offsets_responses: ListOffsets, ListOffsetsResponse, list_offsets_response,
        oracle up to 10;
    produce_requests: Produce, ProduceRequest, produce_request, oracle up to 13;
    produce_responses: Produce, ProduceResponse, produce_response, oracle up to 13;
    fetch_requests: Fetch, FetchRequest, fetch_request, oracle up to 18;
    fetch_responses: Fetch, FetchResponse, fetch_response, oracle up to 18;
    leader_epoch_requests: OffsetForLeaderEpoch, OffsetForLeaderEpochRequest,
        leader_epoch_request, oracle up to 4;
    leader_epoch_responses: OffsetForLeaderEpoch, OffsetForLeaderEpochResponse,
        leader_epoch_response, oracle up to 4;
}

proptest! {
    #[test]
    fn headers_are_those_of_the_oracle(seed: u64, correlation_id: i32) {
        let dice = &mut Dice(seed);
        let client_id = <&str>::roll(dice);
        for &api in Api::ALL {
            for version in api.versions() {
                let request = encode_request(api, version, correlation_id, client_id, &7i8);
                prop_assert_eq!(request.size_bytes(), request.to_vec().len());
                let request = request.to_vec();
                let known = oracle::request(api, version, correlation_id, client_id, &[7]);
                prop_assert_eq!(&request, &known);
                let (content, taken) = frame(&request, limits::REQUEST_BYTES_MAX).unwrap().unwrap();
                prop_assert_eq!(taken, request.len());
                let (header, read_api, body) = RequestHeader::read(content).unwrap();
                prop_assert_eq!(read_api, api);
                prop_assert_eq!(header.api_version, version);
                prop_assert_eq!(header.correlation_id, correlation_id);
                prop_assert_eq!(header.client_id, Some(client_id));
                prop_assert_eq!(body.rest(), [7]);

                let response = encode_response(api, version, correlation_id, &7i8).to_vec();
                let known = oracle::response(api, version, correlation_id, &[7]);
                prop_assert_eq!(&response, &known);
                prop_assert_eq!(decode_response::<i8>(api, version, &response[4..]), Ok(7));
            }
        }
    }

    #[test]
    fn garbage_is_refused_without_a_panic(bytes: Vec<u8>, key in 0i16..80, version in -1i16..20) {
        read_anything(&bytes);
        let mut headed = [key.to_be_bytes(), version.to_be_bytes()].concat();
        headed.extend([0, 0, 0, 1, 0xff, 0xff]);
        headed.extend(&bytes);
        read_anything(&headed);
    }

    #[test]
    fn damaged_requests_do_not_panic(seed: u64, at: prop::sample::Index, byte: u8) {
        let dice = &mut Dice(seed);
        for &api in Api::ALL {
            for version in api.versions() {
                let frame = rolled_request(api, version, dice);
                let mut bytes = frame.to_vec()[4..].to_vec();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                read_anything(&bytes);
            }
        }
    }
}

macro_rules! requests {
    ($($api:ident: $request:ident,)*) => {
        /// A request of this API with random content.
        fn rolled_request(api: Api, version: i16, dice: &mut Dice) -> Frame {
            match api {
                $(Api::$api => encode_request(api, version, 1, "c", &$request::roll(dice)),)*
            }
        }

        /// Reads a body as a request of this API.
        fn read_request(api: Api, body: Reader<'_>) {
            match api {
                $(Api::$api => drop(decode_request::<$request>(body)),)*
            }
        }
    };
}

crate::each_request!(requests);

/// Reads a frame as whatever it says it is, and as each response.
fn read_anything(bytes: &[u8]) {
    let _ = frame(bytes, limits::REQUEST_BYTES_MAX);
    if let Ok((_, api, body)) = RequestHeader::read(bytes) {
        read_request(api, body);
    }
    for version in [0, 4, 9, 11, 12, 13, 18] {
        let _ = decode_response::<FetchResponse<'_>>(Api::Fetch, version, bytes);
        let _ = decode_response::<MetadataResponse<'_>>(Api::Metadata, version, bytes);
        let _ = decode_response::<ListOffsetsResponse<'_>>(Api::ListOffsets, version, bytes);
        let _ = decode_response::<ApiVersionsResponse>(Api::ApiVersions, version, bytes);
    }
}

#[test]
fn what_a_broker_of_a_cluster_adds_to_a_fetch_is_passed_over() {
    for version in 12..=18 {
        let bytes = oracle::fetch_of_a_follower(version);
        let read: FetchRequest<'_> = read_back(Api::Fetch, version, &bytes);
        assert_eq!(read.topics[0].partitions[0].fetch_offset, 42);
        assert_eq!(read.rack_id, "rack");
    }
}

#[test]
fn a_frame_is_refused_by_its_size_and_awaited_by_its_bytes() {
    assert_eq!(frame(&[0, 0, 0], 100), Ok(None));
    assert_eq!(frame(&[0, 0, 0, 2, 7], 100), Ok(None));
    assert_eq!(
        frame(&[0, 0, 0, 2, 7, 8, 9], 100),
        Ok(Some((&[7, 8][..], 6)))
    );
    assert_eq!(frame(&[0, 0, 0, 101], 100), Err(WireError::TooLarge));
    assert_eq!(
        frame(&[0x7f, 0xff, 0xff, 0xff], 100),
        Err(WireError::TooLarge)
    );
    assert_eq!(
        frame(&[0xff, 0xff, 0xff, 0xff], 100),
        Err(WireError::Length)
    );
}

#[test]
fn an_api_or_version_that_is_not_served_is_told_apart() {
    let header = |key: i16, version: i16| {
        let bytes = [
            &key.to_be_bytes()[..],
            &version.to_be_bytes(),
            &[0, 0, 0, 9, 0, 0],
        ]
        .concat();
        (
            RequestHeader::read_fixed(&bytes).unwrap().correlation_id,
            RequestHeader::read(&bytes).err(),
        )
    };
    assert_eq!(header(18, 0), (9, None));
    assert_eq!(header(18, 5), (9, Some(WireError::Unsupported)));
    assert_eq!(header(1, 3), (9, Some(WireError::Unsupported)));
    assert_eq!(header(0, 2), (9, Some(WireError::Unsupported)));
    assert_eq!(header(-1, 0), (9, Some(WireError::Unsupported)));
}

#[test]
fn a_request_of_too_many_elements_is_refused() {
    // Topics of two bytes each: an empty name and no tags.
    let count = limits::REQUEST_ELEMENTS_MAX + 1;
    let mut to = Writer::new(9, true);
    to.unsigned_varint(count as u32 + 1);
    let (mut body, _) = to.into_parts();
    body.extend(std::iter::repeat_n([1, 0], count).flatten());
    body.extend([0, 0, 0, 0]);
    let frame = [&[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0][..], &body].concat();
    let (_, _, body) = RequestHeader::read(&frame).unwrap();
    assert_eq!(
        decode_request::<MetadataRequest<'_>>(body),
        Err(WireError::TooLarge)
    );
}

#[test]
fn stored_batches_go_out_by_reference() {
    let stored = Bytes::from(vec![7u8; 1000]);
    let response = FetchResponse {
        topics: vec![crate::api::FetchTopicResponse {
            topic: "s",
            partitions: vec![crate::api::FetchPartitionResponse {
                records: Records::Stored(vec![stored.slice(..600), stored.slice(600..)]),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in Api::Fetch.versions() {
        let frame = encode_response(Api::Fetch, version, 1, &response);
        for (piece, slice) in frame.pieces[1..].iter().zip([&stored[..], &stored[600..]]) {
            assert!(matches!(piece, Piece::Bytes(it) if it.as_ptr() == slice.as_ptr()));
        }
        assert_eq!(frame.to_vec().len(), frame.size_bytes());
    }
}

#[test]
fn batches_that_the_sender_has_apart_leave_a_place_of_their_size() {
    let stored = Bytes::from(vec![7u8; 1000]);
    let response = |records: [Records<'static>; 2]| FetchResponse {
        topics: vec![crate::api::FetchTopicResponse {
            topic: "s",
            partitions: records
                .map(|records| crate::api::FetchPartitionResponse {
                    records,
                    ..Default::default()
                })
                .into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in Api::Fetch.versions() {
        let here = Records::Stored(vec![stored.slice(..600)]);
        let rest = Records::Stored(vec![stored.slice(600..)]);
        let whole = encode_response(Api::Fetch, version, 1, &response([here.clone(), rest]));
        let apart = [here, Records::Apart(400)];
        let frame = encode_response(Api::Fetch, version, 1, &response(apart));
        assert_eq!(frame.size_bytes(), whole.size_bytes());
        let mut bytes = Vec::new();
        for piece in &frame.pieces {
            match piece {
                Piece::Bytes(piece) => bytes.extend_from_slice(piece),
                Piece::Apart(size) => bytes.extend_from_slice(&stored[1000 - size..]),
            }
        }
        assert_eq!(bytes, whole.to_vec());
    }
    // Nothing at all needs no place.
    let none = response([Records::Apart(0), Records::Apart(0)]);
    assert_eq!(encode_response(Api::Fetch, 12, 1, &none).pieces.len(), 1);
}
