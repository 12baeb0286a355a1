internal import BlockCodec
public import ChunkModel
internal import Glibc
internal import LocalFiles
internal import Logging
internal import Synchronization

/// Blocks that were asked for ahead: they are got whether somebody waits or not, until this is cancelled.
public struct FillTicket: Sendable {
    let file: DecodedFile
    let waiter: DecodedFile.Waiter

    /// Nobody needs them any more; what others wait for is got all the same.
    public func cancel() { DecodedFiles.leave(file, waiter) }
}

extension DecodedFiles {
    /// Returns when these blocks of the file are ready. Those of several callers are got once, and go on when one of them gives up.
    ///
    /// - Throws: `DecodedFileError`, `BlockError`, `CancellationError`, and what the source throws.
    public func fill(_ file: DecodedFile, _ blocks: Range<Int>, priority: FetchPriority, from source: any BlockSource) async throws {
        touch(file)
        let late = Mutex<DecodedFile.Waiter?>(nil)
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let waiter = DecodedFile.Waiter { continuation.resume(with: $0) }
                late.withLock { $0 = waiter }
                begin(file, blocks, priority, source, waiter)
                // Cancelled before there was anything to take back.
                if Task.isCancelled { Self.leave(file, waiter) }
            }
        } onCancel: {
            if let waiter = late.withLock({ $0 }) { Self.leave(file, waiter) }
        }
    }

    /// Gets these blocks and does not wait.
    ///
    /// - Parameter onEnd: called once, when all are there, one failed, or the ticket was cancelled.
    public func fillAhead(
        _ file: DecodedFile, _ blocks: Range<Int>, priority: FetchPriority, from source: any BlockSource,
        onEnd: @escaping @Sendable () -> Void
    ) -> FillTicket {
        let waiter = DecodedFile.Waiter { _ in onEnd() }
        begin(file, blocks, priority, source, waiter)
        return FillTicket(file: file, waiter: waiter)
    }

    private func begin(
        _ file: DecodedFile, _ blocks: Range<Int>, _ priority: FetchPriority, _ source: any BlockSource, _ waiter: DecodedFile.Waiter
    ) {
        let blocks = blocks.clamped(to: 0..<file.blockCount)
        var starts: [(block: Int, turn: UInt64)] = []
        var hastened: [Int] = []
        let isDone = file.state.withLock { state -> Bool in
            for block in blocks where !state.isReady(block) {
                waiter.remaining += 1
                if state.fills[block] == nil {
                    state.turns += 1
                    state.fills[block] = DecodedFile.Fill(turn: state.turns, priority: priority, waiters: [waiter])
                    starts.append((block, state.turns))
                    continue
                }
                state.fills[block]!.waiters.append(waiter)
                guard state.fills[block]!.priority < priority else { continue }
                state.fills[block]!.priority = priority
                if state.fills[block]!.isFetching {
                    hastened.append(block)
                } else if !state.fills[block]!.isStarted {
                    // Still in the queue, among what is less urgent: whichever comes first does it.
                    starts.append((block, state.fills[block]!.turn))
                }
            }
            waiter.isDone = waiter.remaining == 0
            return waiter.isDone
        }
        if isDone { return waiter.resume(.success(())) }
        for (block, turn) in starts { queue.push(priority) { [self] in run(file, block, turn, source) } }
        for block in hastened {
            let id = file.blocks[block].id
            Task { await source.hasten(id, priority: priority) }
        }
    }

    /// The waiter waits no longer; fetches that nobody else waits for end.
    static func leave(_ file: DecodedFile, _ waiter: DecodedFile.Waiter) {
        var tasks: [Task<Void, Never>] = []
        let isNews = file.state.withLock { state in
            guard !waiter.isDone else { return false }
            waiter.isDone = true
            for (block, fill) in state.fills where fill.waiters.contains(where: { $0 === waiter }) {
                state.fills[block]!.waiters.removeAll { $0 === waiter }
                guard state.fills[block]!.waiters.isEmpty, fill.isFetching || !fill.isStarted else { continue }
                // Whoever comes now begins anew.
                if let task = fill.task { tasks.append(task) }
                state.fills[block] = nil
            }
            return true
        }
        for task in tasks { task.cancel() }
        if isNews { waiter.resume(.failure(CancellationError())) }
    }

    /// On one of the threads: what is on this machine is decoded at once, what is not comes back when it is here.
    private func run(_ file: DecodedFile, _ block: Int, _ turn: UInt64, _ source: any BlockSource) {
        let isMine = file.state.withLock { state in
            guard let fill = state.fills[block], fill.turn == turn, !fill.isStarted else { return false }
            state.fills[block]!.isStarted = true
            return true
        }
        guard isMine else { return }
        let id = file.blocks[block].id
        do {
            if let chunk = try source.chunkNow(id, pool: pool) {
                return finish(file, block, turn, Result { try store(chunk, file, block) })
            }
        } catch {
            return finish(file, block, turn, .failure(error))
        }
        file.state.withLock { state in
            guard let fill = state.fills[block], fill.turn == turn else { return }
            // Nobody may have waited since this was begun.
            guard !fill.waiters.isEmpty else {
                state.fills[block] = nil
                return
            }
            state.fills[block]!.isFetching = true
            let priority = fill.priority
            state.fills[block]!.task = Task { [self] in
                do {
                    guard let chunk = try await source.chunk(id, priority: priority) else { throw DecodedFileError.missing(id) }
                    let now = file.state.withLock { state -> FetchPriority? in
                        guard let fill = state.fills[block], fill.turn == turn else { return nil }
                        state.fills[block]!.isFetching = false
                        return fill.priority
                    }
                    guard let now else { return }
                    queue.push(now) { [self] in finish(file, block, turn, Result { try store(chunk, file, block) }) }
                } catch {
                    finish(file, block, turn, .failure(error))
                }
            }
        }
    }

    private func finish(_ file: DecodedFile, _ block: Int, _ turn: UInt64, _ result: Result<Void, any Error>) {
        let done = file.state.withLock { state -> [DecodedFile.Waiter] in
            var isWritten = false
            if case .success = result { isWritten = true }
            if isWritten, !state.isReady(block) {
                state.setReady(block)
            } else if isWritten {
                // Written twice with the same bytes: its room counts once.
                let bytes = DecodedFile.diskBytes(DecodedFile.length(ofBlock: block, file.size))
                state.bytes -= bytes
                room.add(-bytes)
            }
            guard let fill = state.fills[block], fill.turn == turn else { return [] }
            state.fills[block] = nil
            return fill.waiters.filter { waiter in
                guard !waiter.isDone else { return false }
                waiter.remaining -= 1
                waiter.isDone = waiter.remaining == 0 || !isWritten
                return waiter.isDone
            }
        }
        for waiter in done { waiter.resume(result) }
    }

    /// Decodes the chunk and writes it to its place.
    private func store(_ chunk: Chunk, _ file: DecodedFile, _ block: Int) throws {
        let ref = file.blocks[block]
        let plain = try BlockCodec.decode(chunk, as: ref, pool: pool)
        let length = DecodedFile.length(ofBlock: block, file.size)
        guard plain.count == length else {
            file.state.withLock { $0.isUneven = true }
            onUnstored(ref, plain)
            throw DecodedFileError.uneven
        }
        let bytes = DecodedFile.diskBytes(length)
        do throws(DecodedFileError) {
            guard reserve(bytes, for: file) else { throw .noRoom }
            let handle: DecodedFile.Handle
            do throws(DecodedFileError) {
                handle = try self.handle(of: file)
            } catch {
                room.add(-bytes)
                throw error
            }
            let offset = Int64(block) * Int64(ChunkLimits.blockBytes)
            let code = plain.withBytes { FileBytes.write($0, to: handle.writer, at: offset) }
            guard code == 0 else {
                room.add(-bytes)
                diskFailed(code)
                throw .noRoom
            }
        } catch {
            counters.withLock { $0.notKeptBlocks += 1 }
            onUnstored(ref, plain)
            throw error
        }
        file.state.withLock { $0.bytes += bytes }
        counters.withLock { $0.decodedBlocks += 1 }
        if room.noteWritten() { logger.notice("the disk takes decoded files again", metadata: ["directory": "\(directory)"]) }
    }

    /// The disk takes nothing: said once, and tried again after a while.
    func diskFailed(_ code: Int32) {
        guard room.noteFull() else { return }
        logger.warning(
            "decoded files cannot be kept; content is decoded for each read instead",
            metadata: ["directory": "\(directory)", "reason": "\(String(cString: strerror(code)))"])
    }
}
