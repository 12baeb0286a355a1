import ChunkModel
import ChunkStore
import Foundation
import Glibc
import Testing

@Suite struct FlistFilesTests {
    let scratch = try! Scratch()
    private var directory: String { scratch.path + "/flists" }

    private func bytes(_ count: Int) -> [UInt8] {
        let words = (0..<UInt32((count + 3) / 4)).map { $0 &* 0x9E37_79B9 }
        return words.withUnsafeBytes { Array($0.prefix(count)) }
    }
    private func digest(of bytes: [UInt8]) -> FlistDigest { FlistDigest(Blake2b.hash256(bytes)) }
    private func leftovers() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: directory + "/tmp") }

    @Test(arguments: [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
    func flistIsFoundByItsDigest(size: Int) throws {
        let files = try FlistFiles(directory: directory)
        let bytes = bytes(size)
        let source = scratch.path + "/in.fl"
        try Data(bytes).write(to: URL(fileURLWithPath: source))
        let copied = try files.add(copying: source)
        #expect(copied.digest == digest(of: bytes) && copied.bytes == Int64(size))
        #expect(try files.add(bytes, expecting: copied.digest) == copied)
        #expect(try Data(contentsOf: URL(fileURLWithPath: try #require(files.path(of: copied.digest)))) == Data(bytes))
        #expect(try FlistFiles(directory: directory).list() == [copied])
        #expect(try files.remove(copied.digest))
        #expect(try !files.remove(copied.digest))
        #expect(files.path(of: copied.digest) == nil)
        #expect(try leftovers().isEmpty)
    }

    @Test func wrongOrUnreadableSourcesAreRefused() throws {
        let files = try FlistFiles(directory: directory)
        #expect(throws: ChunkStoreError.wrongDigest(expected: digest(of: [1]), found: digest(of: [2]))) {
            try files.add([2], expecting: digest(of: [1]))
        }
        #expect(throws: ChunkStoreError.self) { try files.add(copying: scratch.path) }
        #expect(throws: ChunkStoreError.failed(action: "open", path: "/nowhere", code: ENOENT)) { try files.add(copying: "/nowhere") }
        let sparse = scratch.path + "/huge.fl"
        try Data().write(to: URL(fileURLWithPath: sparse))
        truncate(sparse, Int(FlistFiles.maxBytes) + 1)
        #expect(throws: ChunkStoreError.tooLarge(what: "flist " + sparse, limit: FlistFiles.maxBytes)) { try files.add(copying: sparse) }
        #expect(try files.list().isEmpty && leftovers().isEmpty)
    }

    @Test(arguments: [0, 1, 999, 1000, 1001, 64_123])
    func piecesInAnyOrderMakeTheFlist(size: Int) throws {
        let files = try FlistFiles(directory: directory)
        let bytes = bytes(size)
        let writer = try files.assemble(digest(of: bytes), byteCount: Int64(size))
        var generator = Seeded(state: UInt64(size))
        for start in stride(from: 0, to: size, by: 1000).shuffled(using: &generator) {
            #expect(throws: ChunkStoreError.self) { _ = try writer.finish() }
            try bytes[start..<min(size, start + 1000)].withUnsafeBytes { try writer.write($0, at: Int64(start)) }
        }
        #expect(writer.missing().isEmpty && writer.missingBytes == 0)
        let entry = try writer.finish()
        #expect(try Data(contentsOf: URL(fileURLWithPath: entry.path)) == Data(bytes))
        #expect(try files.list() == [entry])
    }

    @Test func signaturesLieBesideAndGoWithTheirFlist() throws {
        let files = try FlistFiles(directory: directory)
        let entry = try files.add(bytes(1000))
        #expect(files.signature(of: entry.digest) == nil)
        for count in [1, FlistFiles.maxSignatureBytes] {
            try files.setSignature(bytes(count), of: entry.digest)
            #expect(files.signature(of: entry.digest) == bytes(count))
        }
        #expect(throws: ChunkStoreError.self) { try files.setSignature(bytes(FlistFiles.maxSignatureBytes + 1), of: entry.digest) }
        #expect(try files.list() == [entry] && leftovers().isEmpty)
        // What grew on the disk is not read.
        let path = "\(directory)/\(entry.digest.hex).minisig"
        try Data(bytes(FlistFiles.maxSignatureBytes + 1)).write(to: URL(fileURLWithPath: path))
        #expect(files.signature(of: entry.digest) == nil)
        try files.remove(entry.digest)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func missingRangesAreNamed() throws {
        let files = try FlistFiles(directory: directory)
        let writer = try files.assemble(digest(of: []), byteCount: 100)
        for (offset, count) in [(10, 10), (30, 5), (35, 5), (15, 10), (99, 1)] {
            try bytes(count).withUnsafeBytes { try writer.write($0, at: Int64(offset)) }
        }
        #expect(writer.missing() == [0..<10, 25..<30, 40..<99])
        #expect(writer.missing(limit: 1) == [0..<10])
        #expect(writer.missingBytes == 74)
    }

    @Test func hostilePiecesAreRefused() throws {
        let files = try FlistFiles(directory: directory)
        #expect(throws: ChunkStoreError.self) { _ = try files.assemble(digest(of: []), byteCount: FlistFiles.maxBytes + 1) }
        #expect(throws: ChunkStoreError.self) { _ = try files.assemble(digest(of: []), byteCount: -1) }
        do {
            let writer = try files.assemble(digest(of: [1, 2, 3]), byteCount: 3)
            for offset in [Int64(1), 3, -1, .max, .min] {
                #expect(throws: ChunkStoreError.self) {
                    try [UInt8](repeating: 0, count: 3).withUnsafeBytes { try writer.write($0, at: offset) }
                }
            }
            try [9, 9, 9].withUnsafeBytes { try writer.write(UnsafeRawBufferPointer(rebasing: $0[..<3]), at: 0) }
            #expect(throws: ChunkStoreError.self) { _ = try writer.finish() }
            #expect(writer.missing() == [0..<3])
            #expect(try leftovers().count == 1)
        }
        #expect(try leftovers().isEmpty && files.list().isEmpty)
    }
}

@Suite struct StateDirectoryTests {
    let scratch = try! Scratch()

    @Test func smallFilesAreReplacedAsAWhole() throws {
        let directory = try StateDirectory(scratch.path + "/a/b")
        #expect(try directory.read("x", maxBytes: 10) == nil)
        try directory.writeAtomically("x", [1, 2, 3])
        try directory.writeAtomically("x", [4])
        try directory.writeAtomically("y", [UInt8](), mode: 0o644)
        #expect(try directory.read("x", maxBytes: 1) == [4])
        #expect(try directory.read("y", maxBytes: 0) == [])
        #expect(try directory.names() == ["x", "y"])
        var status = stat()
        stat(scratch.path + "/a/b/x", &status)
        #expect(status.st_mode & 0o777 == 0o600)
        stat(scratch.path + "/a/b/y", &status)
        #expect(status.st_mode & 0o777 == 0o644)
        #expect(try directory.remove("x") && !directory.remove("x"))
    }

    @Test func boundsAndNamesAreChecked() throws {
        let directory = try StateDirectory(scratch.path)
        try directory.writeAtomically("x", [1, 2])
        #expect(throws: ChunkStoreError.tooLarge(what: scratch.path + "/x", limit: 1)) { _ = try directory.read("x", maxBytes: 1) }
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b", String(repeating: "n", count: 256)] {
            #expect(throws: ChunkStoreError.badName(name)) { try directory.writeAtomically(name, [1]) }
        }
    }
}
