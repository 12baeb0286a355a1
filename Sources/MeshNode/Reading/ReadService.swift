internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
internal import ControlModel
internal import DecodedFiles
internal import FetchPlanner
internal import Flist
internal import Glibc
internal import LegacyFlist
internal import Logging
internal import ReadAPI
internal import ReadProtocol
internal import ReadServer
internal import Synchronization
internal import ChunkStore

/// Answers the clients of the read socket: from decoded files where it can, else with the bytes themselves.
final class ReadService: ReadHandler {
    /// Files up to this size are not kept decoded unless somebody asks for the whole: a descriptor costs more than their bytes.
    static let inlineBytes: UInt64 = 64 * 1024
    /// Blocks that are got ahead of all readers together (32 MiB); while there are as many, nothing more is read ahead.
    static let maxAhead = 64
    /// Blocks that a reader must have read on without a gap (8 MiB) before others than those in the cache are got ahead of him. Programs and
    /// libraries are that long and are read in stretches of a few blocks, and the line is thin; the kernel's own read-ahead keeps
    /// it full for who reads on.
    static let leastRunOverLine = 16
    /// Files that are being completed in the background at a time, and those that wait for it; further wishes are forgotten.
    static let fillsAtATime = 2
    static let maxFills = 1024
    /// Blocks of one file that a completion gets at a time.
    static let fillWindow = 8

    private struct Fills {
        var waiting: [(inode: OpenInode, flist: FlistDigest)] = []
        var wanted: Set<UInt64> = []
        var running: [Task<Void, Never>] = []
        var count = 0
        var isStopped = false
    }

    let parts: NodeParts
    let fetcher: ChunkFetcher
    let opener: FlistOpener
    let prefetcher: Prefetcher
    let files: FlistFiles
    let decoded: DecodedFiles
    /// Blocks of reads that go past the decoded files.
    let blocks: DecodedBlockCache
    let isRestored: Setting<Bool>
    let traces: ReadTraces
    let inodes = OpenInodes()
    private let sessions = Mutex<[UInt64: ReadSession]>([:])
    private let fills = Mutex(Fills())
    private let ahead = Atomic(0)

    init(
        parts: NodeParts, fetcher: ChunkFetcher, opener: FlistOpener, prefetcher: Prefetcher, files: FlistFiles, decoded: DecodedFiles,
        blocks: DecodedBlockCache, isRestored: Setting<Bool>, traces: ReadTraces
    ) {
        self.traces = traces
        (self.parts, self.fetcher, self.opener, self.prefetcher) = (parts, fetcher, opener, prefetcher)
        (self.files, self.decoded, self.blocks, self.isRestored) = (files, decoded, blocks, isRestored)
    }

    // MARK: Clients

    func began(_ client: ReadConnection) { sessions.withLock { $0[client.number] = ReadSession(client) } }

    func ended(_ client: ReadConnection) { sessions.withLock { $0.removeValue(forKey: client.number) }?.end() }

    func handle(_ request: ReadRequest, from client: ReadConnection) {
        guard let session = sessions.withLock({ $0[client.number] }) else { return }
        switch request {
        case .hello, .cancel: break
        case .open(let id, let name): run(id, client) { await self.open(id, name, session) }
        case .read(let id, let flist, let ino, let offset, let length, let priority):
            guard let entry = session.flist(flist) else { return refuse(id, flist, client) }
            let read = Read(
                id: id, key: OpenInodes.Key(flist: entry.record.digest, ino: ino), entry: entry, offset: offset, length: Int(length),
                priority: priority)
            if let inode = inodes.known(read.key), answerNow(read, inode, session) { return }
            run(id, client) { await self.answer(read, session) }
        case .whole(let id, let flist, let ino, let fill):
            guard let entry = session.flist(flist) else { return refuse(id, flist, client) }
            let read = Read(
                id: id, key: OpenInodes.Key(flist: entry.record.digest, ino: ino), entry: entry, offset: 0, length: 0, priority: .prefetch)
            run(id, client) { await self.answerWhole(read, fill: fill, session) }
        case .prefetch(let id, let flist):
            guard let entry = session.flist(flist) else { return refuse(id, flist, client) }
            run(id, client) { await self.prefetch(id, entry, client) }
        case .close(let flist): session.close(flist)
        case .release(let content): session.release(content)
        }
    }

    private func refuse(_ id: UInt32, _ flist: UInt32, _ client: ReadConnection) {
        client.send(.failed(id: id, code: .badRequest, message: "no flist is open as number \(flist)"))
    }

    /// Works on a request until its answer is sent, or not wanted.
    private func run(_ id: UInt32, _ client: ReadConnection, _ body: @escaping @Sendable () async -> Void) {
        let task = Task { await body() }
        client.onCancel(of: id) { task.cancel() }
    }

    // MARK: Flists

    private func open(_ id: UInt32, _ name: String, _ session: ReadSession) async {
        let client = session.client
        do {
            let entry: FlistTable.Entry
            do {
                entry = try await opener.open(name)
            } catch NodeError.notFound(let reason) where !isRestored.value {
                client.send(.failed(id: id, code: .busy, message: "the daemon is starting: \(reason)"))
                return
            }
            let digest = entry.record.digest
            let path = entry.flist.file.path
            let (isLegacy, tables, descriptor) = try await parts.threads.run { [files] in
                let isLegacy = if case .legacy = try FlistFormat(path: path) { true } else { false }
                let tables = isLegacy ? files.indexPath(of: digest) : path
                let descriptor = Glibc.open(tables, O_RDONLY | O_CLOEXEC)
                guard descriptor >= 0 else { throw NodeError.unavailable("\(tables): \(String(cString: strerror(errno)))") }
                return (isLegacy, tables, SharedDescriptor(owned: descriptor))
            }
            guard let number = session.add(entry) else {
                client.send(.failed(id: id, code: .busy, message: "too many flists are open on this connection"))
                return
            }
            client.send(
                .opened(id: id, flist: number, digest: digest, isLegacy: isLegacy, path: path, tables: tables), descriptor: descriptor)
        } catch {
            fail(id, error, client)
        }
    }

    private func prefetch(_ id: UInt32, _ entry: FlistTable.Entry, _ client: ReadConnection) async {
        do {
            _ = try await prefetcher.start(entry, scope: .node, copies: 1, pin: false, only: nil)
            parts.wakeTicker()
            client.send(.done(id: id))
        } catch {
            fail(id, error, client)
        }
    }

    /// Turns what parts of the node throw into the words of the protocol.
    func fail(_ id: UInt32, _ error: any Error, _ client: ReadConnection) {
        let (code, message): (ReadErrorCode, String) =
            switch error {
            case NodeError.notFound(let line): (.notFound, line)
            case NodeError.badRequest(let line): (.badRequest, line)
            case let error as FlistError: (error.code == .notFound ? .notFound : .damaged, error.message)
            case FetchFailure.missing: (.notFound, "\(error)")
            case let error as DecodedFileError:
                if case .missing = error { (.notFound, "\(error)") } else { (.notKept, "\(error)") }
            case let error as BlockError: (.damaged, "\(error)")
            // Whoever took the request back has been told so; what remains is this node's end.
            case is CancellationError: (.stopping, "the daemon is stopping")
            default: (.unavailable, "\(error)")
            }
        client.send(.failed(id: id, code: code, message: message))
    }

    // MARK: Ahead

    /// Notes a read, and gets ahead what will be asked for next.
    func follow(_ read: Read, _ file: DecodedFile, _ wanted: Range<Int>, _ session: ReadSession) {
        guard read.priority == .foreground else { return }
        let (wished, run) = session.read(read.key, wanted, of: file.blockCount)
        let next = run < Self.leastRunOverLine ? cached(wished, of: read.key) : wished
        guard !next.isEmpty, ahead.load(ordering: .relaxed) < Self.maxAhead, file.ready(next) == nil else { return }
        ahead.add(next.count, ordering: .relaxed)
        let ticket = decoded.fillAhead(file, next, priority: .readAhead, from: source(read.key.flist)) { [weak self] in
            self?.ahead.subtract(next.count, ordering: .relaxed)
        }
        session.keep(ticket)
    }

    /// The beginning of `blocks` that is in the cache.
    private func cached(_ blocks: Range<Int>, of key: OpenInodes.Key) -> Range<Int> {
        guard !blocks.isEmpty, let refs = inodes.known(key)?.blocks else { return 0..<0 }
        let end = blocks.first { $0 >= refs.count || !parts.store.contains(refs[$0].id) } ?? blocks.upperBound
        return blocks.lowerBound..<end
    }

    func source(_ flist: FlistDigest) -> FetchedBlocks { FetchedBlocks(fetcher: fetcher, flist: flist) }

    // MARK: Completing files

    /// Completes the file in the background, once.
    func complete(_ inode: OpenInode, _ file: DecodedFile, of flist: FlistDigest) {
        fills.withLock { fills in
            guard !fills.isStopped, fills.wanted.count < Self.maxFills, fills.wanted.insert(file.number).inserted else { return }
            fills.waiting.append((inode, flist))
            guard fills.count < Self.fillsAtATime else { return }
            fills.count += 1
            fills.running.removeAll { $0.isCancelled }
            fills.running.append(Task { await self.completeAll() })
        }
    }

    private func completeAll() async {
        while true {
            let next = fills.withLock { fills -> (inode: OpenInode, flist: FlistDigest)? in
                guard !fills.isStopped, !fills.waiting.isEmpty else {
                    fills.count -= 1
                    return nil
                }
                return fills.waiting.removeFirst()
            }
            guard let next else { return }
            guard let file = next.inode.decoded else { continue }
            do {
                for start in stride(from: 0, to: file.blockCount, by: Self.fillWindow) {
                    let window = start..<min(file.blockCount, start + Self.fillWindow)
                    if file.ready(window) == nil { try await decoded.fill(file, window, priority: .prefetch, from: source(next.flist)) }
                }
            } catch {
                // Whoever reads it is told; whoever asks for the whole once more begins anew.
                parts.logger.debug("a decoded file is not completed", metadata: ["reason": "\(error)"])
            }
            fills.withLock { _ = $0.wanted.remove(file.number) }
        }
    }

    /// Nothing is completed any more.
    func stop() {
        let running = fills.withLock { fills in
            fills.isStopped = true
            defer { (fills.running, fills.waiting) = ([], []) }
            return fills.running
        }
        for task in running { task.cancel() }
    }
}
