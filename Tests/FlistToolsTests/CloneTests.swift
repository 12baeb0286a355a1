import BlockCodec
import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import Foundation
import Testing

@Suite struct CloneTests {
    private func packed(_ coding: BlockCoding = .rfs, tags: [FlistTag] = []) async throws -> (Scratch, FlistFile) {
        let scratch = try Scratch()
        try makeFiles(scratch.sub("tree"), count: 40)
        var options = PackOptions(
            directory: scratch.sub("tree"), output: scratch.sub("a.fl"), stores: [try PackStore(argument: scratch.sub("store"))])
        options.session.coding = coding
        options.session.tags = tags
        let chosen = options
        _ = try await BlockingThreads(count: 1).run { try FlistPacker.pack(chosen) }
        return (scratch, try FlistFile(path: scratch.sub("a.fl")))
    }

    @Test(arguments: [false, true])
    func clonesCopyWhatIsLacking(remote: Bool) async throws {
        let (scratch, flist) = try await packed()
        let far = RemoteStore()
        let source = DirStoreSource(routes: flist.routes)
        let stores = [
            try PackStore(argument: "00-7f=" + scratch.sub("low")),
            remote
                ? PackStore(range: 0x80...0xff, url: "zdb://:secret@far", sink: far)
                : try PackStore(argument: "80-ff=" + scratch.sub("high")),
        ]
        let first = try await FlistCloner.clone(flist, from: source, to: stores)
        #expect(first.problems == [] && first.copied == first.chunks && first.present == 0 && first.bytes > 1_000_000)
        let again = try await FlistCloner.clone(flist, from: source, to: stores)
        #expect(again.copied == 0 && again.present == first.chunks)

        let routes = stores.map { Route(range: ChunkRange(firstBytes: $0.range), url: PackStore.withoutPassword($0.url)) }
        #expect(try FlistCloner.write(flist, to: scratch.sub("b.fl"), routes: routes) == [])
        let copy = try FlistFile(path: scratch.sub("b.fl"))
        #expect(copy.routes == routes)
        let (old, new) = (try FlistSummary(flist), try FlistSummary(copy))
        #expect(old.entries == new.entries && old.bytes == new.bytes && old.uniqueChunks == new.uniqueChunks)
        guard !remote else { return }
        let blocks = BlockReader(DirStoreSource(routes: copy.routes))
        let before = try await FlistManifest.lines(flist, blocks: { try await blocks.plainBlock($0) })
        let after = try await FlistManifest.lines(copy, blocks: { try await blocks.plainBlock($0) })
        #expect(before.lines == after.lines && after.problems == [])
    }

    @Test func aMissingChunkIsNamedWithItsFile() async throws {
        let (scratch, flist) = try await packed()
        let ref = try flist.blocks(of: try flist.resolve(Array("dir-1/file-20".utf8)))[0]
        try FileManager.default.removeItem(atPath: scratch.sub("store/\(ref.id.hex.prefix(2))/\(ref.id.hex)"))
        let broken = try flist.blocks(of: try flist.resolve(Array("dir-1/file-21".utf8)))[0]
        let place = scratch.sub("store/\(broken.id.hex.prefix(2))/\(broken.id.hex)")
        try content(300, seed: 3).write(to: URL(fileURLWithPath: place))
        let cloned = try await FlistCloner.clone(
            flist, from: DirStoreSource(routes: flist.routes), to: [try PackStore(argument: scratch.sub("other"))])
        #expect(cloned.problemCount == 2 && cloned.copied == cloned.chunks - 2)
        #expect(cloned.problems.contains { $0.contains(ref.id.hex) && $0.contains("missing") && $0.contains("/dir-1/file-20") })
        #expect(cloned.problems.contains { $0.contains(broken.id.hex) && $0.contains("/dir-1/file-21") })
        let report = try await FlistVerifier.verify(flist, source: DirStoreSource(routes: flist.routes))
        #expect(report.missing == [ref.id] && report.bad.map(\.id) == [broken.id])
        #expect(report.files == [ref.id: "/dir-1/file-20", broken.id: "/dir-1/file-21"])
    }

    @Test func zstdIsRecordedAndReadBack() async throws {
        let (scratch, flist) = try await packed(.zstd)
        #expect(flist.tags.contains(FlistTag(key: FlistTag.codec, value: "zstd")) && flist.blockCoding == .zstd)
        let report = try await FlistExtractor.extract(
            flist, ExtractOptions(destination: scratch.sub("out")), from: BlockReader(DirStoreSource(routes: flist.routes)))
        #expect(report.problems == [] && report.files == 40)
        #expect(
            FileManager.default.contents(atPath: scratch.sub("out/dir-0/file-9"))
                == FileManager.default.contents(atPath: scratch.sub("tree/dir-0/file-9")))
        // The codec goes with a copy.
        _ = try FlistCloner.write(flist, to: scratch.sub("b.fl"), routes: [])
        #expect(try FlistFile(path: scratch.sub("b.fl")).blockCoding == .zstd)
    }

    @Test func anUnknownCodecIsListedButNotRead() async throws {
        let (scratch, flist) = try await packed(tags: [FlistTag(key: FlistTag.codec, value: "brotli-9")])
        #expect(flist.blockCoding == nil)
        #expect(try flist.children(of: flist.root().ino).entries.count == 3)
        let report = try await FlistExtractor.extract(
            flist, ExtractOptions(destination: scratch.sub("out")), from: BlockReader(DirStoreSource(routes: flist.routes)))
        #expect(report.files == 0 && report.problemCount == 40 && report.problems[0].contains("brotli-9"))
        let error = await #expect(throws: FlistError.self) { try await FlistVerifier.verify(flist, source: RemoteStore()) }
        #expect(error?.message.contains("brotli-9") == true)
    }
}
