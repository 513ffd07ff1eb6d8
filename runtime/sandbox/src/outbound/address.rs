//! Which addresses belong to the public internet.
//!
//! The lists are those of the IANA special-purpose registries; whatever is in doubt is not public. Addresses that carry an IPv4
//! address within (mapped, translated, 6to4) are judged by that one too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of the public internet: not of this machine, its network, its provider's network or a cloud's metadata service.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)                // this network, private, loopback
            | (100, 64..=127, _)            // shared with the provider (CGNAT)
            | (169, 254, _)                 // link-local, metadata services
            | (172, 16..=31, _)             // private
            | (192, 0, 0 | 2)               // protocols, documentation
            | (192, 31, 196) | (192, 52, 193) | (192, 175, 48) // AS112 and AMT
            | (192, 88, 99)                 // 6to4 relays
            | (192, 168, _)                 // private
            | (198, 18 | 19, _)             // benchmarks
            | (198, 51, 100) | (203, 0, 113) // documentation
            | (224..=255, _, _) // multicast, reserved, broadcast
    );
    !special
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let inner = match segments {
        // Mapped (::ffff:a.b.c.d), compatible (::a.b.c.d) and translated (64:ff9b::a.b.c.d) addresses.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        // 6to4: 2002:a.b.c.d::
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = inner {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        // An IPv4 address in this dress has no reason to be called by; only the translated form is in use.
        return segments[0] == 0x64 && is_global_v4(Ipv4Addr::new(a, b, c, d));
    }
    let is_unicast = segments[0] & 0xe000 == 0x2000;
    let special = matches!(
        segments,
        [0x2001, 0..=0x01ff, ..]            // Teredo, ORCHID, benchmarks, protocols
            | [0x2001, 0xdb8, ..]           // documentation
            | [0x3fff, 0..=0x0fff, ..]      // documentation
            | [0x2620, 0x4f, 0x8000, ..] // AS112
    );
    is_unicast && !special
}
