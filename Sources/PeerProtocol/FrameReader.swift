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

extension SessionCipher {
    /// The next frame of `reader`; `nil` when it has not come in whole.
    public mutating func open(_ reader: inout FrameReader) throws(ProtocolViolation) -> PeerFrame? { try reader.nextFrame(&self) }
}
