/// Appends numbers to a frame, big-endian.
struct WireWriter {
    var bytes: [UInt8] = []

    mutating func put8(_ value: UInt8) { bytes.append(value) }
    mutating func put16(_ value: UInt16) {
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        bytes.append(UInt8(truncatingIfNeeded: value))
    }
    mutating func put32(_ value: UInt32) {
        put16(UInt16(truncatingIfNeeded: value >> 16))
        put16(UInt16(truncatingIfNeeded: value))
    }
    mutating func put64(_ value: UInt64) {
        put32(UInt32(truncatingIfNeeded: value >> 32))
        put32(UInt32(truncatingIfNeeded: value))
    }
    mutating func put(_ other: some Collection<UInt8>) { bytes.append(contentsOf: other) }
}

/// Takes numbers off the front of a frame; every read fails when too few bytes are left.
struct WireReader {
    private let bytes: [UInt8]
    private var at = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var left: Int { bytes.count - at }

    mutating func take8() throws(ProtocolViolation) -> UInt8 {
        guard at < bytes.count else { throw ProtocolViolation("a frame ends too early") }
        defer { at += 1 }
        return bytes[at]
    }
    mutating func take16() throws(ProtocolViolation) -> UInt16 { UInt16(try take8()) << 8 | UInt16(try take8()) }
    mutating func take32() throws(ProtocolViolation) -> UInt32 { UInt32(try take16()) << 16 | UInt32(try take16()) }
    mutating func take64() throws(ProtocolViolation) -> UInt64 { UInt64(try take32()) << 32 | UInt64(try take32()) }
    mutating func take(_ count: Int) throws(ProtocolViolation) -> ArraySlice<UInt8> {
        guard count >= 0, count <= left else { throw ProtocolViolation("a frame ends too early") }
        defer { at += count }
        return bytes[at..<(at + count)]
    }
    mutating func takeRest() -> [UInt8] {
        defer { at = bytes.count }
        return Array(bytes[at...])
    }
    func end() throws(ProtocolViolation) {
        guard left == 0 else { throw ProtocolViolation("a frame is longer than its content") }
    }
}
