//! The records of any batch, compressed or not, behind one iterator. What they are for is not known
//! here.

use std::borrow::Cow;

use super::compress::decompress;
use super::{BatchError, BatchHead, BatchView, COMPRESSION_BITS, Compression, Records};

/// The plain record bytes of a batch: borrowed where they are not compressed.
#[derive(Clone, Debug)]
pub struct PlainRecords<'a> {
    head: BatchHead,
    bytes: Cow<'a, [u8]>,
}

impl<'a> BatchView<'a> {
    /// The records of any batch, decompressed where need be. At most `bytes_max` plain bytes:
    /// beyond that it is [`BatchError::Inflates`].
    pub fn plain(&self, bytes_max: usize) -> Result<PlainRecords<'a>, BatchError> {
        let mut head = self.head();
        let bytes = match head.compression()? {
            Compression::None => Cow::Borrowed(self.record_bytes()),
            compression => {
                head.attributes &= !COMPRESSION_BITS;
                Cow::Owned(decompress(compression, self.record_bytes(), bytes_max)?)
            }
        };
        Ok(PlainRecords { head, bytes })
    }
}

impl PlainRecords<'_> {
    /// The records in their order; as [`BatchView::records`], without [`BatchError::Compressed`].
    pub fn iter(&self) -> Records<'_> {
        Records::new(self.head, &self.bytes)
    }

    /// The plain bytes of all records.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<'a> IntoIterator for &'a PlainRecords<'_> {
    type Item = <Records<'a> as Iterator>::Item;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}
