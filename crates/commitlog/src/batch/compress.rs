//! The compressions of Kafka batches: taken apart within a bound, so that a small batch cannot fill
//! the memory, and put together again for compaction. Knows nothing of what the bytes mean.

use std::io::{self, Read, Write};

use super::{BatchError, Compression};

/// Magic of the framing that snappy-java (xerial) writes; two versions (i32) follow it, then blocks
/// with their length (i32) in front. librdkafka and others send one bare block instead.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEAD_BYTES: usize = 16;

/// Plain bytes of a xerial block that we write, as snappy-java's default.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// Level of what compaction compresses again: the default of Kafka's producers.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// First guess of how much larger the plain bytes are.
const GROWTH_GUESS: usize = 4;

const MALFORMED: BatchError = BatchError::Record("compressed records are malformed");

/// The plain bytes, at most `bytes_max` of them.
pub(super) fn decompress(
    compression: Compression,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, BatchError> {
    match compression {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let source = flate2::bufread::MultiGzDecoder::new(bytes);
            read_bounded(source, bytes.len(), bytes_max)
        }
        Compression::Snappy => snappy(bytes, bytes_max),
        Compression::Lz4 if !lz4_ends(bytes) => Err(MALFORMED),
        Compression::Lz4 => {
            let source = lz4_flex::frame::FrameDecoder::new(bytes);
            read_bounded(source, bytes.len(), bytes_max)
        }
        Compression::Zstd => {
            let source = zstd::stream::read::Decoder::with_buffer(bytes);
            read_bounded(source.map_err(|_| MALFORMED)?, bytes.len(), bytes_max)
        }
    }
}

/// Reads to the end, or to one byte beyond the bound.
fn read_bounded(source: impl Read, hint: usize, bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(hint.saturating_mul(GROWTH_GUESS).min(bytes_max));
    let mut source = source.take(bytes_max as u64 + 1);
    source.read_to_end(&mut out).map_err(|_| MALFORMED)?;
    if out.len() > bytes_max {
        return Err(BatchError::Inflates);
    }
    Ok(out)
}

/// Whether the frame has its end mark (and its checksum, if it has one): the decoder does without,
/// Kafka's own clients do not.
fn lz4_ends(frame: &[u8]) -> bool {
    let checksum = frame.get(4).is_some_and(|flags| flags & 0x04 != 0);
    let behind = if checksum { 4 } else { 0 };
    let end = frame.len().checked_sub(behind);
    end.is_some_and(|end| frame[..end].ends_with(&[0; 4]))
}

fn snappy(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !bytes.starts_with(&XERIAL_MAGIC) {
        snappy_block(bytes, bytes_max, &mut out)?;
        return Ok(out);
    }
    let mut rest = bytes.get(XERIAL_HEAD_BYTES..).ok_or(MALFORMED)?;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| MALFORMED)?;
        let (block, behind) = behind.split_at_checked(length).ok_or(MALFORMED)?;
        snappy_block(block, bytes_max, &mut out)?;
        rest = behind;
    }
    if rest.is_empty() {
        Ok(out)
    } else {
        Err(MALFORMED)
    }
}

/// Appends the plain bytes of one block, if all together stay within the bound.
fn snappy_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let announced = snap::raw::decompress_len(block).map_err(|_| MALFORMED)?;
    let start = out.len();
    if announced > bytes_max - start {
        return Err(BatchError::Inflates);
    }
    // A block can announce much; no block of this format grows beyond about 22 times its size.
    if announced / SNAPPY_GROWTH_MAX > block.len() {
        return Err(MALFORMED);
    }
    out.resize(start + announced, 0);
    let mut decoder = snap::raw::Decoder::new();
    let done = decoder.decompress(block, &mut out[start..]);
    done.map_err(|_| MALFORMED).map(|_| ())
}

/// A copy of 64 bytes takes three: more than this cannot come of a block.
const SNAPPY_GROWTH_MAX: usize = 64;

/// Compresses the records of a batch as a producer would: what lies behind its header.
pub fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    pack(compression, bytes).expect("writing to memory does not fail")
}

fn pack(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Snappy => {
            let mut out = XERIAL_MAGIC.to_vec();
            out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            let mut encoder = snap::raw::Encoder::new();
            for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
                let packed = encoder.compress_vec(block).map_err(io::Error::other)?;
                out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                out.extend_from_slice(&packed);
            }
            Ok(out)
        }
        Compression::Lz4 => {
            // Kafka's own clients read independent blocks only.
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(bytes)?;
            encoder.finish().map_err(io::Error::other)
        }
        Compression::Zstd => zstd::stream::encode_all(bytes, ZSTD_LEVEL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn sample() -> Vec<u8> {
        (0..200_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect()
    }

    #[test]
    fn what_was_compressed_comes_back_within_the_bound_only() {
        for compression in ALL {
            for bytes in [Vec::new(), b"x".to_vec(), sample()] {
                let packed = compress(compression, &bytes);
                let plain = decompress(compression, &packed, bytes.len());
                assert_eq!(plain.as_ref(), Ok(&bytes), "{compression:?}");
                if compression != Compression::None && !bytes.is_empty() {
                    let short = decompress(compression, &packed, bytes.len() - 1);
                    assert_eq!(short, Err(BatchError::Inflates), "{compression:?}");
                }
            }
        }
    }

    #[test]
    fn bare_snappy_blocks_are_read_too() {
        let packed = snap::raw::Encoder::new().compress_vec(&sample()).unwrap();
        let plain = decompress(Compression::Snappy, &packed, 1 << 20);
        assert_eq!(plain, Ok(sample()));
    }

    #[test]
    fn a_bomb_is_met_by_the_bound_and_not_by_the_memory() {
        let zeros = vec![0; 512 << 20];
        for compression in &ALL[1..] {
            let bomb = compress(*compression, &zeros);
            let met = decompress(*compression, &bomb, 1 << 20);
            assert_eq!(met, Err(BatchError::Inflates), "{compression:?}");
        }
        // A block of six bytes that announces 4 GiB.
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        decompress(Compression::Snappy, &lie, usize::MAX).unwrap_err();
    }

    #[test]
    fn damaged_bytes_are_an_error_and_nothing_worse() {
        for compression in &ALL[1..] {
            let packed = compress(*compression, &sample());
            for at in (0..packed.len()).step_by(1 + packed.len() / 300) {
                let mut changed = packed.clone();
                changed[at] ^= 0x5a;
                let _ = decompress(*compression, &changed, 1 << 20);
                let _ = decompress(*compression, &packed[..at], 1 << 20);
            }
        }
    }
}
