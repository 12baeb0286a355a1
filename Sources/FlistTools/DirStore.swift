internal import BlockingThreads
public import ChunkModel
internal import Flist
internal import Glibc
internal import LocalFiles
internal import Synchronization

/// A directory of chunks: `path/XX/HEX`, and when reading also `path/HEX` (FORMATS.md §1.5).
public final class DirStore: BlockingChunkSink {
    /// For callers that may not block.
    private static let threads = BlockingThreads(count: 2)

    public let path: String
    public var label: String { "dir://" + path }
    private let nextTemporary = Atomic<UInt64>(0)

    /// Nothing is created before the first chunk is stored.
    public init(path: String) { self.path = path }

    /// - Parameter url: `dir:///absolute/path`; %-escapes are decoded unless a directory of the literal name exists.
    public init(url: String) throws {
        guard url.hasPrefix("dir:///"), !url.utf8.contains(0) else {
            throw ToolError("\(FlistPath.quoted(Array(url.utf8))): not a directory store (dir:///absolute/path)")
        }
        let literal = String(url.dropFirst("dir://".count))
        var status = stat()
        let isThere = stat(literal, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        path = isThere ? literal : PercentText.decoded(literal) ?? literal
    }

    /// `dir://` with the absolute form of `path`, which need not exist.
    public static func url(path: String) throws -> String {
        if path.hasPrefix("/") { return "dir://" + path }
        guard let here = getcwd(nil, 0) else { throw ToolError.system("working directory") }
        defer { free(here) }
        return "dir://" + String(cString: here) + "/" + path
    }

    private func splitPath(_ id: ChunkID) -> String { "\(path)/\(id.hex.prefix(2))/\(id.hex)" }

    /// Where the chunk may lie when it is read.
    func places(_ id: ChunkID) -> [String] { [splitPath(id), "\(path)/\(id.hex)"] }

    public func contains(_ id: ChunkID) async throws -> Bool { try await Self.threads.run { try self.containsNow(id) } }
    public func store(_ chunk: Chunk) async throws { try await Self.threads.run { try self.storeNow(chunk) } }

    public func containsNow(_ id: ChunkID) throws -> Bool {
        var status = stat()
        return stat(splitPath(id), &status) == 0 && status.st_mode & S_IFMT == S_IFREG && status.st_size > 0
    }

    public func storeNow(_ chunk: Chunk) throws {
        let id = chunk.id
        let directory = "\(path)/\(id.hex.prefix(2))"
        let number = nextTemporary.wrappingAdd(1, ordering: .relaxed).oldValue
        let temporary = "\(directory)/.\(id.hex).\(getpid()).\(number).tmp"
        var file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        if file < 0, errno == ENOENT {
            mkdir(path, 0o755)
            mkdir(directory, 0o755)
            file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        }
        guard file >= 0 else { throw ToolError.system("store \(FlistPath.quoted(Array(path.utf8)))") }
        do {
            defer { close(file) }
            try chunk.buffer.withBytes {
                try FileBytes.write($0, to: file, at: 0, what: "store \(FlistPath.quoted(Array(path.utf8)))")
            }
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, splitPath(id)) == 0 else {
            let error = ToolError.system("store \(FlistPath.quoted(Array(path.utf8)))")
            unlink(temporary)
            throw error
        }
    }

    /// The chunk, verified; `nil` when it is in neither place.
    ///
    /// - Throws: when what lies there cannot be read, is over `ChunkLimits.maxStoredBytes`, or does not hash to `id`.
    public func load(_ id: ChunkID, pool: ChunkBufferPool) throws -> Chunk? {
        for candidate in places(id) {
            let file = open(candidate, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
            guard file >= 0 else {
                if errno == ENOENT || errno == ENOTDIR { continue }
                throw ToolError.system("block \(id.hex)")
            }
            defer { close(file) }
            var status = stat()
            guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                throw ToolError("block \(id.hex): what lies in its place is no file")
            }
            guard status.st_size <= ChunkLimits.maxStoredBytes else {
                throw ToolError("block \(id.hex): \(status.st_size) bytes are no chunk")
            }
            let buffer = pool.take(capacity: Int(status.st_size))
            buffer.count = try FileBytes.read(file, into: buffer.base, count: Int(status.st_size), at: 0, what: "block \(id.hex)")
            guard let chunk = Chunk(verifying: buffer, as: id) else { throw ToolError("block \(id.hex): content does not match its id") }
            return chunk
        }
        return nil
    }
}

extension FileBytes {
    /// - Returns: bytes read; fewer than `count` only at the end of the file.
    static func read(_ file: Int32, into target: UnsafeMutableRawPointer, count: Int, at offset: Int, what: @autoclosure () -> String)
        throws
        -> Int
    {
        let got = read(into: UnsafeMutableRawBufferPointer(start: target, count: count), from: file, at: Int64(offset))
        guard got >= 0 else { throw ToolError.system(what(), code: Int32(-got)) }
        return got
    }

    static func write(_ bytes: UnsafeRawBufferPointer, to file: Int32, at offset: Int, what: @autoclosure () -> String) throws {
        let code = write(bytes, to: file, at: Int64(offset))
        guard code == 0 else { throw ToolError.system(what(), code: code) }
    }
}
