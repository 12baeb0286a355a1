public import ChunkModel

/// Who a node is: its Ed25519 public key. Stays the same over restarts and changes of address or name.
public struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let value: Bytes32
    public init(_ value: Bytes32) { self.value = value }
    public init?(_ bytes: some Collection<UInt8>) {
        guard let value = Bytes32(bytes) else { return nil }
        self.value = value
    }
    /// `nil` unless `hex` has 64 hex digits.
    public init?(hex: String) {
        guard let value = Bytes32(hex: hex) else { return nil }
        self.value = value
    }
    public var bytes: [UInt8] { value.bytes }

    /// Stands for whoever answers at `address`, before it has said who it is. No node's own: its first half is zeros.
    public static func unknown(at address: NodeAddress) -> NodeID {
        NodeID([UInt8](repeating: 0, count: 16) + Blake2b.hash256(Array(address.description.utf8)).bytes.prefix(16))!
    }
    public var isUnknown: Bool { bytes.prefix(16).allSatisfy { $0 == 0 } }
    public var hex: String { value.hex }
    /// Enough digits for a person to tell nodes apart.
    public var description: String { String(hex.prefix(12)) }
    public static func < (a: NodeID, b: NodeID) -> Bool { a.value < b.value }
}

/// Address and port of a node, numeric: names are resolved before they get here, and never taken from a peer.
public struct NodeAddress: Hashable, Sendable, CustomStringConvertible {
    /// 4 (IPv4) or 16 (IPv6) bytes in network order.
    public let ip: [UInt8]
    public let port: UInt16

    /// `nil` unless `ip` holds 4 or 16 bytes. An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`) becomes plain IPv4.
    public init?(ip: [UInt8], port: UInt16) {
        switch ip.count {
        case 4: self.ip = ip
        case 16 where ip[0..<10].allSatisfy({ $0 == 0 }) && ip[10] == 0xff && ip[11] == 0xff: self.ip = Array(ip[12...])
        case 16: self.ip = ip
        default: return nil
        }
        self.port = port
    }

    /// Reads `1.2.3.4:7946` and `[fe80::1]:7946`; no names.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard let ip = IPText.parse(String(host)) else { return nil }
        self.init(ip: ip, port: port)
    }

    public var isIPv6: Bool { ip.count == 16 }
    public var isLoopback: Bool { ip.count == 4 ? ip[0] == 127 : ip == [UInt8](repeating: 0, count: 15) + [1] }
    public var isUnspecified: Bool { ip.allSatisfy { $0 == 0 } }
    public var host: String { IPText.format(ip) }
    public var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
