internal import BlockingThreads
internal import CarryFile
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import Glibc

/// Makes a carried file of flists, piece by piece as it is taken.
actor CacheExporter: CacheExport {
    /// Chunks that are read or fetched at the same time; half a megabyte each.
    static let window = 8
    /// Bytes of an flist in one piece.
    static let pieceBytes = 512 << 10

    private enum Stage {
        case head
        case flist(Int)
        case piece(Int, offset: Int64)
        case chunks
        case over
    }

    private let host: any CarryHost
    private let entries: [FlistTable.Entry]
    /// Each chunk once, with the first flist that lists it.
    private let chunks: [(id: ChunkID, flist: Int)]
    private let expectedBytes: UInt64
    private var stage = Stage.head
    private var next = 0
    private var underWay: [(id: ChunkID, task: Task<Chunk?, Never>)] = []
    /// Read with its head out already.
    private var pending: ChunkBuffer?
    private var counts = CarryCounts()

    /// Looks at every chunk: blocking.
    init(host: any CarryHost, _ entries: [FlistTable.Entry]) {
        (self.host, self.entries) = (host, entries)
        var seen: Set<ChunkID> = []
        var chunks: [(ChunkID, Int)] = []
        var (held, heldBytes): (UInt64, UInt64) = (0, 0)
        for (index, entry) in entries.enumerated() {
            for chunk in entry.flist.chunks where entries.count == 1 || seen.insert(chunk).inserted {
                chunks.append((chunk, index))
                guard let size = host.store.size(of: chunk) else { continue }
                (held, heldBytes) = (held + 1, heldBytes + UInt64(size))
            }
        }
        self.chunks = chunks.map { ($0.0, $0.1) }
        let mean = held == 0 ? UInt64(ChunkLimits.blockBytes) : heldBytes / held
        expectedBytes =
            entries.reduce(UInt64(chunks.count) * (mean + UInt64(CarryFormat.recordHeadBytes))) {
                $0 + UInt64(clamping: $1.flist.fileBytes)
            }
    }

    deinit { for (_, task) in underWay { task.cancel() } }

    func next() async throws -> ChunkBuffer? {
        switch stage {
        case .head:
            stage = .flist(0)
            return ChunkBuffer(
                copying: CarryWriter.head(CarryHead(flists: UInt64(entries.count), chunks: UInt64(chunks.count), bytes: expectedBytes)))
        case .flist(let index):
            guard index < entries.count else {
                stage = .chunks
                return try await next()
            }
            stage = .piece(index, offset: 0)
            let entry = entries[index]
            let signature = await host.threads.run { [files = host.files] in files.signature(of: entry.record.digest) ?? [] }
            counts.flists += 1
            return ChunkBuffer(
                copying: CarryWriter.note(
                    CarryNote(digest: entry.record.digest, name: entry.record.name, url: entry.record.url, signature: signature))
                    + CarryWriter.flistHead(entry.record.digest, length: UInt64(clamping: entry.flist.fileBytes)))
        case .piece(let index, let offset):
            let (digest, size) = (entries[index].record.digest, entries[index].flist.fileBytes)
            let piece = try await host.threads.run { [files = host.files] in
                try Self.piece(of: digest, in: files, at: offset, count: Int(min(Int64(Self.pieceBytes), size - offset)))
            }
            stage = offset + Int64(piece.count) >= size ? .flist(index + 1) : .piece(index, offset: offset + Int64(piece.count))
            return piece
        case .chunks: return await nextChunk()
        case .over: return nil
        }
    }

    private func nextChunk() async -> ChunkBuffer? {
        if let body = pending {
            pending = nil
            return body
        }
        while true {
            while underWay.count < Self.window, next < chunks.count {
                let (id, flist) = chunks[next]
                let digest = entries[flist].record.digest
                underWay.append((id, Task { [host] in await host.chunk(id, of: digest) }))
                next += 1
            }
            guard !underWay.isEmpty else {
                stage = .over
                return ChunkBuffer(copying: CarryWriter.end(counts))
            }
            let (id, task) = underWay.removeFirst()
            guard let chunk = await task.value else {
                counts.absent += 1
                continue
            }
            counts.chunks += 1
            counts.chunkBytes += UInt64(chunk.byteCount)
            if chunk.byteCount > 0 { pending = chunk.buffer }
            return ChunkBuffer(copying: CarryWriter.chunkHead(id, length: chunk.byteCount))
        }
    }

    private static func piece(of digest: FlistDigest, in files: FlistFiles, at offset: Int64, count: Int) throws -> ChunkBuffer {
        guard let path = files.path(of: digest) else { throw NodeError.conflict("flist \(digest) was forgotten while it was exported") }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw NodeError.unavailable("\(path): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        let buffer = ChunkBuffer(capacity: count)
        while buffer.count < count {
            let more = pread(descriptor, buffer.base + buffer.count, count - buffer.count, off_t(offset) + buffer.count)
            guard more > 0 else { throw NodeError.unavailable("\(path) cannot be read") }
            buffer.count += more
        }
        return buffer
    }
}
