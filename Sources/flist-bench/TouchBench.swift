internal import BlockCodec
internal import ChunkModel
internal import Flist
internal import Glibc
internal import ReadClient

/// Reading through a daemon against decoding alone, in one run.
enum TouchBench {
    /// Bytes of one read, as the kernel asks a file system for them.
    static let readBytes = 128 * 1024

    /// - Parameters:
    ///   - name: of an flist that the daemon holds all chunks of, and has not decoded yet.
    ///   - chunks: the daemon's `cache.dir/chunks`.
    ///   - socket: its read socket.
    static func run(_ name: String, chunks: String, socket: String) throws {
        let client = try ReadClient(socket: socket)
        let flist = try client.openNow(name)
        var files: [FlistEntry] = []
        var walker = FlistWalker(flist.file, below: flist.file.root())
        while let item = try walker.next() {
            if case .entry(let visit) = item, visit.entry.isFile, visit.entry.size > 0 { files.append(visit.entry) }
        }
        // Once without the clock, so that the chunks are in memory for all.
        _ = try decode(files, flist.file, chunks)
        let alone = try decode(files, flist.file, chunks)
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: readBytes, alignment: 4096)
        defer { target.deallocate() }
        let first = try read(files, flist, target)
        let warm = try read(files, flist, target)
        print(
            "{\"files\": \(files.count), \"bytes\": \(alone.bytes), \"decodeSeconds\": \(alone.seconds), \"decodeCPU\": \(alone.cpu), "
                + "\"firstTouchSeconds\": \(first), \"warmSeconds\": \(warm), \"firstTouchRatio\": \(first / alone.seconds)}")
    }

    private static func decode(_ files: [FlistEntry], _ flist: FlistFile, _ chunks: String) throws -> Decoded {
        let pool = ChunkBufferPool()
        var done = Decoded()
        for file in files { try FlistBench.decode(try flist.blocks(of: file), chunks, pool, &done) }
        return done
    }

    private static func read(_ files: [FlistEntry], _ flist: RemoteFlist, _ target: UnsafeMutableRawBufferPointer) throws -> Double {
        let begun = FlistBench.seconds(CLOCK_MONOTONIC)
        for file in files {
            var offset: UInt64 = 0
            while offset < file.size {
                let count = try flist.readNow(file.ino, at: offset, into: target)
                guard count > 0 else { throw BenchError(description: "inode \(file.ino) ends too early") }
                offset += UInt64(count)
            }
        }
        return FlistBench.seconds(CLOCK_MONOTONIC) - begun
    }
}
