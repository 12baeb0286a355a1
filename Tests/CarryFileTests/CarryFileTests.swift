import CarryFile
import ChunkModel
import Testing

/// What a file says, gathered from events.
struct Read: Equatable {
    var head: CarryHead?
    var notes: [CarryNote] = []
    var flists: [FlistDigest: [UInt8]] = [:]
    var chunks: [ChunkID: [UInt8]] = [:]
    var counts: CarryCounts?

    /// - Parameter piece: bytes given at a time.
    init(_ file: [UInt8], piece: Int) throws {
        var reader = CarryReader()
        var (flist, chunk, body): (FlistDigest?, ChunkID?, [UInt8]) = (nil, nil, [])
        for start in stride(from: 0, to: file.count, by: piece) {
            try file[start..<min(start + piece, file.count)].withUnsafeBytes { bytes in
                try reader.take(bytes) { event in
                    switch event {
                    case .head(let told): head = told
                    case .note(let note): notes.append(note)
                    case .flist(let digest, _): (flist, chunk, body) = (digest, nil, [])
                    case .chunk(let id, _): (flist, chunk, body) = (nil, id, [])
                    case .body(let range): body += bytes[range]
                    case .bodyEnded:
                        if let flist { flists[flist] = body }
                        if let chunk { chunks[chunk] = body }
                    case .ended(let told): counts = told
                    }
                }
            }
        }
        #expect(reader.hasEnded == (counts != nil))
    }
}

@Suite struct CarryFileTests {
    static let flist = [UInt8](repeating: 9, count: 3000)
    static let bodies: [[UInt8]] = [[], [1], [UInt8](repeating: 2, count: 5000)]

    static func file(note: CarryNote? = nil, end: Bool = true, extra: [UInt8] = []) -> [UInt8] {
        let digest = FlistDigest(Blake2b.hash256(flist))
        var out = CarryWriter.head(CarryHead(flists: 1, chunks: 3, bytes: 9999))
        out += CarryWriter.note(note ?? CarryNote(digest: digest, name: "image.fl", url: "https://hub/image.fl", signature: [7, 7]))
        out += CarryWriter.flistHead(digest, length: UInt64(flist.count)) + flist
        for body in bodies {
            let id = body.withUnsafeBytes { ChunkID(ofStored: $0) }
            out += CarryWriter.chunkHead(id, length: body.count) + body
        }
        out += extra
        return end ? out + CarryWriter.end(CarryCounts(flists: 1, chunks: 3, chunkBytes: 5001, absent: 4)) : out
    }

    @Test(arguments: [1, 7, 44, 4096, 1 << 20]) func whatIsWrittenIsRead(piece: Int) throws {
        let read = try Read(Self.file(), piece: piece)
        #expect(read.head == CarryHead(flists: 1, chunks: 3, bytes: 9999))
        #expect(read.notes.map(\.name) == ["image.fl"] && read.notes.map(\.url) == ["https://hub/image.fl"])
        #expect(read.notes[0].signature == [7, 7])
        #expect(Array(read.flists.values) == [Self.flist])
        #expect(Set(read.chunks.values) == Set(Self.bodies))
        #expect(read.counts == CarryCounts(flists: 1, chunks: 3, chunkBytes: 5001, absent: 4))
    }

    @Test func everyCutLeavesWhatIsWhole() throws {
        let whole = try Read(Self.file(), piece: 100)
        let file = Self.file()
        for count in stride(from: 0, to: file.count, by: 13) {
            let read = try Read(Array(file[..<count]), piece: 100)
            #expect(read.counts == nil)
            for (id, body) in read.chunks { #expect(whole.chunks[id] == body) }
        }
    }

    @Test func laterKindsArePassedOver() throws {
        let extra: [UInt8] = [64, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 0, 3] + [UInt8](repeating: 0, count: 32) + [1, 2, 3]
        #expect(try Read(Self.file(extra: extra), piece: 50) == Read(Self.file(), piece: 50))
    }

    @Test func whatMakesNoSenseIsRefusedInOneLine() throws {
        func refusal(_ file: [UInt8]) -> String? {
            do {
                _ = try Read(file, piece: 64)
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(refusal(Array("SQLite format 3".utf8) + [UInt8](repeating: 0, count: 100)) == "this is no file of chunkmesh cache export")
        var other = Self.file()
        other[19] = 2
        #expect(refusal(other)?.contains("version 2") == true)
        #expect(refusal(Self.file() + [0])?.contains("after the end") == true)
        let miscounted = Self.file(end: false) + CarryWriter.end(CarryCounts(flists: 1, chunks: 2, chunkBytes: 5001))
        #expect(refusal(miscounted)?.contains("counts") == true)
        let id = try #require(ChunkID([UInt8](repeating: 1, count: 32)))
        let large = Self.file(end: false) + CarryWriter.chunkHead(id, length: ChunkLimits.maxStoredBytes + 1)
        #expect(refusal(large)?.contains("too large") == true)
        let unknown: [UInt8] = [9, 0, 0, 0] + [UInt8](repeating: 0, count: 40)
        #expect(refusal(Self.file(end: false) + unknown)?.contains("unknown kind 9") == true)
        for text in [refusal(large), refusal(unknown)] { #expect(text?.contains("\n") != true) }
    }

    @Test func longTextsAreCut() throws {
        let digest = FlistDigest(Blake2b.hash256(Self.flist))
        let note = CarryNote(
            digest: digest, name: String(repeating: "ä", count: 4000), url: "http://" + String(repeating: "x", count: 20_000), signature: []
        )
        let read = try Read(Self.file(note: note), piece: 300)
        #expect(read.notes[0].name.utf8.count == 1024 && read.notes[0].url == nil)
    }
}
