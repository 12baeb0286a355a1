internal import ChunkModel

/// Reads RESP2 replies from bytes as they arrive, however they are cut. A value without I/O.
///
/// Memory: a line of at most `maxLineBytes`, at most `maxElements` elements, and bulk strings of together at most the limit that the
/// caller names; a declared length is checked before anything is allocated for it. After an error the parser must not be used again.
struct RESPParser: Sendable {
    /// Bytes of a line, the first one and CR LF included; longer ones are an error.
    static let maxLineBytes = 4_096
    /// Lists within lists.
    static let maxDepth = 4
    /// Elements of all lists of one reply together.
    static let maxElements = 1_024
    /// Bulk strings up to this get memory of their own size, longer ones a chunk's buffer.
    static let smallBytes = 16 * 1024

    private enum State: Sendable {
        /// In a line; becomes `bulk` after a bulk string's length.
        case line([UInt8])
        /// In a bulk string of which so many bytes are missing; becomes `ending`.
        case bulk(ChunkBuffer, missing: Int)
        /// Behind a bulk string: CR (when not seen) and LF.
        case ending(ChunkBuffer, sawReturn: Bool)
    }

    private struct List: Sendable {
        var missing: Int
        var elements: [RESPReply] = []
    }

    private var state = State.line([])
    private var lists: [List] = []
    private var elements = 0
    private var bulkBytes = 0
    /// Bytes of bulk strings received so far, all replies together.
    private(set) var receivedBulkBytes = 0

    /// Whether a reply has begun and not ended.
    var isWithinReply: Bool {
        if case .line(let line) = state { return !line.isEmpty || !lists.isEmpty }
        return true
    }

    /// Takes bytes up to the end of one reply.
    ///
    /// - Parameters:
    ///   - limit: bytes that the bulk strings of this reply may have together.
    ///   - pool: where long bulk strings get their memory.
    /// - Returns: how many bytes were used, and the reply once it is complete; without one, all bytes were used.
    mutating func parse(
        _ input: UnsafeRawBufferPointer, limit: Int, pool: ChunkBufferPool
    ) throws(RESPFault) -> (used: Int, reply: RESPReply?) {
        var position = 0
        while position < input.count {
            let rest = UnsafeRawBufferPointer(rebasing: input[position...])
            let (used, finished) = try step(rest, limit: limit, pool: pool)
            position += used
            if let finished, let reply = complete(finished) {
                (elements, bulkBytes) = (0, 0)
                return (position, reply)
            }
        }
        return (position, nil)
    }

    /// One line, one run of bulk bytes, or the end of a bulk string; uses at least one byte of `rest`.
    private mutating func step(
        _ rest: UnsafeRawBufferPointer, limit: Int, pool: ChunkBufferPool
    ) throws(RESPFault) -> (used: Int, finished: RESPReply?) {
        switch state {
        case .line(var line):
            state = .line([])
            if line.isEmpty, let first = rest.first, !Self.kinds.contains(first) { throw .unknownKind(first) }
            let window = rest.prefix(Self.maxLineBytes - line.count)
            guard let end = window.firstIndex(of: UInt8(ascii: "\n")) else {
                guard rest.count < Self.maxLineBytes - line.count else { throw .lineTooLong }
                line.append(contentsOf: rest)
                state = .line(line)
                return (rest.count, nil)
            }
            line.append(contentsOf: rest[..<end])
            return (end + 1, try ended(line, limit: limit, pool: pool))
        case .bulk(let buffer, let missing):
            let count = min(missing, rest.count)
            if let source = rest.baseAddress {
                (buffer.base + buffer.count).copyMemory(from: source, byteCount: count)
                buffer.count += count
            }
            receivedBulkBytes &+= count
            state = count == missing ? .ending(buffer, sawReturn: false) : .bulk(buffer, missing: missing - count)
            return (count, nil)
        case .ending(let buffer, let sawReturn):
            guard rest.first == UInt8(ascii: sawReturn ? "\n" : "\r") else { throw .badEnding }
            state = sawReturn ? .line([]) : .ending(buffer, sawReturn: true)
            return (1, sawReturn ? .bulk(buffer) : nil)
        }
    }

    private static let kinds = Array("+-:$*".utf8)

    /// - Parameter line: without LF.
    /// - Returns: the reply that the line is; `nil` when more belongs to it.
    private mutating func ended(_ line: [UInt8], limit: Int, pool: ChunkBufferPool) throws(RESPFault) -> RESPReply? {
        guard line.count >= 2, line.last == UInt8(ascii: "\r") else { throw .badEnding }
        let content = line[1..<(line.count - 1)]
        guard !content.contains(UInt8(ascii: "\r")) else { throw .badEnding }
        switch line[0] {
        case UInt8(ascii: "+"): return .simple(Array(content))
        case UInt8(ascii: "-"): return .error(Array(content))
        case UInt8(ascii: ":"): return .integer(try Self.number(content))
        case UInt8(ascii: "$"):
            guard let count = try Self.length(content) else { return .null }
            guard count <= limit - bulkBytes else { throw .tooLong(allowed: limit) }
            bulkBytes += count
            let buffer = count <= Self.smallBytes ? ChunkBuffer(capacity: count) : pool.take(capacity: count)
            state = count == 0 ? .ending(buffer, sawReturn: false) : .bulk(buffer, missing: count)
            return nil
        default:
            guard let count = try Self.length(content) else { return .null }
            guard count <= Self.maxElements - elements else { throw .tooManyElements }
            guard lists.count < Self.maxDepth else { throw .tooDeep }
            guard count > 0 else { return .array([]) }
            elements += count
            lists.append(List(missing: count))
            return nil
        }
    }

    /// Puts `reply` into the list that it is an element of.
    ///
    /// - Returns: the outermost reply when it is complete by that.
    private mutating func complete(_ reply: RESPReply) -> RESPReply? {
        var reply = reply
        while var list = lists.popLast() {
            list.elements.append(reply)
            list.missing -= 1
            guard list.missing == 0 else {
                lists.append(list)
                return nil
            }
            reply = .array(list.elements)
        }
        return reply
    }

    /// `nil` for -1.
    private static func length(_ digits: ArraySlice<UInt8>) throws(RESPFault) -> Int? {
        let number = try number(digits)
        if number == -1 { return nil }
        guard number >= 0, let count = Int(exactly: number) else { throw .badNumber }
        return count
    }

    private static func number(_ digits: ArraySlice<UInt8>) throws(RESPFault) -> Int64 {
        let isNegative = digits.first == UInt8(ascii: "-")
        let figures = isNegative ? digits.dropFirst() : digits
        guard !figures.isEmpty, figures.count <= 19 else { throw .badNumber }
        var value: Int64 = 0
        for figure in figures {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(figure) else { throw .badNumber }
            let (shifted, over) = value.multipliedReportingOverflow(by: 10)
            let (sum, beyond) = shifted.addingReportingOverflow(Int64(figure - UInt8(ascii: "0")))
            guard !over, !beyond else { throw .badNumber }
            value = sum
        }
        return isNegative ? -value : value
    }
}
