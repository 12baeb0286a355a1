import ChunkModel
import Testing

@testable import ReadProtocol

@Suite struct ReadFrameTests {
    static let digest = FlistDigest(Blake2b.hash256([1, 2]))
    static let requests: [ReadRequest] = [
        .hello(version: 1), .open(id: 1, name: "image.fl"), .open(id: 2, name: "ä\u{2028}"),
        .read(id: 3, flist: 4, ino: .max, offset: .max, length: 1 << 20, priority: .foreground),
        .read(id: 0, flist: 0, ino: -1, offset: 0, length: 0, priority: .prefetch), .whole(id: 5, flist: 1, ino: 7, fill: true),
        .prefetch(id: 6, flist: 2), .cancel(id: .max), .close(flist: 9), .release(content: .max),
    ]
    static let answers: [ReadAnswer] = [
        .hello(version: 1, software: "chunkmesh 0.1"),
        .opened(id: 1, flist: 2, digest: digest, isLegacy: true, path: "/a/b.fl", tables: "/a/b.index"),
        .ready(id: 3, content: 4, start: 0, end: .max, isWhole: false, hasDescriptor: true),
        .ready(id: 3, content: 4, start: 5, end: 5, isWhole: true, hasDescriptor: false), .bytes(id: 1, count: 1 << 20),
        .partial(id: 2, readyBytes: 1, size: 2), .done(id: 8), .failed(id: 9, code: .unavailable, message: "no source answers"),
        .gone(content: 12),
    ]

    /// Frames come back as they were written, wherever the stream is cut.
    @Test(arguments: [1, 3, 7, 64, 4096]) func streamsOfAnyPiecesHoldTheSameFrames(piece: Int) throws {
        let bytes = Self.requests.flatMap(\.encoded)
        var frames = ReadFrames()
        var found: [ReadRequest] = []
        for start in stride(from: 0, to: bytes.count, by: piece) {
            frames.append(bytes[start..<min(bytes.count, start + piece)])
            while let body = try frames.next() { found.append(try ReadRequest(decoding: body)) }
        }
        #expect(found == Self.requests)
        #expect(frames.buffered == 0)
        for answer in Self.answers { #expect(try ReadAnswer(decoding: answer.encoded[4...]) == answer) }
    }

    @Test func everyCutFrameIsRefused() {
        for request in Self.requests {
            for count in 0..<(request.encoded.count - 4) {
                #expect(throws: ReadViolation.self) { try ReadRequest(decoding: request.encoded[4..<(4 + count)]) }
            }
            #expect(throws: ReadViolation.self) { try ReadRequest(decoding: request.encoded[4...] + [0]) }
        }
        for answer in Self.answers {
            for count in 0..<(answer.encoded.count - 4) {
                #expect(throws: ReadViolation.self) { try ReadAnswer(decoding: answer.encoded[4..<(4 + count)]) }
            }
        }
    }

    @Test func whatIsTooLongIsRefusedOrCut() throws {
        var frames = ReadFrames()
        frames.append([0, 1, 0, 0])
        #expect(throws: ReadViolation.self) { try frames.next() }
        var empty = ReadFrames()
        empty.append([0, 0, 0, 0])
        #expect(throws: ReadViolation.self) { try empty.next() }
        let read = ReadRequest.read(id: 1, flist: 1, ino: 1, offset: 0, length: UInt32(ReadLimits.maxReadBytes) + 1, priority: .foreground)
        #expect(throws: ReadViolation.self) { try ReadRequest(decoding: read.encoded[4...]) }
        let backwards = ReadAnswer.ready(id: 1, content: 1, start: 2, end: 1, isWhole: false, hasDescriptor: false)
        #expect(throws: ReadViolation.self) { try ReadAnswer(decoding: backwards.encoded[4...]) }
        // Cut where a character ends.
        let long = ReadAnswer.failed(id: 1, code: .busy, message: String(repeating: "ä", count: 2000))
        guard case .failed(_, _, let message) = try ReadAnswer(decoding: long.encoded[4...]) else { return #expect(Bool(false)) }
        #expect(message == String(repeating: "ä", count: ReadLimits.maxMessageBytes / 2))
        #expect(throws: ReadViolation.self) { try ReadRequest(decoding: [2, 0, 0, 0, 1, 0, 2, 0xc3, 0x28]) }
    }
}
