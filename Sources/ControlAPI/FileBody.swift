internal import ChunkModel
internal import ControlModel
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import Synchronization

/// Ranges of a file on their way to a client, with lines between them.
///
/// What lies decoded in a file goes to the socket from there, what is decoded in memory as it lies there; what is neither is asked for some
/// blocks ahead, within the ranges only: nothing travels that was not asked for.
struct FileBody: Sendable {
    /// Content that is asked for at a time: a block, so that none is asked for twice.
    static let stepBytes = UInt64(ChunkLimits.blockBytes)
    /// Steps that one answer has under way or at hand.
    static let ahead = 4
    /// Steps beyond the first of all answers together: what slow clients keep in memory. When these are taken, answers go on step by step.
    static let maxAhead = 64
    /// Bytes handed to the connection at once, which takes more when these are on their way.
    static let writeBytes = 1 << 20
    /// The same for bytes in a file. Should their pages leave the memory before a slow client takes them, its thread waits for the disk
    /// while as much is read again.
    static let storedBytes = 4 << 20

    private struct Part: Sendable {
        let head: String
        let range: Range<UInt64>
    }
    private typealias Piece = (buffer: ChunkBuffer, range: Range<Int>)

    private struct Step {
        let range: Range<UInt64>
        let isAhead: Bool
        /// `nil`: to be taken from the file.
        let task: Task<[Piece]?, any Error>
    }
    private static let stepsAhead = Atomic(0)

    private let file: any ServedFile
    private var parts: [Part] = []
    /// Bytes in all.
    private(set) var count: UInt64 = 0

    init(_ file: any ServedFile) { self.file = file }

    init(_ file: any ServedFile, _ range: Range<UInt64>) {
        self.init(file)
        add("", then: range)
    }

    mutating func add(_ head: String, then range: Range<UInt64>) {
        parts.append(Part(head: head, range: range))
        count += UInt64(head.utf8.count) + (range.upperBound - range.lowerBound)
    }

    /// All of it, where it is one range that lies in a file and in memory.
    var stored: StoredBytes? {
        guard parts.count == 1, parts[0].head.isEmpty, count <= Self.storedBytes,
            let stored = file.stored(at: parts[0].range.lowerBound, atMost: Int(count)), stored.count == Int(count)
        else { return nil }
        return stored
    }

    var body: ResponseBody {
        // What is here in one piece goes out with the head in one go.
        if let stored { return ResponseBody(byteBuffer: StoredParts.buffer(stored)) }
        if parts.count == 1, parts[0].head.isEmpty, count <= Self.stepBytes,
            let piece = file.ready(at: parts[0].range.lowerBound, atMost: Int(count)), piece.range.count == Int(count)
        {
            return ResponseBody(byteBuffer: SharedBytes.buffer(piece.buffer, piece.range))
        }
        return ResponseBody(contentLength: Int(clamping: count)) { writer in try await write(to: &writer) }
    }

    /// The same for an answer of one write at most: what it needs is waited for before its head is sent, and all of it goes out at once.
    ///
    /// - Throws: what the file cannot give, while another answer can still be sent.
    func complete() async throws -> ResponseBody {
        guard parts.count == 1, count <= UInt64(Self.writeBytes) else { return body }
        if let stored { return ResponseBody(byteBuffer: StoredParts.buffer(stored)) }
        if parts[0].head.isEmpty, try await file.store(parts[0].range), let stored {
            return ResponseBody(byteBuffer: StoredParts.buffer(stored))
        }
        let gathered = Gathered()
        var writer: any ResponseBodyWriter = gathered
        try await write(to: &writer)
        let buffers = gathered.buffers.withLock { $0 }
        return ResponseBody(byteBuffer: buffers.count == 1 ? buffers[0] : StoredParts.buffer(.buffers(buffers)))
    }

    @concurrent private func write(to writer: inout any ResponseBodyWriter) async throws {
        var outgoing = Outgoing()
        for part in parts {
            if !part.head.isEmpty { try await outgoing.add(ByteBuffer(string: part.head), to: &writer) }
            try await send(part.range, by: &outgoing, to: &writer)
        }
        try await outgoing.flush(to: &writer)
        try await writer.finish(nil)
    }

    /// Keeps what is written.
    private final class Gathered: ResponseBodyWriter, Sendable {
        let buffers = Mutex<[ByteBuffer]>([])
        func write(_ buffer: ByteBuffer) async throws { buffers.withLock { $0.append(buffer) } }
        func finish(_ trailingHeaders: HTTPFields?) async throws {}
    }

    /// Gathers small pieces into one write.
    private struct Outgoing {
        private var buffers: [ByteBuffer] = []
        private var bytes = 0

        @concurrent mutating func add(_ buffer: ByteBuffer, to writer: inout any ResponseBodyWriter) async throws {
            try await add(buffer, bytes: buffer.readableBytes, to: &writer)
        }

        @concurrent mutating func add(_ stored: StoredBytes, to writer: inout any ResponseBodyWriter) async throws {
            try await add(StoredParts.buffer(stored), bytes: stored.count, to: &writer)
        }

        @concurrent private mutating func add(_ buffer: ByteBuffer, bytes count: Int, to writer: inout any ResponseBodyWriter) async throws
        {
            buffers.append(buffer)
            bytes += count
            if bytes >= FileBody.writeBytes { try await flush(to: &writer) }
        }

        @concurrent mutating func flush(to writer: inout any ResponseBodyWriter) async throws {
            guard !buffers.isEmpty else { return }
            let now = buffers
            (buffers, bytes) = ([], 0)
            if now.count == 1 { try await writer.write(now[0]) } else { try await writer.write(contentsOf: now) }
        }
    }

    @concurrent private func send(_ range: Range<UInt64>, by outgoing: inout Outgoing, to writer: inout any ResponseBodyWriter) async throws
    {
        var asked: [Step] = []
        defer { for step in asked { Self.end(step) } }
        var (offset, next) = (range.lowerBound, range.lowerBound)
        while offset < range.upperBound {
            if asked.isEmpty, let stored = file.stored(at: offset, atMost: Int(min(range.upperBound - offset, UInt64(Self.storedBytes)))) {
                try await outgoing.add(stored, to: &writer)
                offset += UInt64(stored.count)
                next = offset
                continue
            }
            if asked.isEmpty, let piece = file.ready(at: offset, atMost: Int(clamping: range.upperBound - offset)), !piece.range.isEmpty {
                try await outgoing.add(SharedBytes.buffer(piece.buffer, piece.range), to: &writer)
                offset += UInt64(piece.range.count)
                next = offset
                continue
            }
            // What is at hand goes out before anything is waited for.
            while asked.count < Self.ahead, next < range.upperBound, asked.isEmpty || Self.mayGoAhead() {
                let step = next..<min(range.upperBound, (next / Self.stepBytes + 1) * Self.stepBytes)
                asked.append(Step(range: step, isAhead: !asked.isEmpty, task: Task { [file] in try await Self.get(step, of: file) }))
                next = step.upperBound
            }
            try await outgoing.flush(to: &writer)
            let task = asked[0].task
            let pieces = try await withTaskCancellationHandler {
                try await task.value
            } onCancel: {
                task.cancel()
            }
            let step = asked[0].range
            offset = step.upperBound
            Self.end(asked.removeFirst())
            if let pieces {
                for piece in pieces { try await outgoing.add(SharedBytes.buffer(piece.buffer, piece.range), to: &writer) }
            } else {
                try await sendStored(step, by: &outgoing, to: &writer)
            }
        }
    }

    /// A range that was stored a moment ago; what has been let go of since is read.
    @concurrent private func sendStored(
        _ range: Range<UInt64>, by outgoing: inout Outgoing, to writer: inout any ResponseBodyWriter
    ) async throws {
        var offset = range.lowerBound
        while offset < range.upperBound {
            guard let stored = file.stored(at: offset, atMost: Int(clamping: range.upperBound - offset)) else {
                for piece in try await Self.pieces(of: file, offset..<range.upperBound) {
                    try await outgoing.add(SharedBytes.buffer(piece.buffer, piece.range), to: &writer)
                }
                return
            }
            try await outgoing.add(stored, to: &writer)
            offset += UInt64(stored.count)
        }
    }

    /// - Returns: `nil` when the file has the range stored now.
    private static func get(_ range: Range<UInt64>, of file: any ServedFile) async throws -> [Piece]? {
        try await file.store(range) ? nil : pieces(of: file, range)
    }

    private static func mayGoAhead() -> Bool {
        if stepsAhead.wrappingAdd(1, ordering: .relaxed).oldValue < maxAhead { return true }
        stepsAhead.wrappingSubtract(1, ordering: .relaxed)
        return false
    }

    private static func end(_ step: Step) {
        step.task.cancel()
        if step.isAhead { stepsAhead.wrappingSubtract(1, ordering: .relaxed) }
    }

    private static func pieces(of file: any ServedFile, _ range: Range<UInt64>) async throws -> [Piece] {
        var pieces: [Piece] = []
        var offset = range.lowerBound
        while offset < range.upperBound {
            let piece = try await file.read(at: offset, atMost: Int(clamping: range.upperBound - offset))
            // An empty piece would never end; the connection is cut rather than the content faked.
            guard !piece.range.isEmpty else { throw NodeError.unavailable("the file ended early") }
            pieces.append(piece)
            offset += UInt64(piece.range.count)
        }
        return pieces
    }
}
