internal import BlockingThreads
public import ChunkModel
internal import Glibc

/// A `dir://` store: files below a directory, in the split or the flat layout. Reads only, creates nothing.
public final class DirUpstream: UpstreamStore {
    /// Threads that read; a fetch beyond them waits.
    static let threads = 2

    public let label: String
    private let directory: String
    private let counters: UpstreamCounters
    private let readers = BlockingThreads(count: threads)

    /// - Parameter url: `dir:///absolute/path`, taken literally (no %-escapes, as rfs writes it). The directory need not exist yet.
    /// - Throws: `.unusable` for anything else.
    public init(url: String, counters: UpstreamCounters = UpstreamCounters()) throws(UpstreamError) {
        let path = url.hasPrefix("dir://") ? url.dropFirst("dir://".count) : ""
        guard path.hasPrefix("/"), !path.utf8.contains(0) else {
            throw .unusable(line: "\(UpstreamURL.label(of: url)): a directory store is written dir:///absolute/path")
        }
        directory = String(path)
        label = url
        self.counters = counters
    }

    public func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        if Task.isCancelled { throw .cancelled }
        let read = await readers.run { [directory, label, counters] in
            let result = Result { () throws(UpstreamError) in try Self.read(id, below: directory, label: label, pool: pool) }
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
        return try read.get()
    }

    public func noteBadContent() { counters.add { $0.badContent += 1 } }

    /// Blocking.
    private static func read(
        _ id: ChunkID, below directory: String, label: String, pool: ChunkBufferPool
    ) throws(UpstreamError) -> ChunkBuffer {
        for layout in [StoreLayout.split, .flat] {
            let path = "\(directory)/\(layout.name(of: id))"
            // Not blocking: opening a fifo would wait for its writer.
            let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
            guard file >= 0 else {
                if errno == ENOENT || errno == ENOTDIR { continue }
                throw failed(label, id, String(cString: strerror(errno)), retryable: true)
            }
            defer { close(file) }
            return try read(file, id, label: label, pool: pool)
        }
        var status = stat()
        guard stat(directory, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw .failed(retryable: true, line: "\(label): there is no such directory")
        }
        throw .missing
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
