//! Netlink attributes: length, kind, value, padding to four bytes (Linux, include/uapi/linux/netlink.h).
//!
//! Numbers in nf_tables' attributes are big-endian; lengths and kinds are the machine's own. What the kernel sends is read
//! as if it were a stranger's: a length that does not fit ends the reading with an error.

use super::NetlinkError;

/// The bit by which an attribute says that its value is attributes.
const NESTED: u16 = 0x8000;
/// The bits of a kind that are flags.
const FLAGS: u16 = 0xc000;
const HEADER: usize = 4;

/// Attributes being written.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds bytes as they are.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds a number of 32 bits.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text, with the NUL that the kernel wants.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds attributes as the value of one.
    pub(super) fn nest(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// The encoding.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        // Lists are sent in parts that fit: `message::ELEMENTS_A_MESSAGE`.
        let length = u16::try_from(HEADER + value.len()).expect("an attribute of less than 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Attributes being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Over these bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next attribute: its kind without flags, and its value.
    fn next(&mut self) -> Result<Option<(u16, &'a [u8])>, NetlinkError> {
        let Some((header, _)) = self.0.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [l0, l1, k0, k1] = *header;
        let (length, kind) = (usize::from(u16::from_ne_bytes([l0, l1])), u16::from_ne_bytes([k0, k1]));
        let value = self.0.get(HEADER..length).ok_or(NetlinkError::Malformed("an attribute's length"))?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Ok(Some((kind & !FLAGS, value)))
    }

    /// The values of all attributes of this kind, in order.
    pub(super) fn all(mut self, kind: u16) -> Result<Vec<&'a [u8]>, NetlinkError> {
        let mut found = Vec::new();
        while let Some((this, value)) = self.next()? {
            if this == kind {
                found.push(value);
            }
        }
        Ok(found)
    }

    /// The value of the first attribute of this kind.
    pub(super) fn get(mut self, kind: u16) -> Result<Option<&'a [u8]>, NetlinkError> {
        while let Some((this, value)) = self.next()? {
            if this == kind {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// A number of 32 bits.
    pub(super) fn number(self, kind: u16) -> Result<Option<u32>, NetlinkError> {
        let Some(value) = self.get(kind)? else { return Ok(None) };
        let bytes = value.try_into().map_err(|_| NetlinkError::Malformed("a number's length"))?;
        Ok(Some(u32::from_be_bytes(bytes)))
    }

    /// A text, empty where there is none.
    pub(super) fn text(self, kind: u16) -> Result<String, NetlinkError> {
        let value = self.get(kind)?.unwrap_or_default();
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        Ok(String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned())
    }

    /// The attributes in the first attribute of this kind; none where there is none.
    pub(super) fn nested(self, kind: u16) -> Result<Self, NetlinkError> {
        Ok(Self(self.get(kind)?.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let inner = Attributes::default().number(1, 7).text(2, "lo");
        let bytes = Attributes::default().nest(4, inner).bytes(5, &[1]).bytes(5, &[2, 3]).into_bytes();
        let reader = Reader::new(&bytes);
        let nested = reader.nested(4).unwrap();
        assert_eq!((nested.number(1).unwrap(), nested.text(2).unwrap()), (Some(7), "lo".to_owned()));
        assert_eq!(reader.all(5).unwrap(), [&[1][..], &[2, 3]]);
        assert_eq!(reader.get(9).unwrap(), None);
    }

    #[test]
    fn a_length_that_does_not_fit_is_an_error() {
        for bytes in [[9, 0, 1, 0], [3, 0, 1, 0], [0, 0, 1, 0]] {
            assert!(Reader::new(&bytes).get(1).is_err(), "{bytes:?}");
        }
        assert!(Reader::new(&Attributes::default().bytes(1, &[1]).into_bytes()).number(1).is_err());
    }
}
