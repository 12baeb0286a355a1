internal import ChunkModel
internal import MeshKeys

/// Thrown by every decoder upon bytes that mean nothing; the message they came in is dropped and counted.
struct WireError: Error {}

/// Appends numbers as LEB128 and byte strings with their length in front.
struct WireWriter {
    private(set) var bytes: [UInt8] = []
    var count: Int { bytes.count }

    mutating func byte(_ value: UInt8) { bytes.append(value) }
    mutating func number(_ value: UInt64) {
        var rest = value
        while rest >= 128 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 128)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }
    mutating func number(_ value: Int) { number(UInt64(clamping: value)) }
    mutating func fixed64(_ value: UInt64) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    mutating func raw(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }
    mutating func string(_ value: [UInt8]) {
        number(value.count)
        raw(value)
    }
    mutating func node(_ id: NodeID) { raw(id.bytes) }
    mutating func address(_ address: NodeAddress) {
        string(address.ip)
        number(UInt64(address.port))
    }
}

/// Reads what `WireWriter` wrote; every step is checked, none traps.
struct WireReader {
    private let bytes: [UInt8]
    private var at: Int
    private let end: Int

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        (at, end) = (0, bytes.count)
    }

    var isAtEnd: Bool { at == end }
    var remaining: Int { end - at }

    mutating func byte() throws -> UInt8 {
        guard at < end else { throw WireError() }
        at += 1
        return bytes[at - 1]
    }
    mutating func number() throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            let byte = try byte()
            if shift == 63 && byte > 1 { throw WireError() }
            value |= UInt64(byte & 127) << shift
            if byte < 128 { return value }
        }
        throw WireError()
    }
    /// A number of at most `limit`.
    mutating func number(upTo limit: Int) throws -> Int {
        guard let value = Int(exactly: try number()), value <= limit else { throw WireError() }
        return value
    }
    mutating func fixed64() throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 8) { value |= UInt64(try byte()) << shift }
        return value
    }
    mutating func raw(_ count: Int) throws -> [UInt8] {
        guard count >= 0, count <= end - at else { throw WireError() }
        at += count
        return Array(bytes[(at - count)..<at])
    }
    mutating func string(upTo limit: Int) throws -> [UInt8] { try raw(number(upTo: limit)) }
    mutating func node() throws -> NodeID {
        guard end - at >= 32 else { throw WireError() }
        at += 32
        return NodeID(Bytes32(of: bytes, at: at - 32))
    }
    /// UTF-8; broken bytes are repaired.
    mutating func text(upTo limit: Int) throws -> String {
        let count = try number(upTo: limit)
        guard count <= end - at else { throw WireError() }
        at += count
        return String(decoding: bytes[(at - count)..<at], as: UTF8.self)
    }
    mutating func address() throws -> NodeAddress {
        let ip = try string(upTo: 16)
        guard let port = UInt16(exactly: try number()), let address = NodeAddress(ip: ip, port: port) else { throw WireError() }
        return address
    }
}
