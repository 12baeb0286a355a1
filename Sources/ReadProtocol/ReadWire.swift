/// Appends numbers to a frame, big-endian.
struct ReadWriter {
    /// The first four bytes are the body's length, written at last.
    private(set) var bytes: [UInt8] = [0, 0, 0, 0]

    mutating func put8(_ value: UInt8) { bytes.append(value) }
    mutating func put16(_ value: UInt16) { put(value, 2) }
    mutating func put32(_ value: UInt32) { put(value, 4) }
    mutating func put64(_ value: UInt64) { put(value, 8) }

    private mutating func put(_ value: some FixedWidthInteger & UnsignedInteger, _ count: Int) {
        for shift in stride(from: 8 * (count - 1), through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }

    mutating func put(_ other: some Collection<UInt8>) { bytes.append(contentsOf: other) }

    /// Two bytes of length, then the text; cut after `limit` bytes, where a character ends.
    mutating func put(_ text: String, limit: Int) {
        var kept = text
        while kept.utf8.count > limit { kept.unicodeScalars.removeLast() }
        put16(UInt16(truncatingIfNeeded: kept.utf8.count))
        put(kept.utf8)
    }

    /// The frame with its length in front.
    consuming func frame() -> [UInt8] {
        let count = UInt32(truncatingIfNeeded: bytes.count - 4)
        for i in 0..<4 { bytes[i] = UInt8(truncatingIfNeeded: count >> UInt32(24 - 8 * i)) }
        return bytes
    }
}

/// Takes numbers off the front of a frame's body; every read fails when too few bytes are left.
struct ReadReader {
    private var rest: ArraySlice<UInt8>

    init(_ body: ArraySlice<UInt8>) { rest = body }

    mutating func take8() throws(ReadViolation) -> UInt8 {
        guard let byte = rest.popFirst() else { throw ReadViolation("a frame ends too early") }
        return byte
    }
    mutating func take16() throws(ReadViolation) -> UInt16 { UInt16(truncatingIfNeeded: try take(2)) }
    mutating func take32() throws(ReadViolation) -> UInt32 { UInt32(truncatingIfNeeded: try take(4)) }
    mutating func take64() throws(ReadViolation) -> UInt64 { try take(8) }

    private mutating func take(_ count: Int) throws(ReadViolation) -> UInt64 {
        var value: UInt64 = 0
        for _ in 0..<count { value = value << 8 | UInt64(try take8()) }
        return value
    }

    mutating func takeBool() throws(ReadViolation) -> Bool {
        switch try take8() {
        case 0: return false
        case 1: return true
        default: throw ReadViolation("a flag that is neither set nor not")
        }
    }

    mutating func takeBytes(_ count: Int) throws(ReadViolation) -> ArraySlice<UInt8> {
        guard count >= 0, count <= rest.count else { throw ReadViolation("a frame ends too early") }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }

    mutating func takeText(limit: Int) throws(ReadViolation) -> String {
        let count = Int(try take16())
        guard count <= limit else { throw ReadViolation("a text of \(count) bytes") }
        guard let text = String(validating: try takeBytes(count), as: UTF8.self), !text.utf8.contains(0) else {
            throw ReadViolation("a text that is none")
        }
        return text
    }

    func end() throws(ReadViolation) {
        guard rest.isEmpty else { throw ReadViolation("a frame is longer than its content") }
    }
}
