import ChunkModel
import Testing

@testable import UpstreamStores

/// A reply in a form that can be compared.
indirect enum PlainReply: Equatable {
    case simple(String)
    case error(String)
    case integer(Int64)
    case bulk([UInt8])
    case null
    case array([PlainReply])

    init(_ reply: RESPReply) {
        switch reply {
        case .simple(let text): self = .simple(String(decoding: text, as: UTF8.self))
        case .error(let text): self = .error(String(decoding: text, as: UTF8.self))
        case .integer(let number): self = .integer(number)
        case .bulk(let buffer): self = .bulk(buffer.withBytes { Array($0) })
        case .null: self = .null
        case .array(let replies): self = .array(replies.map { PlainReply($0) })
        }
    }
}

@Suite struct RESPParserTests {
    let pool = ChunkBufferPool(keep: 0)

    /// Feeds `bytes` in pieces of `step`.
    private func replies(
        _ bytes: [UInt8], step: Int = .max, limit: Int = 1_000, parser: inout RESPParser
    ) throws(RESPFault) -> [PlainReply] {
        var found: [PlainReply] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(step))
            rest = rest.dropFirst(step)
            var position = 0
            while position < piece.count {
                let result = piece.withUnsafeBytes { bytes in
                    Result { () throws(RESPFault) in
                        try parser.parse(UnsafeRawBufferPointer(rebasing: bytes[position...]), limit: limit, pool: pool)
                    }
                }
                let (used, reply) = try result.get()
                position += used
                if let reply { found.append(PlainReply(reply)) } else { #expect(position == piece.count) }
            }
        }
        return found
    }

    private func replies(_ text: String, step: Int = .max, limit: Int = 1_000) throws(RESPFault) -> [PlainReply] {
        var parser = RESPParser()
        return try replies(Array(text.utf8), step: step, limit: limit, parser: &parser)
    }

    private func fault(_ text: String, limit: Int = 1_000) -> RESPFault? {
        do throws(RESPFault) {
            _ = try replies(text, limit: limit)
            return nil
        } catch {
            return error
        }
    }

    @Test func allKindsOfRepliesHoweverTheyAreCut() throws {
        let text =
            "+OK\r\n-ERR no\r\n:-12\r\n$5\r\nab\r\nc\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n$-1\r\n+y\r\n+\r\n"
        let expected: [PlainReply] = [
            .simple("OK"), .error("ERR no"), .integer(-12), .bulk(Array("ab\r\nc".utf8)), .bulk([]), .null, .null, .array([]),
            .array([.integer(1), .array([.bulk(Array("x".utf8)), .null]), .simple("y")]), .simple(""),
        ]
        for step in [1, 2, 3, 7, 1_000] { #expect(try replies(text, step: step) == expected, "pieces of \(step)") }
    }

    @Test(arguments: [
        "HTTP/1.1 200 OK\r\n", "\r\n", "_\r\n", "%1\r\n", "$\r\n", "$-2\r\n", "$+1\r\n", "$1a\r\n", "$99999999999999999999\r\n", "*-2\r\n",
        ":9223372036854775808\r\n", ":1.5\r\n", "+OK\n", "+O\rK\r\n", "$1\r\nab\r\n", "$1\r\na\n\n", "*1\r\n?\r\n", ":\r\n", ":-\r\n",
    ])
    func whatIsNoReplyIsAnError(text: String) { #expect(fault(text) != nil) }

    @Test func declaredLengthsAreBoundedBeforeAnythingIsAllocated() {
        #expect(fault("$1001\r\n") == .tooLong(allowed: 1_000))
        #expect(fault("$9223372036854775807\r\n") == .tooLong(allowed: 1_000))
        // All values of one reply share the bound.
        #expect(fault("*2\r\n$600\r\n" + String(repeating: "x", count: 600) + "\r\n$401\r\n") == .tooLong(allowed: 1_000))
        #expect(fault("*9223372036854775807\r\n") == .tooManyElements)
        #expect(fault("*1025\r\n") == .tooManyElements)
        #expect(fault("*1000\r\n*25\r\n") == .tooManyElements)
        #expect(fault("*1000\r\n*24\r\n") == nil)
        #expect(fault("*1\r\n*1\r\n*1\r\n*1\r\n") == nil)
        #expect(fault("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n") == .tooDeep)
    }

    @Test func aLineThatNeverEndsIsCut() throws {
        var parser = RESPParser()
        let endless = [UInt8](repeating: UInt8(ascii: "+"), count: RESPParser.maxLineBytes - 1)
        #expect(try replies(endless, step: 100, parser: &parser).isEmpty)
        #expect(throws: RESPFault.lineTooLong) { try replies([65], parser: &parser) }
        #expect(fault("-" + String(repeating: "x", count: RESPParser.maxLineBytes - 3) + "\r\n") == nil)
        #expect(fault("-" + String(repeating: "x", count: RESPParser.maxLineBytes - 2) + "\r\n") == .lineTooLong)
    }

    @Test func theBoundsAreThoseOfOneReply() throws {
        let list = "*1000\r\n" + String(repeating: ":1\r\n", count: 1_000)
        #expect(try replies(list + list).count == 2)
        let value = "$1000\r\n" + String(repeating: "x", count: 1_000) + "\r\n"
        #expect(try replies(value + value + value).count == 3)
    }

    /// Whatever comes, the parser ends in replies, an error or a wish for more, and does not trap.
    @Test(arguments: 0..<50) func noiseDoesNoHarm(seed: UInt64) {
        var random = SeededGenerator(state: seed)
        let alphabet = Array("+-:$*0123456789\r\n\r\nab".utf8)
        for _ in 0..<200 {
            let bytes = (0..<Int.random(in: 1...60, using: &random)).map { _ in alphabet.randomElement(using: &random)! }
            var parser = RESPParser()
            _ = try? replies(bytes, step: Int.random(in: 1...9, using: &random), limit: 64, parser: &parser)
        }
    }

    @Test func requestsAreArraysOfBulkStrings() {
        let id = ChunkID(hex: String(repeating: "61", count: 16))!
        #expect(String(decoding: RESPRequest.get(id).head, as: UTF8.self) == "*2\r\n$3\r\nGET\r\n$16\r\naaaaaaaaaaaaaaaa\r\n")
        let buffer = ChunkBuffer(copying: [1, 2, 3])
        let chunk = Chunk(verifying: buffer, as: buffer.withBytes { ChunkID(ofStored: $0, length: .legacy) })!
        let set = RESPRequest.set(chunk)
        #expect(Array(set.head.prefix(13)) == Array("*3\r\n$3\r\nSET\r\n".utf8) && set.head.suffix(4) == Array("$3\r\n".utf8)[...])
        #expect(set.payload === buffer && set.byteCount == set.head.count + 5)
        let select = String(decoding: RESPRequest.select(namespace: "n", password: "p").head, as: UTF8.self)
        #expect(select == "*3\r\n$6\r\nSELECT\r\n$1\r\nn\r\n$1\r\np\r\n")
    }
}
