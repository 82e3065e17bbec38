//! Frames and headers: four bytes of size, then a request or response header, then the body. A size
//! is checked against its bound as soon as it is known and nothing is allocated for it.

use crate::api::Api;
use crate::limits;
use crate::primitives::{Piece, Reader, Wire, WireError, Writer};
use bytes::Bytes;

/// A message ready to be sent: pieces to be written one behind the other. Stored batches are among
/// them by reference, or are the sender's. Without any piece it stands for a message that would have
/// been too large.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The pieces, none of them empty. The first is bytes.
    pub pieces: Vec<Piece>,
}

impl Frame {
    /// Size of the frame with its length in front, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.pieces.iter().map(Piece::size_bytes).sum()
    }

    /// Whether the message was over [`limits::MESSAGE_BYTES_MAX`] and cannot be sent.
    pub fn is_too_large(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All bytes that are here, in one piece; copies, so for small messages and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        let bytes = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Bytes(bytes) => Some(&bytes[..]),
            Piece::Apart(_) => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }
}

/// What every request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API's number, which may be one that we do not serve.
    pub api_key: i16,
    /// The version of the request, and of its response.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Size of what can be read of the header of any API in any version, in bytes.
    const FIXED_BYTES: usize = 8;

    /// Reads the part of the header that never changes, of a frame whose API or version may be
    /// unknown. The client id is left out.
    pub fn read_fixed(frame: &[u8]) -> Result<RequestHeader<'static>, WireError> {
        let mut from = Reader::new(frame, 0, false);
        Ok(RequestHeader {
            api_key: i16::read(&mut from)?,
            api_version: i16::read(&mut from)?,
            correlation_id: i32::read(&mut from)?,
            client_id: None,
        })
    }

    /// The API, where this version of it is served.
    pub fn api(&self) -> Result<Api, WireError> {
        Api::from_key(self.api_key)
            .filter(|api| api.versions().contains(&self.api_version))
            .ok_or(WireError::Unsupported)
    }

    /// Reads the whole header and leaves a reader at the body. The client id is an old-style string
    /// in all versions of the header.
    pub fn read(frame: &'a [u8]) -> Result<(Self, Api, Reader<'a>), WireError> {
        let mut header = Self::read_fixed(frame)?;
        let api = header.api()?;
        let flexible = api.flexible(header.api_version);
        let rest = &frame[Self::FIXED_BYTES..];
        let mut from = Reader::new(rest, header.api_version, false);
        header.client_id = Wire::read(&mut from)?;
        let mut from = Reader::new(from.rest(), header.api_version, flexible)
            .with_elements_max(limits::REQUEST_ELEMENTS_MAX);
        if flexible {
            from.skip_tags()?;
        }
        Ok((header, api, from))
    }
}

/// The first frame in `buffer`: its content and what it takes of the buffer. `None`: more bytes are
/// needed. A size below zero or above `size_max` is an error as soon as its four bytes are there.
pub fn frame(buffer: &[u8], size_max: u32) -> Result<Option<(&[u8], usize)>, WireError> {
    let Some((size, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let size = u32::try_from(i32::from_be_bytes(*size)).map_err(|_| WireError::Length)?;
    if size > size_max {
        return Err(WireError::TooLarge);
    }
    let size = size as usize;
    Ok(rest.get(..size).map(|frame| (frame, size + 4)))
}

/// Decodes the body of a request behind its header. Bytes behind the last field are ignored, as
/// Kafka does.
pub fn decode_request<'a, T: Wire<'a>>(mut body: Reader<'a>) -> Result<T, WireError> {
    T::read(&mut body)
}

/// Encodes a request of our own client.
pub fn encode_request<'a>(
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    body: &impl Wire<'a>,
) -> Frame {
    let mut to = Writer::new(version, false);
    to.raw(&[0; 4]);
    api.key().write(&mut to);
    version.write(&mut to);
    correlation_id.write(&mut to);
    client_id.write(&mut to);
    finish(to, api.flexible(version), api.flexible(version), body)
}

/// Encodes a response. `version` is that of the request; ApiVersions keeps the oldest response
/// header in all versions, since its reader cannot know ours yet (KIP-511).
pub fn encode_response<'a>(
    api: Api,
    version: i16,
    correlation_id: i32,
    body: &impl Wire<'a>,
) -> Frame {
    let mut to = Writer::new(version, false);
    to.raw(&[0; 4]);
    correlation_id.write(&mut to);
    let flexible = api.flexible(version);
    finish(to, flexible, flexible && api != Api::ApiVersions, body)
}

/// The correlation id of a response, by which its request is found.
pub fn response_correlation_id(frame: &[u8]) -> Result<i32, WireError> {
    i32::read(&mut Reader::new(frame, 0, false))
}

/// Decodes a response that answers a request of this API and version.
pub fn decode_response<'a, T: Wire<'a>>(
    api: Api,
    version: i16,
    frame: &'a [u8],
) -> Result<T, WireError> {
    let flexible = api.flexible(version);
    let mut from = Reader::new(frame, version, flexible);
    i32::read(&mut from)?;
    if flexible && api != Api::ApiVersions {
        from.skip_tags()?;
    }
    T::read(&mut from)
}

/// Writes the body behind a header and puts the size in front.
fn finish<'a>(head: Writer, flexible: bool, header_tags: bool, body: &impl Wire<'a>) -> Frame {
    let (version, bytes_max) = (head.version(), head.bytes_max());
    let (bytes, _) = head.into_parts();
    let mut to = Writer::new(version, flexible).with_bytes_max(bytes_max);
    to.raw(&bytes);
    if header_tags {
        to.unsigned_varint(0);
    }
    body.write(&mut to);
    let (mut bytes, spliced) = to.into_parts();
    let size = bytes.len() - 4
        + spliced
            .iter()
            .map(|(_, piece)| piece.size_bytes())
            .sum::<usize>();
    let Some(size) = i32::try_from(size)
        .ok()
        .filter(|size| *size as usize <= bytes_max)
    else {
        return Frame::default();
    };
    bytes[..4].copy_from_slice(&size.to_be_bytes());

    let bytes = Bytes::from(bytes);
    let mut pieces = Vec::with_capacity(2 * spliced.len() + 1);
    let mut from = 0;
    for (at, piece) in spliced {
        pieces.push(Piece::Bytes(bytes.slice(from..at)));
        pieces.push(piece);
        from = at;
    }
    pieces.push(Piece::Bytes(bytes.slice(from..)));
    pieces.retain(|piece| piece.size_bytes() > 0);
    Frame { pieces }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::Records;

    #[test]
    fn a_message_over_the_bound_is_not_made() {
        let finish = |body: &Records<'_>| {
            let mut head = Writer::new(0, false).with_bytes_max(100);
            head.raw(&[0; 8]);
            finish(head, false, false, body)
        };
        // Four bytes of correlation id and four of length are in front of them.
        assert_eq!(finish(&Records::Received(&[1; 92])).size_bytes(), 104);
        assert!(finish(&Records::Received(&[1; 93])).is_too_large());
        let slice = Bytes::from_static(&[1; 31]);
        assert!(finish(&Records::Stored(vec![slice; 3])).is_too_large());
    }
}
