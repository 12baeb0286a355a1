internal import ChunkModel
internal import Glibc
internal import Logging
internal import SQLiteFile
internal import Synchronization

/// Reading the index at the start, writing it in batches.
extension ChunkStore {
    /// Fills the table from the index, or from the directory where the index cannot be trusted.
    func load() {
        let marker = CleanMarker.take(in: files.root.fd)
        let index = openIndex()
        if let marker, let index, let table = Self.table(from: index) {
            if CleanMarker(count: table.heldCount, bytes: table.heldBytes).matches(marker) {
                state.withLock { $0.table = table }
                return
            }
        }
        let table = listDirectory(index)
        logger.notice(
            "cache index rebuilt from the directory",
            metadata: ["directory": "\(directory)", "chunks": "\(table.heldCount)", "bytes": "\(table.heldBytes)"])
        state.withLock { state in
            state.table = table
            state.rewriteIndex = true
        }
    }

    private static func table(from index: IndexFile) -> ChunkTable? {
        var table = ChunkTable()
        do {
            try index.forEachRow { table.hold($0.id, size: $0.size, lastUse: $0.lastUse, verified: $0.isVerified) }
        } catch {
            return nil
        }
        table.sortByLastUse()
        return table
    }

    /// Every chunk file by name and size, unverified; the index helps with the order of use where it can be read.
    private func listDirectory(_ index: IndexFile?) -> ChunkTable {
        var table = ChunkTable()
        var unusable: [ChunkID] = []
        do {
            try files.forEachFile { id, size in
                // Power loss leaves empty files: the one case of a torn chunk that its size tells.
                let isEmptyChunk = size == 0 && ChunkID(ofStored: UnsafeRawBufferPointer(start: nil, count: 0), length: id.length) == id
                if size > ChunkLimits.maxStoredBytes || size == 0 && !isEmptyChunk {
                    unusable.append(id)
                } else {
                    table.hold(id, size: UInt32(size), lastUse: 0, verified: false)
                }
            }
        } catch {
            logger.error("cache directory could not be listed whole", metadata: ["error": "\(error)"])
        }
        for id in unusable { files.unlink(id) }
        state.withLock { $0.torn += unusable.count }
        do {
            try index?.forEachRow { row in
                if let slot = table.heldSlot(of: row.id) { table.setLastUse(slot, row.lastUse) }
            }
        } catch {
            logger.debug("the old index cannot be read", metadata: ["error": "\(error)"])
        }
        table.sortByLastUse()
        return table
    }

    /// The open index file; `nil` when it cannot be opened now (full disk), which costs only the next start's speed.
    private func openIndex() -> IndexFile? {
        index.withLock { index in
            open(&index)
            // The file is used by this thread alone until the keeper starts.
            return IndexBox(file: index.file)
        }.file
    }

    private struct IndexBox: @unchecked Sendable { let file: IndexFile? }

    private func open(_ index: inout Index) {
        guard index.file == nil else { return }
        do {
            index.file = try IndexFile(directory: directory)
        } catch {
            warn(&index, error)
        }
    }

    private func warn(_ index: inout Index, _ error: any Error) {
        if !index.warned { logger.warning("cache index cannot be written; it will be tried again", metadata: ["error": "\(error)"]) }
        index.warned = true
    }

    /// Writes what has changed since the last time.
    ///
    /// - Returns: whether the index is up to date.
    @discardableResult
    func flushIndex() -> Bool {
        index.withLock { index in
            let (isAll, rows) = state.withLock { state -> (Bool, [IndexFile.Row]) in
                let rows = state.pending.map { Self.row(of: $0, in: &state) }
                let isAll = state.rewriteIndex
                state.pending = []
                state.rewriteIndex = false
                return (isAll, rows)
            }
            guard isAll || !rows.isEmpty else { return index.file != nil }
            open(&index)
            guard let file = index.file else {
                state.withLock { $0.rewriteIndex = true }
                return false
            }
            do {
                if isAll {
                    var next = 0
                    try file.rewrite { nextRows(&next) }
                } else {
                    try file.write(rows)
                }
                index.warned = false
                return true
            } catch {
                warn(&index, error)
                if let error = error as? SQLiteError, error.isDamage {
                    index.file = nil
                    IndexFile.remove(in: directory)
                }
                state.withLock { $0.rewriteIndex = true }
                return false
            }
        }
    }

    private static func row(of id: ChunkID, in state: inout State) -> IndexFile.Row {
        guard let slot = state.table.heldSlot(of: id) else {
            return IndexFile.Row(id: id, isHeld: false, size: 0, lastUse: 0, isVerified: false)
        }
        state.table.setDirty(slot, false)
        let entry = state.table[slot]
        return IndexFile.Row(id: id, isHeld: true, size: entry.size, lastUse: entry.lastUse, isVerified: entry.isVerified)
    }

    /// The next part of a walk over all chunks; what changes behind it is pending again.
    private func nextRows(_ next: inout Int) -> [IndexFile.Row]? {
        state.withLock { state in
            guard next < state.table.slotLimit else { return nil }
            let end = min(next + ChunkStoreLimits.walkBatch, state.table.slotLimit)
            defer { next = end }
            return (next..<end).compactMap { index in
                guard let entry = state.table.entry(at: index), entry.isHeld else { return nil }
                return Self.row(of: entry.id, in: &state)
            }
        }
    }
}
