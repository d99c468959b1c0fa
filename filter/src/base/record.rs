//! Records of shared data: bytes that modules of several versions read and write side by side.
//!
//! Each begins with its kind's version and the length of its fields. Fields are only appended: who
//! knows fewer of them passes the rest over, and leaves it where it stands.

/// Bytes before the fields: the version, then the fields' length.
pub const HEAD: usize = 3;

/// The fields of a record that was read, the first one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a>(&'a [u8]);

/// Opens a record: its fields, and what stands behind them. `None` for another version or where
/// bytes are missing.
pub fn open(record: &[u8], version: u8) -> Option<(Fields<'_>, &[u8])> {
    let ([found, length @ ..], rest) = record.split_first_chunk::<HEAD>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (fields, behind) = rest.split_at_checked(length)?;
    (*found == version).then_some((Fields(fields), behind))
}

impl<'a> Fields<'a> {
    /// The fields of an entry behind a record's own: all entries of one record have one size.
    pub fn of(entry: &'a [u8]) -> Self {
        Fields(entry)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// The next number of two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    /// The next number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// The next number of eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// The fields that were not asked for.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// Numbers of eight bytes each, as fields.
pub fn numbers(numbers: &[u64]) -> Vec<u8> {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    bytes.collect()
}

/// A record with these fields; `room` is for what will be put behind them.
pub fn create(version: u8, fields: &[u8], room: usize) -> Vec<u8> {
    let size = room.saturating_add(fields.len()).saturating_add(HEAD);
    let mut record = Vec::with_capacity(size);
    let length = u16::try_from(fields.len()).unwrap_or(u16::MAX);
    record.push(version);
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(fields);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn fields_are_read_in_order_and_later_ones_passed_over() {
        let fields = [&[7][..], &8u16.to_le_bytes(), &9u64.to_le_bytes(), b"new"].concat();
        let mut record = create(3, &fields, 6);
        record.extend_from_slice(b"behind");
        let (mut fields, behind) = open(&record, 3).expect("a record");
        assert_eq!((fields.u8(), fields.u16()), (Some(7), Some(8)));
        assert_eq!((fields.u64(), fields.u64()), (Some(9), None));
        assert_eq!((fields.rest(), behind), (&b"new"[..], &b"behind"[..]));
    }

    #[test]
    fn another_version_and_missing_bytes_are_no_record() {
        let record = create(3, b"fields", 0);
        assert!(open(&record, 3).is_some() && open(&record, 2).is_none());
        for length in 0..record.len() {
            assert_eq!(open(&record[..length], 3), None);
        }
    }
}
