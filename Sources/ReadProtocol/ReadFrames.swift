/// Cuts a stream into frames. Holds at most one incomplete frame and what the last append brought besides.
public struct ReadFrames: Sendable {
    private var buffer: [UInt8] = []
    private var start = 0

    public init() {}

    public var buffered: Int { buffer.count - start }

    public mutating func append(_ bytes: some Collection<UInt8>) {
        if start == buffer.count {
            buffer.removeAll(keepingCapacity: true)
            start = 0
        } else if start > 1 << 15 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// The body of the next frame; `nil` when it has not come in whole.
    ///
    /// - Throws: for an empty frame, or one longer than `ReadLimits.maxFrameBytes`.
    public mutating func next() throws(ReadViolation) -> ArraySlice<UInt8>? {
        guard buffered >= 4 else { return nil }
        var length = 0
        for i in 0..<4 { length = length << 8 | Int(buffer[start + i]) }
        guard length > 0, length <= ReadLimits.maxFrameBytes else { throw ReadViolation("a frame of \(length) bytes") }
        guard buffered >= 4 + length else { return nil }
        defer { start += 4 + length }
        return buffer[(start + 4)..<(start + 4 + length)]
    }

    /// Raw bytes behind the last frame, at most `count`.
    public mutating func take(upTo count: Int) -> ArraySlice<UInt8> {
        let end = start + max(0, min(count, buffered))
        defer { start = end }
        return buffer[start..<end]
    }
}
