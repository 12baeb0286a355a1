import BlockCodec
import BlockingThreads
import CLinux
import ChunkModel
import Foundation
import Synchronization
import Testing

@testable import DecodedFiles

@Suite struct DecodedFilesTests {
    static let block = ChunkLimits.blockBytes

    @Test(arguments: [0, 1, block - 1, block, block + 1, 3 * block + 5]) func filledBlocksHoldTheContentAndNothingElseIsReady(size: Int)
        async throws
    {
        let fixture = try DecodedFixture()
        let (bytes, blocks) = try fixture.content(size, seed: UInt64(size))
        let file = try #require(fixture.files.file(size: UInt64(size), blocks: blocks))
        #expect(file.size == UInt64(size) && file.blockCount == blocks.count)
        #expect(file.isWhole == (size == 0))
        for index in blocks.indices.reversed() {
            #expect(file.ready(index..<index + 1) == nil)
            try await fixture.files.fill(file, index..<index + 1, priority: .foreground, from: fixture.source)
            let range = try #require(file.ready(index..<index + 1)).range
            #expect(
                try fixture.read(file, Int(range.lowerBound)..<Int(range.upperBound))
                    == Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
        }
        #expect(file.isWhole && file.readyBytes == UInt64(size))
        #expect(file.ready(0..<0)?.range == 0..<UInt64(size))
        #expect(file.blocks(offset: UInt64(size), length: 10).isEmpty)
        #expect(file.blocks(offset: 0, length: 1) == (size == 0 ? 0..<0 : 0..<1))
        #expect(fixture.files.statistics.decodedBlocks == UInt64(blocks.count))
    }

    /// Thirty-two readers of the same blocks: each block is decoded once, and files of several flists with the same content are one.
    @Test func whatManyWantIsDecodedOnce() async throws {
        let fixture = try DecodedFixture()
        let (_, blocks) = try fixture.content(6 * Self.block, seed: 1)
        fixture.source.state.withLock { $0.remote = Set(blocks[3...].map(\.id)) }
        let (files, source) = (fixture.files!, fixture.source)
        let file = try #require(files.file(size: UInt64(6 * Self.block), blocks: blocks))
        #expect(files.file(size: UInt64(6 * Self.block), blocks: blocks) === file)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<32 { group.addTask { try await files.fill(file, 0..<6, priority: .foreground, from: source) } }
            try await group.waitForAll()
        }
        let asked = source.state.withLock { $0.asked + $0.now }
        #expect(asked.count == 6 && Set(asked).count == 6)
        #expect(files.statistics.decodedBlocks == 6)
    }

    /// One that gives up does not take the chunk from the others; when all have given up, the fetch ends; and who comes then gets it.
    @Test func cancelledWaitersLeaveAlone() async throws {
        let fixture = try DecodedFixture()
        let (_, blocks) = try fixture.content(Self.block, seed: 2)
        let (files, source) = (fixture.files!, fixture.source)
        source.state.withLock { $0.remote = [blocks[0].id] }
        source.hold()
        let file = try #require(files.file(size: UInt64(Self.block), blocks: blocks))
        let first = Task { try await files.fill(file, 0..<1, priority: .readAhead, from: source) }
        try await eventually("the chunk is asked for") { source.state.withLock { $0.asked.count == 1 } }
        let second = Task { try await files.fill(file, 0..<1, priority: .foreground, from: source) }
        try await eventually("it is hastened") { source.state.withLock { $0.hastened == [blocks[0].id] } }
        first.cancel()
        await #expect(throws: CancellationError.self) { try await first.value }
        second.cancel()
        await #expect(throws: CancellationError.self) { try await second.value }
        let third = Task { try await files.fill(file, 0..<1, priority: .foreground, from: source) }
        try await eventually("it is asked for anew") { source.state.withLock { $0.asked.count == 2 } }
        source.letThrough()
        try await third.value
        #expect(source.state.withLock { $0.cancelled } == 1)
        #expect(file.isWhole)
    }

    @Test func aMissingChunkIsAnErrorForThisReadOnly() async throws {
        let fixture = try DecodedFixture()
        let (_, blocks) = try fixture.content(2 * Self.block, seed: 3)
        fixture.source.state.withLock { $0.missing = [blocks[1].id] }
        let file = try #require(fixture.files.file(size: UInt64(2 * Self.block), blocks: blocks))
        await #expect(throws: DecodedFileError.missing(blocks[1].id)) {
            try await fixture.files.fill(file, 0..<2, priority: .foreground, from: fixture.source)
        }
        try await fixture.files.fill(file, 0..<1, priority: .foreground, from: fixture.source)
        fixture.source.state.withLock { $0.missing = [] }
        try await fixture.files.fill(file, 0..<2, priority: .foreground, from: fixture.source)
        #expect(file.isWhole)
    }

    /// Blocks of odd lengths have no known places: they are handed over, and the content is not taken for a file again.
    @Test func unevenBlocksAreNotKept() async throws {
        let fixture = try DecodedFixture()
        let (_, blocks) = try fixture.content(Self.block + 10, seed: 4, lengths: [Self.block - 5, 15])
        let file = try #require(fixture.files.file(size: UInt64(Self.block + 10), blocks: blocks))
        await #expect(throws: DecodedFileError.uneven) {
            try await fixture.files.fill(file, 0..<1, priority: .foreground, from: fixture.source)
        }
        #expect(fixture.unstored.blocks.withLock { $0[blocks[0]] } == Self.block - 5)
        #expect(file.isUneven && file.ready(0..<1) == nil)
        #expect(fixture.files.file(size: UInt64(Self.block + 10), blocks: blocks) == nil)
        #expect(fixture.files.file(size: UInt64(3 * Self.block), blocks: blocks) == nil)
    }

    // MARK: Room

    @Test func theOldestGoAndWhatClientsHoldStaysReadable() async throws {
        let room = Int64(8 * Self.block)
        let fixture = try DecodedFixture(maxBytes: room)
        let files = fixture.files!
        func made(_ seed: UInt64) async throws -> (number: UInt64, bytes: [UInt8], blocks: [BlockRef]) {
            let (bytes, blocks) = try fixture.content(2 * Self.block, seed: seed)
            let file = try #require(files.file(size: UInt64(2 * Self.block), blocks: blocks))
            try await files.fill(file, 0..<2, priority: .foreground, from: fixture.source)
            return (file.number, bytes, blocks)
        }
        func isKept(_ made: (number: UInt64, bytes: [UInt8], blocks: [BlockRef])) -> Bool {
            files.file(size: UInt64(2 * Self.block), blocks: made.blocks)?.number == made.number
        }
        let (first, second, third, fourth) = (try await made(1), try await made(2), try await made(3), try await made(4))
        #expect(files.statistics.bytes == room && files.statistics.evictedFiles == 0)
        // A client holds the first, the second is used again.
        let told = Told()
        var held = files.file(size: UInt64(2 * Self.block), blocks: first.blocks)
        let descriptor = try files.descriptor(of: try #require(held))
        #expect(held?.hold(by: 7) { told.count.add(1, ordering: .relaxed) } == true)
        #expect(isKept(second))
        _ = try await made(5)
        #expect(files.statistics.bytes <= room && files.statistics.evictedFiles > 0)
        #expect(isKept(second) && held?.isGone == false && told.count.load(ordering: .relaxed) == 0)
        #expect(files.statistics.files < 5)
        // Nothing else is left: the one that is held goes too. Its client reads on, and its room is free when the client lets go.
        files.forget(try #require(held))
        #expect(told.count.load(ordering: .relaxed) == 1 && held?.isGone == true)
        let before = files.statistics.bytes
        var read = [UInt8](repeating: 0, count: 2 * Self.block)
        #expect(read.withUnsafeMutableBytes { pread(descriptor.fd, $0.baseAddress, $0.count, 0) } == 2 * Self.block)
        #expect(read == first.bytes)
        held?.release(by: 7)
        held = nil
        #expect(files.statistics.bytes == before - Int64(2 * Self.block))
        #expect(!isKept(first) && (isKept(third) || isKept(fourth) || isKept(second)))
    }

    /// A bound of two blocks: everything can still be read, and never more than the bound is taken.
    @Test func aTinyBoundHolds() async throws {
        let room = Int64(2 * Self.block)
        let fixture = try DecodedFixture(maxBytes: room)
        let files = fixture.files!
        let (bytes, blocks) = try fixture.content(7 * Self.block, seed: 9)
        var kept = 0
        for index in 0..<7 {
            let file = try #require(files.file(size: UInt64(bytes.count), blocks: blocks))
            do {
                try await files.fill(file, index..<index + 1, priority: .foreground, from: fixture.source)
                let range = index * Self.block..<(index + 1) * Self.block
                #expect(try fixture.read(file, range) == Array(bytes[range]))
                kept += 1
            } catch DecodedFileError.noRoom {
                #expect(fixture.unstored.blocks.withLock { $0[blocks[index]] } == Self.block)
            }
            #expect(files.statistics.bytes <= room)
        }
        #expect(kept >= 3)
    }

    @Test func offMeansOff() throws {
        let fixture = try DecodedFixture(maxBytes: 0)
        let (_, blocks) = try fixture.content(10, seed: 1)
        #expect(fixture.files.file(size: 10, blocks: blocks) == nil)
        fixture.files.setLimits(maxBytes: 1 << 20, floor: { _ in 0 })
        #expect(fixture.files.file(size: 10, blocks: blocks) != nil)
        // The floor of free space counts as well.
        fixture.files.setLimits(maxBytes: 1 << 20, floor: { $0 })
        #expect(!fixture.files.reserve(4096, for: try #require(fixture.files.file(size: 10, blocks: blocks))))
    }

    /// A disk of 1.2 MB, or one with room for no file more: what does not fit is handed over, nothing is said to be ready that is not, and room that
    /// comes back is used. (Root only: the file system is in memory, in a mount namespace of one thread.)
    @Test(.enabled(if: geteuid() == 0), arguments: ["size=1200k", "size=8m,nr_inodes=2"]) func aFullDiskIsNoError(options: String)
        async throws
    {
        let directory = NSTemporaryDirectory() + "decoded-\(UUID().uuidString)"
        let apart = BlockingThreads(count: 1)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let fixture = try DecodedFixture(directory: directory)
        let isMounted = await apart.run {
            // CLONE_NEWNS; MS_REC | MS_PRIVATE
            unshare(0x20000) == 0 && mount("none", "/", nil, 0x44000, nil) == 0 && mount("tmpfs", directory, "tmpfs", 0, options) == 0
        }
        guard isMounted else { return }
        try await fixture.open(on: apart)
        let files = fixture.files!
        var kept: [(file: DecodedFile, bytes: [UInt8])] = []
        for seed in 1...3 {
            let (bytes, blocks) = try fixture.content(Self.block, seed: UInt64(seed))
            guard let file = files.file(size: UInt64(Self.block), blocks: blocks) else { continue }
            // The client of each holds it: nothing is evicted for the next.
            #expect(file.hold(by: UInt64(seed)) {})
            do {
                try await files.fill(file, 0..<1, priority: .foreground, from: fixture.source)
                kept.append((file, bytes))
            } catch DecodedFileError.noRoom {
                #expect(fixture.unstored.blocks.withLock { $0[blocks[0]] } == Self.block)
                #expect(file.ready(0..<1) == nil)
            }
        }
        #expect((1...2).contains(kept.count))
        for (file, bytes) in kept where !file.isGone { #expect(try fixture.read(file, 0..<Self.block) == bytes) }
    }

    // MARK: Restart

    /// After an orderly stop what was ready is ready, and nothing else; the bytes are those that were written.
    @Test func anOrderlyStopKeepsWhatWasReady() async throws {
        let fixture = try DecodedFixture()
        let (bytes, blocks) = try fixture.content(3 * Self.block, seed: 5)
        let file = try #require(fixture.files.file(size: UInt64(bytes.count), blocks: blocks))
        try await fixture.files.fill(file, 1..<2, priority: .foreground, from: fixture.source)
        fixture.files.close()
        #expect(fixture.files.file(size: UInt64(bytes.count), blocks: blocks) == nil)
        try fixture.open()
        #expect(fixture.files.statistics.bytes == Int64(Self.block))
        let again = try #require(fixture.files.file(size: UInt64(bytes.count), blocks: blocks))
        #expect(again.ready(1..<2) != nil && again.ready(0..<1) == nil && again.ready(2..<3) == nil)
        #expect(try fixture.read(again, Self.block..<2 * Self.block) == Array(bytes[Self.block..<2 * Self.block]))
        try await fixture.files.fill(again, 0..<3, priority: .foreground, from: fixture.source)
        #expect(try fixture.read(again, 0..<bytes.count) == bytes)
        #expect(fixture.files.statistics.bytes == Int64(3 * Self.block))
    }

    /// Without an orderly stop no byte is believed, whatever stands in the files, and however old the list is that is found.
    @Test(arguments: [false, true]) func anUncleanStopDropsEverything(withOldList: Bool) async throws {
        let fixture = try DecodedFixture()
        let (bytes, blocks) = try fixture.content(2 * Self.block, seed: 6)
        let file = try #require(fixture.files.file(size: UInt64(bytes.count), blocks: blocks))
        try await fixture.files.fill(file, 0..<2, priority: .foreground, from: fixture.source)
        let path = fixture.directory + "/" + file.identity.name
        if withOldList {
            fixture.files.close()
            let list = try Data(contentsOf: URL(fileURLWithPath: fixture.directory + "/kept"))
            // Cut off in the middle of its writing.
            try list.dropLast(3).write(to: URL(fileURLWithPath: fixture.directory + "/kept"))
        }
        try Data(repeating: 0xff, count: bytes.count).write(to: URL(fileURLWithPath: path))
        try fixture.open()
        #expect(!FileManager.default.fileExists(atPath: path))
        #expect(fixture.files.statistics.bytes == 0)
        let again = try #require(fixture.files.file(size: UInt64(bytes.count), blocks: blocks))
        #expect(again.ready(0..<1) == nil)
        try await fixture.files.fill(again, 0..<2, priority: .foreground, from: fixture.source)
        #expect(try fixture.read(again, 0..<bytes.count) == bytes)
    }
}
