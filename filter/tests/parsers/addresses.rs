//! Envoy finds an endpoint by how the C library spells its address, so this crate spells it alike.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{IpAddr, Ipv6Addr};

use pointsman_filter::config::host_address;
use proptest::prelude::*;
use proptest::sample::select;

#[allow(unsafe_code, reason = "there is no other door to the C library")]
unsafe extern "C" {
    fn inet_ntop(
        family: c_int,
        address: *const c_void,
        text: *mut c_char,
        size: libc::socklen_t,
    ) -> *const c_char;
}

/// How the C library spells an address.
#[allow(unsafe_code, reason = "there is no other door to the C library")]
fn spelled_by_c(ip: IpAddr) -> String {
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let mut text: [c_char; 64] = [0; 64];
    let size = libc::socklen_t::try_from(text.len()).unwrap();
    // SAFETY: both buffers live on, and have the sizes that are told or that the family implies.
    let written = unsafe { inet_ntop(family, bytes.as_ptr().cast(), text.as_mut_ptr(), size) };
    assert!(!written.is_null());
    // SAFETY: it was written by the call above, with a zero at its end.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    text.to_str().unwrap().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Groups that are mostly zero, or those of addresses of IPv4 in IPv6: where spellings differ.
    #[test]
    fn every_address_that_is_taken_is_spelled_as_the_c_library_does(
        groups in prop::array::uniform8(select(vec![0u16, 0, 0, 1, 0xffff, 0x7f00, 0x0db8])),
        ipv4 in any::<[u8; 4]>(),
    ) {
        let compatible = u128::from(u32::from_be_bytes(ipv4));
        let mapped = compatible | 0xffff_0000_0000;
        let sixes = [Ipv6Addr::from(groups), compatible.into(), mapped.into()];
        for ip in sixes.map(IpAddr::V6).into_iter().chain([IpAddr::from(ipv4)]) {
            if let Ok(ip) = host_address(ip) {
                prop_assert_eq!(ip.to_string(), spelled_by_c(ip));
            }
        }
    }
}
