internal import BlockingThreads
internal import ChunkModel
internal import ControlModel
internal import DecodedFiles
internal import Logging
internal import NodeConfiguration
internal import ReadAPI
internal import ReadServer

extension MeshNode {
    /// What stands behind the path of the control socket.
    static let readSuffix = ".read"

    /// The read socket beside the control socket; `nil` when its path would be too long, which is said.
    func readServer() throws -> ReadServer? {
        let path = configuration.api.socket + Self.readSuffix
        guard path.utf8.count <= ReadServer.maxPathBytes else {
            parts.logger.warning(
                "mounts and programs cannot read through this daemon: the path of the read socket is too long",
                metadata: ["path": "\(path)", "limit": "\(ReadServer.maxPathBytes) bytes"])
            return nil
        }
        return try ReadServer(path: path, software: "chunkmesh \(Self.version)", handler: reading, logger: parts.logger)
    }
}

extension MeshNode {
    var decodedFigures: Stats.Decoded {
        let now = decodedFiles.statistics
        var out = Stats.Decoded()
        (out.bytes, out.maxBytes, out.files) = (UInt64(clamping: now.bytes), UInt64(clamping: now.maxBytes), now.files)
        (out.hits, out.misses, out.decodedBlocks) = (now.hits, now.misses, now.decodedBlocks)
        (out.evictedFiles, out.notKeptBlocks) = (now.evictedFiles, now.notKeptBlocks)
        return out
    }

    func decodedMetrics(_ text: inout MetricsText) {
        let now = decodedFigures
        text.gauge("decoded_bytes", "Bytes of decoded files on the disk.", Double(now.bytes))
        text.gauge("decoded_max_bytes", "Room for decoded files.", Double(now.maxBytes))
        text.gauge("decoded_files", "Decoded files.", Double(now.files))
        text.family("decoded_reads_total", "counter", "Reads of mounts, programs and HTTP, by whether they found their blocks decoded.")
        text.value("decoded_reads_total", Double(now.hits), labels: ["found": "yes"])
        text.value("decoded_reads_total", Double(now.misses), labels: ["found": "no"])
        text.counter("decoded_blocks_total", "Blocks decoded into files.", now.decodedBlocks)
        text.counter("decoded_evicted_files_total", "Decoded files that made room for others.", now.evictedFiles)
        text.counter("decoded_not_kept_blocks_total", "Decoded blocks for which there was no room.", now.notKeptBlocks)
    }
}

extension DecodedFiles {
    /// - Parameter unstored: gets the blocks for which there is no room: who waits for them reads them from there.
    convenience init(directory: String, _ cache: Configuration.Cache, parts: NodeParts, unstored: DecodedBlockCache) throws {
        try self.init(
            directory: directory, maxBytes: cache.decodedBytes, floor: cache.minFree.floorBytes,
            threads: BlockingThreads(count: max(2, BlockingThreads.machineThreads)), pool: parts.pool, logger: parts.logger
        ) { unstored.insert($1, for: $0.id, $0.key) }
    }
}

extension Configuration.Cache {
    var decodedBytes: Int64? { decodedMax.map { Int64(clamping: $0) } }
}

extension Configuration.FreeSpace {
    /// Bytes that are left to others, by the size of the partition.
    var floorBytes: @Sendable (Int64) -> Int64 {
        switch self {
        case .bytes(let bytes): { _ in Int64(clamping: bytes) }
        case .percent(let percent): { Int64(Double($0) / 100 * percent) }
        }
    }
}
