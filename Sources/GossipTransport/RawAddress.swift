internal import Glibc
internal import MeshKeys

/// Addresses as the kernel wants them. In a file that does not import NIO, whose own C module claims these types' fields.
enum RawAddress {
    static func v4(_ address: NodeAddress) -> sockaddr_in {
        var raw = sockaddr_in()
        raw.sin_family = sa_family_t(AF_INET)
        raw.sin_port = address.port.bigEndian
        raw.sin_addr = host4(address)
        return raw
    }

    static func host4(_ address: NodeAddress) -> in_addr {
        var host = in_addr()
        withUnsafeMutableBytes(of: &host) { $0.copyBytes(from: address.ip.prefix(4)) }
        return host
    }

    /// - Parameter scope: interface of a link-local address; 0 for any other.
    static func v6(_ address: NodeAddress, scope: UInt32) -> sockaddr_in6 {
        var raw = sockaddr_in6()
        raw.sin6_family = sa_family_t(AF_INET6)
        raw.sin6_port = address.port.bigEndian
        raw.sin6_scope_id = scope
        withUnsafeMutableBytes(of: &raw.sin6_addr) { $0.copyBytes(from: address.ip.prefix(16)) }
        return raw
    }

    /// Membership in a group on the interface that has the address `local`.
    static func membership4(of group: NodeAddress, on local: NodeAddress) -> ip_mreq {
        ip_mreq(imr_multiaddr: host4(group), imr_interface: host4(local))
    }
}
