internal import BlockCodec
internal import ChunkModel
internal import Flist
internal import Glibc

/// What verifying and decoding blocks took on one thread; reading their chunks does not count.
struct Decoded {
    var blocks = 0
    var bytes = 0
    var seconds = 0.0
    var cpu = 0.0
}

extension FlistBench {
    /// Hashes, decrypts, decompresses and hashes the blocks of one file, or of all: what a first touch is compared with.
    ///
    /// - Parameter store: a directory with `XX/HEX`.
    static func decode(_ flist: String, store: String, path: String?) throws {
        let file = try FlistFile(path: flist)
        var done = Decoded()
        let pool = ChunkBufferPool()
        if let path {
            try decode(try file.blocks(of: try file.resolve(Array(path.utf8))), store, pool, &done)
        } else {
            var after: Int64?
            repeat {
                let page = try file.blockRows(after: after, limit: 256)
                try decode(page.rows.compactMap(\.ref), store, pool, &done)
                after = page.next
            } while after != nil
        }
        print("{\"blocks\": \(done.blocks), \"bytes\": \(done.bytes), \"seconds\": \(done.seconds), \"cpu\": \(done.cpu)}")
    }

    static func decode(_ blocks: [BlockRef], _ store: String, _ pool: ChunkBufferPool, _ done: inout Decoded) throws {
        for block in blocks {
            let hex = block.id.hex
            let file = open("\(store)/\(hex.prefix(2))/\(hex)", O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { throw BenchError(description: "\(hex) is not in \(store)") }
            defer { close(file) }
            let stored = pool.take(capacity: ChunkLimits.maxStoredBytes)
            stored.count = max(0, pread(file, stored.base, stored.capacity, 0))
            let (wall, cpu) = (seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID))
            guard let chunk = Chunk(verifying: stored, as: block.id) else { throw BenchError(description: "\(hex) is damaged") }
            done.bytes += try BlockCodec.decode(chunk, as: block, pool: pool).count
            done.seconds += seconds(CLOCK_MONOTONIC) - wall
            done.cpu += seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu
            done.blocks += 1
        }
    }
}

struct BenchError: Error, CustomStringConvertible { let description: String }
