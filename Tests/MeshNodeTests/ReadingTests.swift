import ChunkModel
import ChunkmeshRead
import ControlModel
import DecodedFiles
import Foundation
import ReadClient
import ReadProtocol
import Testing

@testable import MeshNode

extension MeshTests {
    /// Programs read through the daemon's read socket.
    @Suite(.serialized) struct Reading {
        static let block = ChunkLimits.blockBytes

        private func client(_ node: TestNode, deadline: Duration = .seconds(20)) throws -> ReadClient {
            try ReadClient(socket: ReadClient.socket(ofAPI: node.configuration.api.socket), deadline: deadline)
        }

        private func bytes(
            _ flist: RemoteFlist, _ path: String, _ offset: Int = 0, _ length: Int = 1 << 30
        ) async throws -> [UInt8] {
            let entry = try flist.file.resolve(Array(path.utf8))
            let count = max(0, min(length, Int(entry.size) - offset) + 5)
            let target = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
            defer { target.deallocate() }
            let read = try await flist.read(
                entry.ino, at: UInt64(offset), into: UnsafeMutableRawBufferPointer(rebasing: target[0..<min(count, length)]))
            return Array(target[0..<read])
        }

        /// Why it failed; `nil` when it did not.
        private func failure(_ body: () async throws -> Int) async -> ReadClientError.Code? {
            do {
                _ = try await body()
                return nil
            } catch {
                return (error as? ReadClientError)?.code
            }
        }

        @Test func everyRangeIsTheOriginalWithTheCacheAndWithoutIt() async throws {
            let mesh = try TestMesh()
            let sizes = [0, 1, 5000, 70_000, Self.block, 3 * Self.block + 77]
            let packed = try mesh.pack("image.fl", sizes: sizes)
            for decodedMax in [nil, 0, UInt64(Self.block)] as [UInt64?] {
                let node = try await mesh.addNode { $0.cache.decodedMax = decodedMax }
                let flist = try await client(node).open(packed.url)
                #expect(flist.digest == node.node.parts.flists.find(packed.url)?.record.digest ?? flist.digest)
                #expect(!flist.isLegacy)
                for (index, size) in sizes.enumerated() {
                    let content = packed.files["f\(index)"]!
                    for offset in Set([0, Self.block - 1, Self.block, size - 1, size + 9]) where offset >= 0 {
                        for length in [1, Self.block + 1] {
                            let expected = Array(content[min(offset, size)..<min(offset + length, size)])
                            let got = try await bytes(flist, "/f\(index)", offset, length)
                            #expect(
                                got == expected,
                                "size \(size), offset \(offset), length \(length): \(got.count) bytes, decodedMax \(decodedMax ?? 1)")
                        }
                    }
                    let again = try flist.readNow(
                        try flist.file.resolve(Array("/f\(index)".utf8)).ino, at: 0,
                        into: UnsafeMutableRawBufferPointer.allocate(byteCount: 10, alignment: 1))
                    #expect(again == min(10, size))
                }
                #expect(node.node.decodedFiles.statistics.bytes <= Int64(decodedMax ?? 1 << 40))
                await node.stop()
            }
        }

        @Test func errorsAreNamed() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [600_000])
                let client = try self.client(mesh.nodes[0])
                await #expect(throws: ReadClientError.self) { try await client.open("nothing.fl") }
                let flist = try await client.open(packed.url)
                var target = [UInt8](repeating: 0, count: 10)
                let room = target.withUnsafeMutableBytes { UnsafeMutableRawBufferPointer($0) }
                for (ino, code) in [(Int64(1), ReadClientError.Code.badRequest), (999, .notFound), (-5, .notFound)] {
                    #expect(await failure { try await flist.read(ino, at: 0, into: room) } == code, "inode \(ino)")
                }
                // A chunk that is nowhere.
                for chunk in packed.chunks {
                    try FileManager.default.removeItem(atPath: "\(mesh.hub.directory)/\(chunk.hex.prefix(2))/\(chunk.hex)")
                }
                let file = try flist.file.resolve(Array("/f0".utf8)).ino
                #expect(await failure { try await flist.read(file, at: 0, into: room) } == .notFound)
            }
        }

        /// Whole files: a descriptor of the decoded file, once it is complete; the daemon completes it when asked to.
        @Test func wholeFilesAreHandedOver() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [0, 300, 5 * Self.block + 1])
                let flist = try await client(mesh.nodes[0]).open(packed.url)
                for index in 0..<3 {
                    let entry = try flist.file.resolve(Array("/f\(index)".utf8))
                    var whole: RemoteContent?
                    try await eventually("f\(index) is whole") {
                        whole = try? await flist.whole(entry.ino, fill: true)
                        return whole != nil
                    }
                    let content = try #require(whole)
                    #expect(content.size == entry.size)
                    var read = [UInt8](repeating: 0, count: Int(entry.size) + 1)
                    let count = try read.withUnsafeMutableBytes { try content.read(at: 0, into: $0) }
                    #expect(Array(read.prefix(count)) == packed.files["f\(index)"]!)
                    // For reading only: nobody else's bytes can be changed.
                    #expect(fcntl(content.descriptor, F_GETFL) & O_ACCMODE == O_RDONLY)
                    #expect(try flist.wholeNow(entry.ino) != nil)
                }
            }
        }

        /// Thirty-two readers of one file through several clients: every block is decoded once, and nobody sees anything but the content.
        @Test func manyReadersShareOneDecoding() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [20 * Self.block])
                let content = packed.files["f0"]!
                let clients = try (0..<4).map { _ in try self.client(mesh.nodes[0]) }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for reader in 0..<32 {
                        group.addTask {
                            let flist = try await clients[reader % 4].open(packed.url)
                            for step in 0..<20 {
                                let offset = ((step + reader * 7) % 20) * Self.block + reader
                                let got = try await self.bytes(flist, "/f0", offset, 100_000)
                                #expect(got == Array(content[offset..<min(offset + 100_000, content.count)]))
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(mesh.nodes[0].node.decodedFiles.statistics.decodedBlocks == 20)
                #expect(mesh.nodes[0].upstreamChunks == 20)
            }
        }

        /// Sequential reading is read ahead, over the line after some megabytes; a look at one place is not.
        @Test func readAheadFollowsTheReader() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [40 * Self.block])
                let flist = try await client(mesh.nodes[0]).open(packed.url)
                let decoded = mesh.nodes[0].node.decodedFiles
                _ = try await bytes(flist, "/f0", 10 * Self.block, 4096)
                _ = try await bytes(flist, "/f0", 20 * Self.block, 4096)
                #expect(decoded.statistics.decodedBlocks == 2)
                for block in 0..<8 { _ = try await bytes(flist, "/f0", block * Self.block, 4096) }
                #expect(mesh.nodes[0].upstreamChunks == 10)
                for block in 8..<20 { _ = try await bytes(flist, "/f0", block * Self.block, 4096) }
                try await eventually("blocks ahead are there") { mesh.nodes[0].upstreamChunks >= 25 }
            }
        }

        @Test func whatIsInTheCacheIsReadAheadFromTheBeginning() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [24 * Self.block])
                let node = mesh.nodes[0]
                let flist = try await client(node).open(packed.url)
                try await flist.prefetch()
                try await eventually("all is in the cache") { node.upstreamChunks == 24 }
                for block in 0..<4 { _ = try await bytes(flist, "/f0", block * Self.block, 4096) }
                try await eventually("blocks ahead are there") { node.node.decodedFiles.statistics.decodedBlocks > 4 }
            }
        }

        /// The daemon goes away in the middle of reading and comes back: readers wait, and go on with the same bytes. What stood in its decoded files is
        /// dropped, since it was killed.
        @Test func readersOutliveTheDaemon() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [12 * Self.block, 12 * Self.block])
                let flist = try await client(node).open(packed.url)
                #expect(try await bytes(flist, "/f0", 0, 3 * Self.block) == Array(packed.files["f0"]![..<(3 * Self.block)]))
                await node.stop()
                // As after a kill: nothing says that the files are whole, and somebody has written into them.
                let directory = node.configuration.cache.dir + "/decoded"
                try FileManager.default.removeItem(atPath: directory + "/kept")
                for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
                    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: directory + "/" + name))
                    try file.seek(toOffset: UInt64(5 * Self.block))
                    try file.write(contentsOf: Data(repeating: 0xff, count: 3 * Self.block))
                    try file.close()
                }
                // Known to be ready: no daemon is needed.
                #expect(try await bytes(flist, "/f0", 100, 1000) == Array(packed.files["f0"]![100..<1100]))
                let readers = [("f0", 4), ("f0", 6), ("f1", 0)].map { name, block in
                    (name, block, Task { try await self.bytes(flist, "/\(name)", block * Self.block, 2 * Self.block) })
                }
                try await node.restart()
                for (name, block, reader) in readers {
                    #expect(try await reader.value == Array(packed.files[name]![(block * Self.block)..<((block + 2) * Self.block)]))
                }
            }
        }

        /// A reader may be back before the node has found what it knew: what he gets is what it was, with the way to its chunks.
        @Test func whoAsksBeforeTheNodeRemembersGetsTheSame() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [Self.block])
                let known = try await node.node.opener.open(packed.url).record
                await node.stop()
                let next = try TestNode.make(node.configuration)
                let asking = Task { try await next.opener.open(known.digest).record }
                let byName = Task { try await next.opener.open(packed.url).record }
                for _ in 0..<1000 { await Task.yield() }
                await next.opener.restore()
                for record in [try await asking.value, try await byName.value] {
                    #expect(record.isVouched && record.url == packed.url && record.name == known.name)
                }
                #expect(next.parts.upstream.hasWay(for: known.digest))
                next.parts.store.close()
            }
        }

        @Test func withoutADaemonTheDeadlineEndsIt() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [2 * Self.block])
                let flist = try await client(mesh.nodes[0], deadline: .milliseconds(300)).open(packed.url)
                await mesh.nodes[0].stop()
                let begun = ContinuousClock.now
                #expect(await failure { try await bytes(flist, "/f0", 0, 10).count } == .noDaemon)
                #expect(ContinuousClock.now - begun < .seconds(5))
                let nobody = try ReadClient(socket: mesh.directory + "/nobody.read", deadline: .milliseconds(100))
                await #expect(throws: ReadClientError.self) { try await nobody.open("x") }
            }
        }

        /// A reader that gives up, and a client that goes, end what was fetched for them.
        @Test func cancelledReadsEnd() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [4 * Self.block])
                let node = mesh.nodes[0]
                var client: ReadClient? = try self.client(node)
                var flist: RemoteFlist? = try await client!.open(packed.url)
                mesh.hub.setDelay(5_000)
                let reader = Task { [flist] in try await self.bytes(flist!, "/f0", 0, 10) }
                try await eventually("it is asked for") { node.node.fetcher.state.withLock { !$0.waiters.isEmpty } }
                reader.cancel()
                #expect(await failure { try await reader.value.count } == .cancelled)
                try await eventually("nobody waits any more") { node.node.fetcher.state.withLock { $0.waiters.isEmpty } }
                let other = Task { [flist] in try? await self.bytes(flist!, "/f0", Self.block, 10) }
                try await eventually("it is asked for") { node.node.fetcher.state.withLock { !$0.waiters.isEmpty } }
                other.cancel()
                _ = await other.value
                (flist, client) = (nil, nil)
                _ = client
                try await eventually("nobody waits any more") { node.node.fetcher.state.withLock { $0.waiters.isEmpty } }
                mesh.hub.setDelay(0)
            }
        }

        /// Under a bound of three blocks everything is read right, while files come and go under the readers.
        @Test func aTinyCacheServesEverybody() async throws {
            let mesh = try TestMesh()
            let node = try await mesh.addNode { $0.cache.decodedMax = UInt64(3 * Self.block) }
            let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 2 * Self.block, count: 6))
            let flist = try await client(node).open(packed.url)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for reader in 0..<6 {
                    group.addTask {
                        for step in 0..<12 {
                            let name = "f\((reader + step) % 6)"
                            let offset = (step * 77_777) % (2 * Self.block - 5000)
                            let got = try await self.bytes(flist, "/" + name, offset, 200_000)
                            let content = packed.files[name]!
                            #expect(got == Array(content[offset..<min(offset + 200_000, content.count)]))
                        }
                    }
                }
                try await group.waitForAll()
            }
            await node.stop()
        }

        /// An flist of the older format: the daemon makes the index, the client reads it.
        @Test func legacyFlistsAreReadThroughTheirIndex() async throws {
            let mesh = try TestMesh()
            let node = try await mesh.addNode { configuration in
                configuration.upstream.urls = ["dir://" + Legacy.fixtures + "/legacy/blocks"]
                configuration.upstream.override = true
            }
            let flist = try await client(node).open(Legacy.fixtures + "/legacy/rich.flist")
            #expect(flist.isLegacy)
            #expect(try await bytes(flist, "/bin/hello").count == 38)
            await node.stop()
        }

        /// The library: walk, look, ranges and streams, by way of the daemon.
        @Test func theLibraryReadsThroughTheDaemon() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [3 * Self.block + 1, 40])
                let flist = try await ReadableFlist.open(
                    packed.url, through: .daemon(socket: mesh.nodes[0].configuration.api.socket))
                var paths: [String] = []
                for try await item in flist.walk() { paths.append(String(decoding: item.path, as: UTF8.self)) }
                #expect(paths.sorted() == ["/f0", "/f1"])
                for name in ["f0", "f1"] {
                    let file = try await flist.file("/" + name)
                    var streamed: [UInt8] = []
                    for try await piece in file.stream(piece: 100_000) { streamed += piece }
                    #expect(streamed == packed.files[name]!)
                    #expect(try await file.read(at: 7, count: 20) == Array(packed.files[name]![7..<27]))
                }
                await #expect(throws: FlistReadError.self) { try await flist.file("/nothing") }
            }
        }

        /// `cache.decodedMax` changes while the node runs.
        @Test func theRoomChangesWithAReload() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [2 * Self.block])
                let flist = try await client(node).open(packed.url)
                _ = try await bytes(flist, "/f0")
                #expect(node.node.decodedFiles.statistics.files == 1)
                var configuration = node.configuration
                configuration.cache.decodedMax = 0
                let changes = try await node.node.reload(configuration)
                #expect(changes.applied == ["cache.decodedMax"] && changes.needRestart.isEmpty)
                try await eventually("the file is let go of") { node.node.decodedFiles.statistics.files == 0 }
                let second = try await client(node).open(packed.url)
                #expect(try await bytes(second, "/f0") == packed.files["f0"]!)
                let figures = await node.node.stats().decoded
                #expect(figures?.maxBytes == 0 && figures?.evictedFiles == 1)
            }
        }

        /// Who does not keep to the protocol is dropped; others are served on.
        @Test func strangersAreDropped() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [1000])
                let path = ReadClient.socket(ofAPI: mesh.nodes[0].configuration.api.socket)
                let hello = ReadRequest.hello(version: ReadLimits.version).encoded
                let open = ReadRequest.open(id: 1, name: packed.url).encoded
                let violations: [[UInt8]] = [
                    [0, 0, 0, 0], [0xff, 0xff, 0xff, 0xff], open, hello + hello, hello + [0, 0, 0, 1, 99],
                    ReadRequest.hello(version: 77).encoded, hello + open + open,
                ]
                for bytes in violations {
                    let socket = try #require(Raw(path))
                    socket.write(bytes)
                    #expect(socket.isClosedByPeer(), "\(bytes)")
                }
                let flist = try await client(mesh.nodes[0]).open(packed.url)
                #expect(try await bytes(flist, "/f0") == packed.files["f0"]!)
                let status = try FileManager.default.attributesOfItem(atPath: path)
                #expect(status[.posixPermissions] as? Int == 0o660)
            }
        }
    }
}

/// A client without manners.
private final class Raw {
    let fd: Int32
    init?(_ path: String) {
        fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard result == 0 else { return nil }
        var time = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }
    deinit { close(fd) }
    func write(_ bytes: [UInt8]) { _ = send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
    func isClosedByPeer() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(fd, &buffer, buffer.count, 0)
            if count == 0 { return true }
            if count < 0 { return errno == ECONNRESET }
        }
    }
}
