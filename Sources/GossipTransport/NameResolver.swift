internal import Glibc
internal import MeshKeys

/// Addresses of a `host:port` text. Blocks: call it on a thread that may.
enum NameResolver {
    /// Addresses of one name that are used.
    static let maxAddresses = 64

    static func resolve(_ text: String) -> [NodeAddress] {
        if let numeric = NodeAddress(text) { return [numeric] }
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return [] }
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(String(text[..<colon]), nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var out: [NodeAddress] = []
        var next = list
        while let entry = next, out.count < maxAddresses {
            next = entry.pointee.ai_next
            guard let raw = UnsafeRawPointer(entry.pointee.ai_addr) else { continue }
            let ip: [UInt8]
            switch entry.pointee.ai_family {
            case AF_INET: ip = withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in.self).sin_addr) { Array($0) }
            case AF_INET6: ip = withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr) { Array($0) }
            default: continue
            }
            if let address = NodeAddress(ip: ip, port: port), !out.contains(address) { out.append(address) }
        }
        return out
    }
}
