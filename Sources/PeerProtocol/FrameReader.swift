/// Cuts a stream into frames. Holds at most one incomplete frame and what the last read brought besides.
public struct FrameReader: Sendable {
    private var buffer: [UInt8] = []
    private var start = 0

    public init() {}

    public var buffered: Int { buffer.count - start }

    public mutating func append(_ bytes: some Collection<UInt8>) {
        if start == buffer.count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= 1 << 17)
            start = 0
        } else if start > 1 << 15 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// Raw bytes that came in behind the last frame, at most `count`.
    public mutating func take(upTo count: Int) -> ArraySlice<UInt8> {
        let end = start + max(0, min(count, buffered))
        defer { start = end }
        return buffer[start..<end]
    }

    /// The next frame; `nil` when it has not come in whole.
    public mutating func nextFrame(_ cipher: inout SessionCipher) throws(ProtocolViolation) -> PeerFrame? {
        guard buffered >= 2 else { return nil }
        let header = [buffer[start], buffer[start + 1]]
        let length = Int(header[0]) << 8 | Int(header[1])
        guard length > SessionCrypto.tagBytes else { throw ProtocolViolation("a frame of \(length) bytes") }
        guard buffered >= 2 + length else { return nil }
        let sealed = Array(buffer[(start + 2)..<(start + 2 + length)])
        start += 2 + length
        guard let plain = cipher.open(sealed, header: header) else { throw ProtocolViolation("a frame that the session key does not open") }
        return try PeerFrame(decoding: plain)
    }
}

extension FrameReader {
    /// The next sealed piece of bulk bytes, opened into `target`; `nil` when it has not come in whole.
    mutating func nextBulk(
        _ cipher: inout SessionCipher, into target: UnsafeMutableRawBufferPointer
    ) throws(ProtocolViolation) -> Int? {
        guard buffered >= 2 else { return nil }
        let header = [buffer[start], buffer[start + 1]]
        let length = Int(header[0]) << 8 | Int(header[1])
        let plain = length - SessionCrypto.tagBytes
        guard plain > 0, plain <= ProtocolLimits.sealedPieceBytes, plain <= target.count, let room = target.baseAddress else {
            throw ProtocolViolation("a piece of \(length) bytes in bulk data")
        }
        guard buffered >= 2 + length else { return nil }
        let from = start + 2
        let isOpen = unsafe buffer.withUnsafeBytes { bytes in
            unsafe cipher.openBulk(UnsafeRawBufferPointer(rebasing: bytes[from..<(from + length)]), header: header, to: room)
        }
        guard isOpen else { throw ProtocolViolation("a piece of bulk data that the session key does not open") }
        start = from + length
        return plain
    }
}

extension SessionCipher {
    /// The next frame of `reader`; `nil` when it has not come in whole.
    public mutating func open(_ reader: inout FrameReader) throws(ProtocolViolation) -> PeerFrame? { try reader.nextFrame(&self) }
}
