import ChunkModel
import Flist
@testable import FlistTools
import Glibc

extension FuzzTarget {
    /// The JSON documents of a container image.
    static let imageDocument = FuzzTarget(
        name: "image-document", maxLength: 8 << 10,
        seeds: {
            [
                #"{"manifests":[{"digest":"sha256:00","annotations":{"a":"b"},"platform":{"os":"linux","architecture":"arm64"}}]}"#,
                #"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l.tar"]}]"#, "[[[[1,-2e9,true,null,\"\\u00e9\\ud83d\\ude00\"]]]]",
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            guard let document = JSONText(bytes) else { return }
            for value in (document["manifests"] ?? document).array ?? [] {
                _ = ImagePlatform(value["platform"] ?? document)
                guard let digest = value["digest"]?.string.flatMap({ ImageDigest($0) }) else { continue }
                fuzzCheck(!digest.blobPath.contains(".."), "a digest that leads elsewhere")
            }
        })

    /// The layer of an image: its members put into a tree, contents encoded, the flist written and read.
    static let imageLayer = FuzzTarget(
        name: "image-layer", maxLength: 16 << 10, maxMegabytes: 768, maxSeconds: 10,
        seeds: {
            let members = [("a/f", "x"), ("a/.wh.g", ""), ("b/.wh..wh..opq", ""), ("./../up", "y"), ("a/f", "again")]
            return [
                LegacySeeds.tar("etc/passwd", Array("root".utf8)),
                members.flatMap { LegacySeeds.tar($0.0, Array($0.1.utf8)).dropLast(1024) } + [UInt8](repeating: 0, count: 1024),
            ]
        },
        run: { layer in
            let config = #"{"os":"linux","rootfs":{"type":"layers","diff_ids":["\#(ImageDigest.of(layer, .sha256))"]}}"#
            let manifest = #"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l.tar"]}]"#
            let archive = [("manifest.json", Array(manifest.utf8)), ("c.json", Array(config.utf8)), ("l.tar", layer)].flatMap {
                LegacySeeds.tar($0.0, $0.1).dropLast(1024)
            }
            ScratchFile.with(archive + [UInt8](repeating: 0, count: 1024), suffix: ".tar") { path in
                let output = path + ".fl"
                defer { unlink(output) }
                var session = PackSession.Options(output: output, stores: [PackStore(url: "dir:///nowhere", sink: Nowhere())])
                session.workers = 1
                var options = ImageOptions(image: path, session: session)
                (options.limits.entries, options.limits.bytes) = (1_000, 4 << 20)
                guard let report = try? ImageConverter.convert(options) else { return }
                guard let flist = try? FlistFile(path: output) else { return fuzzCheck(false, "the flist cannot be opened") }
                var walker = FlistWalker(flist, below: flist.root())
                var entries = 1
                while let item = try? walker.next() {
                    guard case .entry(let visit) = item else { return fuzzCheck(false, "an entry that is refused was written") }
                    fuzzCheck(visit.entry.name != Array("..".utf8), "a path that leads upwards")
                    entries += 1
                }
                fuzzCheck(entries == report.entries, "\(report.entries) entries were told, \(entries) are there")
            }
        })
}

/// Takes chunks and keeps none.
private struct Nowhere: BlockingChunkSink {
    let label = "nowhere"
    func containsNow(_ id: ChunkID) throws -> Bool { false }
    func storeNow(_ chunk: Chunk) throws {}
    func contains(_ id: ChunkID) async throws -> Bool { false }
    func store(_ chunk: Chunk) async throws {}
}
