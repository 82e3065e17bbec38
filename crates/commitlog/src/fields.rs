//! Little-endian fields of the journal's and the catalogue's own records.
//! Reading never allocates on the strength of a length that the bytes merely announce.

/// Appends fields to a buffer.
pub(crate) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_option(&mut self, value: Option<u64>);
    fn put_bytes(&mut self, value: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_option(&mut self, value: Option<u64>) {
        self.put_u8(u8::from(value.is_some()));
        self.put_u64(value.unwrap_or(0));
    }

    fn put_bytes(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).expect("fields are far below 4 GiB");
        self.put_u32(length);
        self.extend_from_slice(value);
    }
}

/// What is wrong with a record.
pub(crate) type Malformed = &'static str;

/// Takes fields off the front of a slice.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.rest.len() {
            return Err("the record ends too early");
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn option(&mut self) -> Result<Option<u64>, Malformed> {
        let present = self.bool()?;
        let value = self.u64()?;
        Ok(present.then_some(value))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a truth value is neither 0 nor 1"),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were_put() {
        let mut bytes = Vec::new();
        bytes.put_u8(7);
        bytes.put_u16(300);
        bytes.put_u32(70_000);
        bytes.put_u64(u64::MAX);
        bytes.put_option(None);
        bytes.put_option(Some(9));
        bytes.put_bytes(b"name");
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.u8(), Ok(7));
        assert_eq!(fields.u16(), Ok(300));
        assert_eq!(fields.u32(), Ok(70_000));
        assert_eq!(fields.u64(), Ok(u64::MAX));
        assert_eq!(fields.option(), Ok(None));
        assert_eq!(fields.option(), Ok(Some(9)));
        assert_eq!(fields.text(), Ok("name"));
        assert!(fields.is_empty());
    }

    #[test]
    fn an_announced_length_beyond_the_end_is_refused() {
        let mut fields = Fields::new(&[255, 255, 255, 255, 1]);
        assert_eq!(fields.bytes(), Err("the record ends too early"));
    }
}
