internal import BlockingThreads
internal import CarryFile
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import Flist
internal import Synchronization

/// Takes a carried file into a cache, piece by piece as it comes: each flist and chunk is hashed before it counts.
final class CacheImporter: CacheImport {
    /// Chunks that came before any flist that lists them, which are remembered; further ones are not kept.
    static let maxUnclaimed = 65_536

    private struct State {
        var reader = CarryReader()
        var notes: [FlistDigest: CarryNote] = [:]
        /// The body under way.
        var chunk: (id: ChunkID, length: Int, buffer: ChunkBuffer)?
        var flist: (writer: PieceWriter, digest: FlistDigest, offset: Int64)?
        /// Whole flists that are not known yet.
        var arrived: [(entry: FlistFiles.Entry, note: CarryNote)] = []
        var unclaimed: [ChunkID] = []
        var report = CacheImportReport()
        var absent: UInt64 = 0
        var isStopped = false
    }

    private let host: any CarryHost
    private let state = Mutex(State())

    init(host: any CarryHost) { self.host = host }

    func take(_ bytes: ChunkBuffer) async -> Bool {
        await host.threads.run { [self] in bytes.withBytes { feed($0) } }
        let arrived = state.withLock { state in
            defer { state.arrived = [] }
            return state.arrived
        }
        for (entry, note) in arrived { await admit(entry, note) }
        return state.withLock { !$0.isStopped }
    }

    /// Blocking.
    private func feed(_ bytes: UnsafeRawBufferPointer) {
        state.withLock { state in
            guard !state.isStopped else { return }
            var reader = state.reader
            do {
                try reader.take(bytes) { try handle($0, bytes, &state) }
            } catch {
                state.report.problem = "\(error)"
                state.isStopped = true
            }
            state.reader = reader
        }
    }

    private func handle(_ event: CarryReader.Event, _ bytes: UnsafeRawBufferPointer, _ state: inout State) throws {
        switch event {
        case .head: break
        case .note(let note): state.notes[note.digest] = note
        case .flist(let digest, let length):
            state.flist = (try host.files.assemble(digest, byteCount: Int64(length)), digest, 0)
        case .chunk(let id, let length): state.chunk = (id, length, host.pool.take(capacity: length))
        case .body(let range):
            let part = UnsafeRawBufferPointer(rebasing: bytes[range])
            if let (_, _, buffer) = state.chunk {
                (buffer.base + buffer.count).copyMemory(from: part.baseAddress!, byteCount: part.count)
                buffer.count += part.count
            } else if let flist = state.flist {
                try flist.writer.write(part, at: flist.offset)
                state.flist?.offset += Int64(part.count)
            }
        case .bodyEnded:
            if let (id, _, buffer) = state.chunk { store(id, buffer, &state) }
            if let (writer, digest, _) = state.flist { finish(writer, digest, &state) }
            (state.chunk, state.flist) = (nil, nil)
        case .ended(let counts):
            state.absent = counts.absent
            state.isStopped = true
        }
    }

    private func store(_ id: ChunkID, _ buffer: ChunkBuffer, _ state: inout State) {
        guard let chunk = Chunk(verifying: buffer, as: id) else {
            state.report.wrong += 1
            return
        }
        let isKnown = !host.flists.places(of: id).isEmpty
        guard isKnown || state.unclaimed.count < Self.maxUnclaimed else {
            state.report.unclaimed += 1
            return
        }
        switch host.store.insert(chunk) {
        case .alreadyHeld: state.report.held += 1
        case .stored:
            state.report.stored += 1
            state.report.storedBytes += UInt64(chunk.byteCount)
            if isKnown { host.stored(id) } else { state.unclaimed.append(id) }
        case .notStored(let reason):
            state.report.notStored += 1
            state.report.problem = state.report.problem ?? Self.line(reason)
        }
    }

    private static func line(_ reason: NotStoredReason) -> String {
        switch reason {
        case .diskFull: "the cache has no room for it all: no space on its device, or above cache.minFree"
        case .quotaPinned: "the cache has no room for it all: raise cache.maxSize"
        case .readOnly, .closed, .failed: "chunks cannot be stored: \(reason)"
        }
    }

    private func finish(_ writer: PieceWriter, _ digest: FlistDigest, _ state: inout State) {
        do {
            let note = state.notes[digest] ?? CarryNote(digest: digest, name: String(digest.hex.prefix(12)), url: nil, signature: [])
            state.arrived.append((try writer.finish(), note))
        } catch ChunkStoreError.wrongDigest {
            state.report.wrong += 1
        } catch {
            state.report.problem = state.report.problem ?? "\(error)"
        }
    }

    private func admit(_ entry: FlistFiles.Entry, _ note: CarryNote) async {
        var shown = CacheImportReport.Flist(
            name: FlistRecord.clean(note.name), digest: entry.digest.hex, chunks: 0, missing: 0)
        do {
            let admitted = try await host.admit(entry, note)
            (shown.name, shown.chunks) = (admitted.record.name, admitted.flist.chunks.count)
        } catch {
            shown.error = "\(error)"
        }
        state.withLock { state in
            state.report.flists.removeAll { $0.digest == shown.digest }
            state.report.flists.append(shown)
        }
    }

    func finish() async -> CacheImportReport {
        await host.threads.run { [self] in settle() }
        return state.withLock { $0.report }
    }

    /// Blocking.
    private func settle() {
        let unclaimed = state.withLock { state in
            (state.chunk, state.flist) = (nil, nil)
            defer { state.unclaimed = [] }
            return state.unclaimed
        }
        // The flist may have come after its chunks.
        let strays = unclaimed.filter { id in
            guard !host.flists.places(of: id).isEmpty else { return true }
            host.stored(id)
            return false
        }
        let removed = host.store.remove(strays)
        state.withLock { state in
            state.report.unclaimed += strays.count
            state.report.stored -= strays.count
            state.report.storedBytes -= min(state.report.storedBytes, UInt64(clamping: removed.bytes))
            for index in state.report.flists.indices where state.report.flists[index].error == nil {
                guard let digest = FlistDigest(hex: state.report.flists[index].digest), let entry = host.flists.entry(digest) else {
                    continue
                }
                state.report.flists[index].missing = entry.flist.chunks.count { !host.store.contains($0) }
            }
            if !state.reader.hasEnded, state.report.problem == nil {
                state.report.problem = "the file is cut off at byte \(state.reader.offset)"
            }
            let report = state.report
            if report.problem == nil, report.flists.contains(where: { $0.missing > 0 }), report.wrong == 0, state.absent == 0 {
                state.report.problem = "the cache has no room for it all: raise cache.maxSize, or make space on its device"
            }
            state.report.complete =
                state.reader.hasEnded && state.report.problem == nil && report.wrong == 0 && report.notStored == 0
                && report.flists.allSatisfy { $0.error == nil && $0.missing == 0 }
        }
    }
}
