//! The key by which requests belong together (LB-12).

use crate::base::hash;

/// The key of a header's or a cookie's value; an empty one is none.
pub fn key_of_value(value: &[u8]) -> Option<u64> {
    Some(hash::text_key(value)).filter(|_| !value.is_empty())
}

/// The key of a client's address, as Envoy says it: with a port, which every connection has anew.
/// `None` for a client that has no address of the internet.
pub fn key_of_address(address: &[u8]) -> Option<u64> {
    let port = address.iter().rposition(|byte| *byte == b':')?;
    key_of_value(address.get(..port)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn lb_12_an_address_is_a_key_without_its_port() {
        let key = key_of_address(b"10.0.0.1:4711");
        assert!(key.is_some());
        assert_eq!(key, key_of_address(b"10.0.0.1:0"));
        assert_eq!(key, key_of_value(b"10.0.0.1"));
        assert_ne!(key, key_of_address(b"10.0.0.2:4711"));
        let v6 = key_of_address(b"[fd00::1]:4711");
        assert_eq!(v6, key_of_value(b"[fd00::1]"));
        assert_ne!(v6, key_of_address(b"[fd00::2]:4711"));
        for none in [&b""[..], b"/run/envoy.sock", b":1"] {
            assert_eq!(key_of_address(none), None);
        }
        assert_eq!(key_of_value(b""), None);
    }
}
