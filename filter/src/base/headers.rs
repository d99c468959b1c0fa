//! Maps of headers, as the host hands them over: how many, the sizes of each name and value, then each of
//! these with a NUL behind it.

/// Shows each header's name and value, in their order; `None` where the map is cut off.
pub fn for_each(map: &[u8], show: &mut dyn FnMut(&[u8], &[u8])) -> Option<()> {
    let (count, rest) = map.split_first_chunk::<4>()?;
    let sizes = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (sizes, mut rest) = rest.split_at_checked(sizes.checked_mul(8)?)?;
    let mut next = |size: &[u8; 4]| {
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
        let (text, after) = rest.split_at_checked(size)?;
        rest = after.get(1..)?;
        Some(text)
    };
    for [name, value] in sizes.as_chunks::<4>().0.as_chunks::<2>().0 {
        let (name, value) = (next(name)?, next(value)?);
        show(name, value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// The headers of a map, and whether it is whole.
    fn read(map: &[u8]) -> (Vec<(String, String)>, bool) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers = Vec::new();
        let whole = for_each(map, &mut |name, value| {
            headers.push((text(name), text(value)));
        });
        (headers, whole.is_some())
    }

    #[test]
    fn each_header_is_shown_and_a_map_that_is_cut_off_is_none() {
        let map = [
            &[2, 0, 0, 0][..],
            &[1, 0, 0, 0, 2, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            b"a\0bc\0def\0\0",
        ]
        .concat();
        let headers = [("a", "bc"), ("def", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(read(&map), (headers.to_vec(), true));
        for end in 0..map.len() {
            assert!(!read(&map[..end]).1, "cut off at {end}");
        }
        let endless = [&u32::MAX.to_le_bytes()[..], &map[4..]].concat();
        assert_eq!(read(&endless), (Vec::new(), false));
        assert_eq!(read(&[0; 4]), (Vec::new(), true));
    }
}
