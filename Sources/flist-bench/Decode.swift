internal import BlockCodec
internal import ChunkModel
internal import Flist
internal import Glibc

extension FlistBench {
    /// Verifies and decodes all blocks of one file on one thread, the chunks in memory before: what a first touch is compared with.
    ///
    /// - Parameter store: directory with `XX/HEX`.
    static func decode(_ flist: String, _ path: String, store: String) throws {
        let file = try FlistFile(path: flist)
        let blocks = try file.blocks(of: try file.resolve(Array(path.utf8)))
        let stored = blocks.map { block in
            let hex = block.id.hex
            guard let opened = fopen("\(store)/\(hex.prefix(2))/\(hex)", "re") else { fatalError("no chunk \(hex)") }
            defer { fclose(opened) }
            var bytes = [UInt8](repeating: 0, count: ChunkLimits.maxStoredBytes)
            let count = fread(&bytes, 1, bytes.count, opened)
            return ChunkBuffer(copying: bytes.prefix(count))
        }
        let pool = ChunkBufferPool(keep: 3)
        let (wall, cpu) = (seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID))
        var plain = 0
        for (block, buffer) in zip(blocks, stored) {
            guard let chunk = Chunk(verifying: buffer, as: block.id) else { fatalError("chunk \(block.id.hex) is wrong") }
            plain += try BlockCodec.decode(chunk, as: block, pool: pool).count
        }
        print(
            "{\"bytes\":\(plain),\"seconds\":\(seconds(CLOCK_MONOTONIC) - wall),\"cpu\":\(seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu)}")
    }
}
