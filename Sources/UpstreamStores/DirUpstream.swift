internal import BlockingThreads
public import ChunkModel
internal import Glibc

/// A `dir://` store: files below a directory, in the split or the flat layout. Reads only, creates nothing.
public final class DirUpstream: UpstreamStore {
    /// Threads that read; a fetch beyond them waits.
    static let threads = 2

    public var label: String { gate.label }
    private let directories: [String]
    private let gate: UpstreamGate
    private let rate: ReceiveRate
    private let readers = BlockingThreads(count: threads)

    /// - Parameters:
    ///   - url: `dir:///absolute/path`. The directory need not exist yet.
    ///   - gate: of this upstream, whose label is the URL.
    ///   - rate: a directory may lie behind the line too; what is read counts.
    /// - Throws: `.unusable` for anything else.
    init(url: String, gate: UpstreamGate, rate: ReceiveRate = ReceiveRate()) throws(UpstreamError) {
        self.rate = rate
        directories = try Self.paths(of: url)
        self.gate = gate
    }

    /// The directories that `dir:///path` may mean: as it stands, which is how rfs reads it, and with %-escapes decoded, which is how a
    /// path with a space can be written as a URL.
    ///
    /// - Returns: one or two.
    static func paths(of url: String) throws(UpstreamError) -> [String] {
        let path = url.hasPrefix("dir://") ? String(url.dropFirst("dir://".count)) : ""
        guard path.hasPrefix("/"), !path.utf8.contains(0), path.utf8.count <= UpstreamURL.maxBytes else {
            throw .unusable(line: "\(UpstreamURL.label(of: url)): a directory store is written dir:///absolute/path")
        }
        guard let decoded = PercentText.decoded(path), decoded != path else { return [path] }
        return [path, decoded]
    }

    public func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        try await gate.run(priority) { () async throws(AttemptFailure) in try await attempt(id, priority, pool) }
    }

    /// A directory that fails costs nothing to ask again: it never rests.
    private func attempt(_ id: ChunkID, _ priority: FetchPriority, _ pool: ChunkBufferPool) async throws(AttemptFailure) -> ChunkBuffer {
        let counters = gate.counters
        do { try await rate.ready(priority) } catch { throw AttemptFailure(.cancelled) }
        let read = await readers.run { [directories, label] in
            let result = Result { () throws(UpstreamError) in try Self.read(id, below: directories, label: label, pool: pool) }
            switch result {
            case .success(let buffer):
                counters.add {
                    $0.chunks += 1
                    $0.directoryBytes += buffer.count
                }
            case .failure(.missing): counters.add { $0.missing += 1 }
            case .failure: counters.add(failure: .file)
            }
            return result
        }
        switch read {
        case .success(let buffer):
            rate.add(buffer.count)
            return buffer
        case .failure(let error): throw AttemptFailure(error)
        }
    }

    public func noteBadContent() { gate.noteBadContent() }

    /// Blocking.
    private static func read(
        _ id: ChunkID, below directories: [String], label: String, pool: ChunkBufferPool
    ) throws(UpstreamError) -> ChunkBuffer {
        for path in directories.flatMap({ directory in [StoreLayout.split, .flat].map { "\(directory)/\($0.name(of: id))" } }) {
            // Not blocking: opening a fifo would wait for its writer.
            let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
            guard file >= 0 else {
                if errno == ENOENT || errno == ENOTDIR { continue }
                throw failed(label, id, String(cString: strerror(errno)), retryable: true)
            }
            defer { close(file) }
            return try read(file, id, label: label, pool: pool)
        }
        guard directories.contains(where: isDirectory) else {
            throw .failed(retryable: true, line: "\(label): there is no such directory")
        }
        throw .missing
    }

    static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func read(_ file: Int32, _ id: ChunkID, label: String, pool: ChunkBufferPool) throws(UpstreamError) -> ChunkBuffer {
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw failed(label, id, "not a regular file", retryable: false)
        }
        guard let size = Int(exactly: status.st_size), size <= ChunkLimits.maxStoredBytes else {
            throw failed(label, id, "longer than the \(ChunkLimits.maxStoredBytes) bytes that a chunk may have", retryable: false)
        }
        let buffer = pool.take(capacity: max(size, 1))
        while buffer.count < size {
            let got = pread(file, buffer.base + buffer.count, size - buffer.count, buffer.count)
            if got < 0, errno == EINTR { continue }
            guard got > 0 else {
                throw failed(label, id, got == 0 ? "became shorter while it was read" : String(cString: strerror(errno)), retryable: true)
            }
            buffer.count += got
        }
        return buffer
    }

    private static func failed(_ label: String, _ id: ChunkID, _ cause: String, retryable: Bool) -> UpstreamError {
        .failed(retryable: retryable, line: "\(label): chunk \(id.hex.prefix(12))…: \(cause)")
    }
}
