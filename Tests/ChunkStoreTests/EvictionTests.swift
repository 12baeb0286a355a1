import ChunkModel
import ChunkStore
import Foundation
import Glibc
import Testing

@Suite struct EvictionTests {
    let scratch = try! Scratch()
    let pool = ChunkBufferPool()

    @Test func leastRecentlyUsedGoesFirst() throws {
        let told = Told()
        let store = try scratch.open(maxBytes: 10_000, onRemoved: { told.add($0) })
        let chunks = (0..<10).map { chunk($0) }
        for chunk in chunks[..<9] { #expect(store.insert(chunk) == .stored) }
        #expect(try store.open(chunks[0].id) != nil)
        _ = store.insert(chunks[9])
        _ = store.insert(chunk(10))
        #expect(store.contains(chunks[0].id))
        #expect(told.ids.first == chunks[1].id)
        #expect(store.statistics.bytes <= 10_000)
        #expect(store.statistics.evicted == told.ids.count)
    }

    @Test func quotaIsNeverExceeded() throws {
        let store = try scratch.open(maxBytes: 5000)
        for n in 0..<100 {
            #expect(store.insert(chunk(n, size: 700 + n)) == .stored)
            #expect(store.statistics.bytes <= 5000)
        }
        #expect(store.insert(chunk(1000, size: 5001)) == .notStored(.quotaPinned))
        #expect(store.statistics.notStored == 1)
    }

    @Test func hooksHearOfAChunkAfterTheIndexAndBeforeItsFile() throws {
        final class Holder: @unchecked Sendable { var store: ChunkStore? }
        let holder = Holder()
        let told = Told()
        let scratch = scratch
        holder.store = try scratch.open(
            onRemoved: { [weak holder] ids in
                told.add(ids)
                for id in ids {
                    #expect(holder?.store?.contains(id) == false)
                    #expect(FileManager.default.fileExists(atPath: scratch.file(of: id)))
                }
            })
        let chunk = chunk(1)
        _ = holder.store?.insert(chunk)
        holder.store?.remove([chunk.id])
        #expect(told.ids == [chunk.id])
        #expect(!FileManager.default.fileExists(atPath: scratch.file(of: chunk.id)))
    }

    @Test func pinnedChunksStay() throws {
        let store = try scratch.open(maxBytes: 5000)
        let pinned = (0..<3).map { chunk($0) }
        try store.pin(owner: digest(1), pinned.map(\.id))
        for chunk in pinned { #expect(store.insert(chunk) == .stored) }
        for n in 10..<30 { #expect(store.insert(chunk(n)) == .stored) }
        #expect(pinned.allSatisfy { store.contains($0.id) })
        #expect(store.statistics.pinnedBytes == 3000)
        try store.pin(owner: digest(2), (40..<42).map { chunk($0).id } + [pinned[0].id])
        for n in 40..<42 { #expect(store.insert(chunk(n)) == .stored) }
        #expect(store.insert(chunk(50)) == .notStored(.quotaPinned))
        try store.unpin(owner: digest(1))
        #expect(store.insert(chunk(50)) == .stored)
        #expect(store.contains(pinned[0].id), "still pinned by another flist")
    }

    @Test func pinningAnewReplacesTheOwnersPins() throws {
        let store = try scratch.open()
        let chunks = (0..<3).map { chunk($0) }
        for chunk in chunks { _ = store.insert(chunk) }
        try store.pin(owner: digest(1), [chunks[0].id, chunks[1].id])
        try store.pin(owner: digest(1), [chunks[1].id, chunks[2].id, chunks[2].id])
        #expect(chunks.map { store.isPinned($0.id) } == [false, true, true])
        #expect(store.statistics.pinnedBytes == 2000)
        #expect(try store.forget(owner: digest(1), chunks.map(\.id)) == RemovalReport(chunks: 3, bytes: 3000))
        #expect(store.statistics.pinnedBytes == 0 && store.statistics.chunks == 0)
    }

    @Test func forgetSparesWhatAnotherFlistPins() throws {
        let store = try scratch.open()
        let chunks = (0..<3).map { chunk($0) }
        for chunk in chunks { _ = store.insert(chunk) }
        try store.pin(owner: digest(1), chunks.map(\.id))
        try store.pin(owner: digest(2), [chunks[1].id])
        #expect(try store.forget(owner: digest(1), chunks.map(\.id)).chunks == 2)
        #expect(store.allIDs == [chunks[1].id])
    }

    @Test func lastCopiesOfTheSiteGoOnlyWhenNothingElseIsLeft() throws {
        let last = Set((0..<4).map { chunk($0).id })
        let store = try scratch.open(maxBytes: 8000, custody: { id, _ in last.contains(id) ? .last : .redundant })
        for n in 0..<8 { _ = store.insert(chunk(n)) }
        for n in 10..<20 { #expect(store.insert(chunk(n)) == .stored) }
        #expect(last.allSatisfy(store.contains))
        try store.pin(owner: digest(1), (20..<26).map { chunk($0).id })
        for n in 20..<26 { #expect(store.insert(chunk(n)) == .stored) }
        #expect(last.filter(store.contains).count <= 2)
        #expect((20..<26).allSatisfy { store.contains(chunk($0).id) })
    }

    @Test func gcGoesDownToTheLowMark() throws {
        let store = try scratch.open(maxBytes: 100_000)
        for n in 0..<94 { _ = store.insert(chunk(n)) }
        #expect(store.gc() == RemovalReport(chunks: 9, bytes: 9000))
        #expect(store.gc() == RemovalReport())
        store.setLimits(maxBytes: 10_000, minFree: .bytes(0))
        _ = store.gc()
        #expect(store.statistics.bytes <= 8500)
    }

    @Test func theCachesThreadEvictsAboveTheHighMark() async throws {
        let store = try scratch.open(maxBytes: 100_000)
        for n in 0..<97 { _ = store.insert(chunk(n)) }
        let deadline = ContinuousClock.now + .seconds(5)
        while store.statistics.bytes > 95_000 || store.statistics.evicted < 10, .now < deadline {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(store.statistics.bytes <= 95_000)
        #expect(store.statistics.evicted >= 10)
    }

    @Test func belowTheFloorNothingIsKept() throws {
        let store = try scratch.open(minFree: .percent(100))
        #expect(store.insert(chunk(1)) == .notStored(.diskFull))
        store.setLimits(maxBytes: 1 << 30, minFree: .bytes(0))
        #expect(store.insert(chunk(1)) == .stored)
        store.setLimits(maxBytes: 1 << 30, minFree: .bytes(.max))
        #expect(store.insert(chunk(2)) == .notStored(.diskFull))
        #expect(store.statistics.chunks == 0, "the cache gives way to others")
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounts a small tmpfs"))
    func fullDiskIsSurvived() throws {
        let mountPoint = scratch.path + "/cache"
        mkdir(mountPoint, 0o755)
        try #require(mount("tmpfs", mountPoint, "tmpfs", 0, "size=1m") == 0)
        defer { umount2(mountPoint, Int32(MNT_DETACH)) }
        do {
            let store = try scratch.open()
            try store.pin(owner: digest(1), (100..<140).map { chunk($0, size: 40_000).id })
            for n in 0..<60 { #expect(store.insert(chunk(n, size: 40_000)) == .stored) }
            #expect(store.statistics.evicted > 0)
            var outcome = InsertOutcome.stored
            for n in 100..<140 where outcome == .stored { outcome = store.insert(chunk(n, size: 40_000)) }
            #expect(outcome == .notStored(.diskFull))
            #expect(try store.verify().bad.isEmpty)
            #expect(scratch.names(in: "tmp").isEmpty)
            store.close()
        }
        let again = try scratch.open()
        #expect(try again.verify().bad.isEmpty)
        #expect(again.statistics.chunks > 0)
        again.close()
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounts a tmpfs read-only"))
    func readOnlyDirectoryGivesOneClearLine() throws {
        let mountPoint = scratch.path + "/cache"
        mkdir(mountPoint, 0o755)
        try #require(mount("tmpfs", mountPoint, "tmpfs", 0, "size=4m") == 0)
        defer { umount2(mountPoint, Int32(MNT_DETACH)) }
        do {
            let store = try scratch.open()
            _ = store.insert(chunk(1))
            store.close()
        }
        let remount = UInt(MS_REMOUNT | MS_RDONLY)
        try #require(mount("tmpfs", mountPoint, "tmpfs", remount, nil) == 0)
        #expect(throws: ChunkStoreError.unusable(directory: mountPoint, code: EROFS)) { _ = try scratch.open() }
    }
}
