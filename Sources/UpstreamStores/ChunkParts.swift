internal import ChunkModel

/// How a chunk of a whole block is asked for in parts, over several connections at once.
///
/// On one connection a distant server begins with a few segments and doubles them with each round trip: at 40 ms it needs four of those until
/// it fills a line of 20 Mbit/s, and that is half as long again as the chunk itself. Several connections begin with so many times as
/// much. A value without I/O.
enum ChunkParts {
    /// Six times ten segments (the initial window of RFC 6928) are nearly what such a line holds, and fit the buffer in front of it.
    static let count = 6
    /// Of every part but the last, which is all that remains.
    static let bytes = ChunkLimits.blockBytes / count

    static func start(of part: Int) -> Int { part * bytes }

    /// The line of the request.
    static func header(of part: Int) -> String {
        part == count - 1 ? "Range: bytes=\(start(of: part))-" : "Range: bytes=\(start(of: part))-\(start(of: part + 1) - 1)"
    }

    /// `bytes FIRST-LAST/TOTAL` (RFC 9110 §14.4).
    struct ContentRange: Equatable {
        var first: Int
        var last: Int
        var total: Int

        init?(_ text: String) {
            guard text.lowercased().hasPrefix("bytes ") else { return nil }
            let parts = text.dropFirst(6).split(whereSeparator: { $0 == "-" || $0 == "/" }).map { Int($0) }
            guard parts.count == 3, let first = parts[0], let last = parts[1], let total = parts[2], first <= last, last < total else {
                return nil
            }
            (self.first, self.last, self.total) = (first, last, total)
        }
    }

    /// What a server said about one part, and how much it sent.
    struct Answer {
        var status: Int
        var range: ContentRange?
        var received: Int
    }

    /// The chunk's length, when the answers are the parts that were asked for and nothing is missing; `nil` otherwise.
    static func length(_ answers: [Answer]) -> Int? {
        guard answers.count == count, let total = answers[0].range?.total else { return nil }
        for (part, answer) in answers.enumerated() {
            let first = start(of: part)
            // Behind the end of a chunk that is shorter than thought.
            if first >= total, answer.status == 416 { continue }
            let end = part == count - 1 ? total : min(total, start(of: part + 1))
            guard answer.status == 206, let range = answer.range, range.first == first, range.last == end - 1, range.total == total,
                answer.received == end - first
            else { return nil }
        }
        return total
    }
}

/// Takes one part into its place in the buffer that all of them share.
final class PartBody: TransferSink, @unchecked Sendable {
    private let buffer: ChunkBuffer
    private let start: Int
    private let limit: Int
    private(set) var received = 0

    /// - Parameter buffer: of `ChunkBufferPool.commonBytes` at least. Every part writes to its own place in it.
    init(_ part: Int, of buffer: ChunkBuffer) {
        self.buffer = buffer
        start = ChunkParts.start(of: part)
        limit = part == ChunkParts.count - 1 ? buffer.capacity - start : ChunkParts.bytes
    }

    func take(_ bytes: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure) {
        guard bytes.count <= limit - received else {
            throw TransferFailure(kind: .tooLong, retryable: false, line: "sends more than the part that was asked for")
        }
        guard let source = bytes.baseAddress else { return }
        (buffer.base + start + received).copyMemory(from: source, byteCount: bytes.count)
        received += bytes.count
    }
}
