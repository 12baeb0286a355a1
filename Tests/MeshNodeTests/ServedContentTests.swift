import ChunkModel
import ControlModel
import Foundation
import Glibc
import Testing

@testable import MeshNode

extension MeshTests {
    /// Files of flists as the HTTP API gets them: from decoded files, and past them.
    @Suite(.serialized) struct ServedContent {
        static let block = ChunkLimits.blockBytes

        private func file(_ node: TestNode, _ flist: String, _ name: String) async throws -> any ServedFile {
            try await node.node.file(flist, path: Array(("/" + name).utf8))
        }

        /// A range as `FileBody` gets it, and whether any of it came from a file.
        private func bytes(_ file: any ServedFile, _ range: Range<Int>) async throws -> (bytes: [UInt8], fromFile: Bool) {
            var (out, fromFile, offset) = ([UInt8](), false, UInt64(range.lowerBound))
            while offset < UInt64(range.upperBound) {
                let left = range.upperBound - Int(offset)
                let step = offset..<offset + UInt64(min(left, Self.block - Int(offset) % Self.block))
                if try await file.store(step), let stored = file.stored(at: offset, atMost: left) {
                    var piece = [UInt8](repeating: 0, count: stored.count)
                    #expect(
                        piece.withUnsafeMutableBytes {
                            pread(stored.descriptor, $0.baseAddress, $0.count, off_t(stored.range.lowerBound))
                        } == stored.count)
                    out += piece
                    fromFile = true
                } else {
                    let piece = try await file.read(at: offset, atMost: left)
                    out += piece.buffer.withBytes { Array($0[piece.range]) }
                }
                offset = UInt64(range.lowerBound + out.count)
            }
            return (out, fromFile)
        }

        /// With room, without, and with less than a file needs: the same bytes; large files are kept decoded by their first reader.
        @Test func whatIsReadOnceLiesDecoded() async throws {
            let mesh = try TestMesh()
            let sizes = [1, 5000, 70_000, Self.block, 3 * Self.block + 77]
            let packed = try mesh.pack("image.fl", sizes: sizes)
            for decodedMax in [nil, 0, UInt64(Self.block)] as [UInt64?] {
                let node = try await mesh.addNode { $0.cache.decodedMax = decodedMax }
                for (index, size) in sizes.enumerated() {
                    let served = try await file(node, packed.url, "f\(index)")
                    let content = packed.files["f\(index)"]!
                    #expect(served.stored(at: 0, atMost: size) == nil && served.stored(at: UInt64(size), atMost: 1) == nil)
                    for range in [0..<size, size / 2..<size, 0..<1, max(0, size - Self.block - 5)..<size] {
                        let got = try await bytes(served, range)
                        #expect(got.bytes == Array(content[range]), "\(range) of \(size), decodedMax \(decodedMax ?? 1)")
                        if decodedMax == nil { #expect(got.fromFile == (size > 64 * 1024)) }
                        if decodedMax == 0 { #expect(!got.fromFile) }
                    }
                    if decodedMax == nil, size > 64 * 1024 {
                        let stored = try #require(served.stored(at: 5, atMost: size))
                        #expect(stored.range == 5..<UInt64(size))
                        // The next request has the same without waiting.
                        let kept = try #require(node.node.kept("image.fl", path: Array("/f\(index)".utf8)))
                        #expect(kept.stored(at: 5, atMost: 10)?.range == 5..<15)
                    }
                }
                #expect(node.node.decodedFiles.statistics.bytes <= Int64(decodedMax ?? 1 << 40))
                await node.stop()
            }
        }

        /// The cache lets go of a file that is being sent: what was begun is read to its end, and its room counts until then.
        @Test func whatIsBeingSentOutlivesTheCache() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [2 * Self.block])
                let served = try await file(node, packed.url, "f0")
                #expect(try await served.store(0..<UInt64(2 * Self.block)))
                var stored = served.stored(at: 0, atMost: 2 * Self.block)
                #expect(stored?.count == 2 * Self.block)
                var configuration = node.configuration
                configuration.cache.decodedMax = 0
                _ = try await node.node.reload(configuration)
                try await eventually("the file is let go of") { node.node.decodedFiles.statistics.files == 0 }
                #expect(served.stored(at: 0, atMost: 1) == nil)
                #expect(node.node.decodedFiles.statistics.bytes == Int64(2 * Self.block))
                var content = [UInt8](repeating: 0, count: 2 * Self.block)
                let descriptor = try #require(stored).descriptor
                #expect(content.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) } == content.count)
                #expect(content == packed.files["f0"]!)
                stored = nil
                #expect(node.node.decodedFiles.statistics.bytes == 0)
                let again = try await bytes(served, 0..<2 * Self.block)
                #expect(again.bytes == content && !again.fromFile)
            }
        }

        /// Content that has left the memory is not sent before it was read again.
        @Test func whatLeftTheMemoryIsReadFirst() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [2 * Self.block])
                let served = try await file(node, packed.url, "f0")
                #expect(try await served.store(0..<UInt64(2 * Self.block)))
                let stored = try #require(served.stored(at: 0, atMost: 2 * Self.block))
                // A file system in memory lets nothing go.
                #expect(fsync(stored.descriptor) == 0)
                posix_fadvise(stored.descriptor, 0, 0, Int32(POSIX_FADV_DONTNEED))
                if let left = served.stored(at: 0, atMost: 2 * Self.block) { #expect(left.range.lowerBound == 0) }
                #expect(try await served.store(0..<UInt64(2 * Self.block)))
                #expect(served.stored(at: 0, atMost: 2 * Self.block)?.count == 2 * Self.block)
                #expect(try await bytes(served, 0..<2 * Self.block).bytes == packed.files["f0"]!)
            }
        }
    }
}
