internal import BlockingThreads
public import ChunkModel
internal import Glibc
internal import Synchronization

/// A `dir://` store that chunks are put into: `path/XX/HEX`, as rfs writes it.
///
/// A chunk appears whole or not at all: it is written to a temporary file beside its place and renamed. Nothing is synced to the device
/// for each chunk, which would cost a disk write each: after a power loss the newest chunks may be missing or, on some file systems,
/// empty; `contains` takes an empty file as missing, and readers check every chunk against its id.
public final class DirSink: ChunkSink {
    /// Threads that write; a chunk beyond them waits.
    static let threads = 4

    public var label: String { gate.label }
    private let directories: [String]
    private let gate: UpstreamGate
    private let writers = BlockingThreads(count: threads)
    private let nextTemporary = Atomic<UInt64>(0)

    /// - Parameters:
    ///   - url: `dir:///absolute/path`; %-escapes are decoded unless a directory of the literal name exists. Made when the first chunk is
    ///     stored, in a parent that exists.
    ///   - gate: of this upstream, whose label is the URL.
    /// - Throws: `.unusable` for anything else.
    init(url: String, gate: UpstreamGate) throws(UpstreamError) {
        directories = try DirUpstream.paths(of: url)
        self.gate = gate
    }

    /// Asked of the split layout and the flat one.
    public func contains(_ id: ChunkID) async throws -> Bool {
        try Task.checkCancellation()
        return await writers.run { [directories] in
            let directory = Self.directory(directories)
            return [StoreLayout.split, .flat].contains { layout in
                var status = stat()
                return stat("\(directory)/\(layout.name(of: id))", &status) == 0 && status.st_mode & S_IFMT == S_IFREG && status.st_size > 0
            }
        }
    }

    /// - Throws: `UpstreamError` with one line; a full disk is not taken for a passing failure.
    public func store(_ chunk: Chunk) async throws {
        try await gate.run(.prefetch) { () async throws(AttemptFailure) in
            let number = nextTemporary.wrappingAdd(1, ordering: .relaxed).oldValue
            let written = await writers.run { [directories] in Self.write(chunk, below: Self.directory(directories), number) }
            guard case .failure(let cause) = written else { return }
            gate.counters.add(failure: .file)
            throw AttemptFailure(
                .failed(retryable: false, line: "\(label): chunk \(chunk.id.hex.prefix(12))… cannot be stored: \(cause.line)"))
        }
        gate.noteStored(chunk)
    }

    private struct Cause: Error {
        let line: String
        init() { line = String(cString: strerror(errno)) }
    }

    /// Blocking.
    private static func directory(_ candidates: [String]) -> String {
        candidates.first(where: DirUpstream.isDirectory) ?? candidates[candidates.count - 1]
    }

    /// Blocking.
    private static func write(_ chunk: Chunk, below directory: String, _ number: UInt64) -> Result<Void, Cause> {
        let place = "\(directory)/\(StoreLayout.split.name(of: chunk.id))"
        let folder = "\(directory)/\(chunk.id.hex.prefix(2))"
        let temporary = "\(folder)/.\(chunk.id.hex).\(getpid()).\(number).tmp"
        var file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        if file < 0, errno == ENOENT {
            mkdir(directory, 0o755)
            mkdir(folder, 0o755)
            file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        }
        guard file >= 0 else { return .failure(Cause()) }
        let written = chunk.buffer.withBytes { bytes -> Result<Void, Cause> in
            var done = 0
            while done < bytes.count {
                let wrote = Glibc.write(file, bytes.baseAddress! + done, bytes.count - done)
                if wrote < 0, errno == EINTR { continue }
                guard wrote > 0 else { return .failure(Cause()) }
                done += wrote
            }
            return .success(())
        }
        // The error of a delayed write (NFS, quota) comes with the close.
        let closed = close(file) == 0 ? written : .failure(Cause())
        if case .failure(let cause) = written.flatMap({ closed }) {
            unlink(temporary)
            return .failure(cause)
        }
        guard rename(temporary, place) == 0 else {
            let cause = Cause()
            unlink(temporary)
            return .failure(cause)
        }
        return .success(())
    }
}
