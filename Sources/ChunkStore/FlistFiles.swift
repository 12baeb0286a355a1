public import ChunkModel
internal import Glibc
internal import LocalFiles
internal import Synchronization

/// The flist files that the node knows, `flists/HEX.fl` by their digest, whatever format they are in. They don't count into the quota of
/// the chunks. Beside one may lie `HEX.index`: what the node made of it to read it by; it goes with the flist, and is nobody else's.
///
/// Blocking. A file appears under its name only when all its bytes are there and on the device; one user at a time (the holder of the cache
/// directory's lock), from any thread.
public final class FlistFiles: Sendable {
    /// The largest flist that is taken in: a hundred million inodes. Larger ones are refused before or while they are copied.
    public static let maxBytes: Int64 = 4 << 30
    /// Bytes that are read, hashed and written at once.
    static let copyBytes = 1 << 20
    private static let suffix = ".fl"
    private static let indexSuffix = ".index"

    public let directory: String
    private let counter = Atomic<UInt64>(0)

    /// A file and what is known of it without reading it.
    public struct Entry: Equatable, Sendable {
        public let digest: FlistDigest
        public let bytes: Int64
        public let path: String

        public init(digest: FlistDigest, bytes: Int64, path: String) { (self.digest, self.bytes, self.path) = (digest, bytes, path) }
    }

    /// Creates the directory, and removes what a stopped process left half-written.
    public init(directory: String) throws {
        self.directory = directory
        try Posix.makeDirectories(directory + "/tmp")
        var leftovers: [String] = []
        try Posix.forEachName(in: directory + "/tmp", at: AT_FDCWD) { leftovers.append($0) }
        for name in leftovers { unlink(directory + "/tmp/" + name) }
        // Indexes whose flist is gone: the process stopped between the two.
        var orphans: [String] = []
        try Posix.forEachName(in: directory, at: AT_FDCWD) { file in
            guard file.hasSuffix(Self.indexSuffix), let digest = FlistDigest(hex: file.dropLast(Self.indexSuffix.count)) else { return }
            if self.path(of: digest) == nil { orphans.append(file) }
        }
        for name in orphans { unlink(directory + "/" + name) }
    }

    /// Where an index of the flist belongs. Nothing need be there.
    public func indexPath(of digest: FlistDigest) -> String { directory + "/" + digest.hex + Self.indexSuffix }

    /// For files that are being made; swept at the next start.
    public var scratch: String { directory + "/tmp" }

    /// Copies the file at `path` in, hashing it on the way.
    ///
    /// - Parameter expected: what its digest must be, if that is known.
    /// - Throws: `ChunkStoreError`: `.failed` (also when it is no regular file), `.tooLarge`, `.wrongDigest`.
    @discardableResult
    public func add(copying path: String, expecting expected: FlistDigest? = nil) throws -> Entry {
        let source = try Self.source(path)
        return try add(expecting: expected, from: path) { try Self.read(into: $0, from: source, path, at: $1) }
    }

    /// The digest of any file, which is not taken in.
    ///
    /// - Throws: `ChunkStoreError`: `.failed` (also when it is no regular file), `.tooLarge`.
    public static func digest(of path: String) throws -> FlistDigest {
        let source = try source(path)
        let hash = Blake2bStream()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: copyBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var offset: Int64 = 0
        while offset < maxBytes {
            let count = try read(into: buffer, from: source, path, at: offset)
            if count == 0 { break }
            hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            offset += Int64(count)
        }
        return FlistDigest(hash.finish())
    }

    private static func source(_ path: String) throws -> FileHandle {
        let source = try Posix.handle(path, O_RDONLY | O_NONBLOCK)
        guard let status = Posix.status(of: source.fd), Posix.isRegular(status) else {
            throw ChunkStoreError.failed(action: "read flist", path: path, code: EINVAL)
        }
        guard Int64(status.st_size) <= maxBytes else { throw ChunkStoreError.tooLarge(what: "flist " + path, limit: maxBytes) }
        return source
    }

    private static func read(
        into target: UnsafeMutableRawBufferPointer, from source: FileHandle, _ path: String, at offset: Int64
    ) throws -> Int {
        let count = FileBytes.read(into: target, from: source.fd, at: offset)
        guard count >= 0 else { throw ChunkStoreError.failed(action: "read flist", path: path, code: Int32(-count)) }
        return count
    }

    /// Takes in the flist whose bytes these are.
    @discardableResult
    public func add(_ bytes: [UInt8], expecting expected: FlistDigest? = nil) throws -> Entry {
        try add(expecting: expected, from: "bytes") { target, offset in
            let part = bytes[Int(offset)..<min(bytes.count, Int(offset) + target.count)]
            target.copyBytes(from: part)
            return part.count
        }
    }

    /// Where the flist lies; `nil` when it is not here.
    public func path(of digest: FlistDigest) -> String? {
        let path = name(of: digest)
        var status = stat()
        return stat(path, &status) == 0 && Posix.isRegular(status) ? path : nil
    }

    /// Removes the flist and its signature.
    ///
    /// - Returns: whether it was there. Whoever has it open keeps reading it.
    @discardableResult
    public func remove(_ digest: FlistDigest) throws -> Bool {
        removeSignature(of: digest)
        unlink(indexPath(of: digest))
        if unlink(name(of: digest)) == 0 { return true }
        let code = errno
        guard code == ENOENT else { throw ChunkStoreError.failed(action: "remove", path: name(of: digest), code: code) }
        return false
    }

    /// All flists, in the order of their digests.
    public func list() throws -> [Entry] {
        var entries: [Entry] = []
        try Posix.forEachName(in: directory, at: AT_FDCWD) { file in
            guard file.hasSuffix(Self.suffix), let digest = FlistDigest(hex: file.dropLast(Self.suffix.count)) else { return }
            let path = name(of: digest)
            var status = stat()
            guard stat(path, &status) == 0, Posix.isRegular(status) else { return }
            entries.append(Entry(digest: digest, bytes: Int64(status.st_size), path: path))
        }
        return entries.sorted { $0.digest < $1.digest }
    }

    /// Begins to put an flist together from pieces that come in any order.
    ///
    /// - Parameter byteCount: its size as its sender says.
    /// - Throws: `ChunkStoreError.tooLarge` beyond `maxBytes`.
    public func assemble(_ digest: FlistDigest, byteCount: Int64) throws -> PieceWriter {
        guard byteCount >= 0, byteCount <= Self.maxBytes else {
            throw ChunkStoreError.tooLarge(what: "flist \(digest)", limit: Self.maxBytes)
        }
        return try PieceWriter(digest: digest, byteCount: byteCount, files: self)
    }

    // MARK: writing

    private func add(expecting expected: FlistDigest?, from source: String, _ next: (UnsafeMutableRawBufferPointer, Int64) throws -> Int)
        throws
        -> Entry
    {
        let file = try TemporaryFlist(in: self)
        let hash = Blake2bStream()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.copyBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var offset: Int64 = 0
        while true {
            let count = try next(buffer, offset)
            if count == 0 { break }
            guard offset + Int64(count) <= Self.maxBytes else {
                throw ChunkStoreError.tooLarge(what: "flist " + source, limit: Self.maxBytes)
            }
            let part = UnsafeRawBufferPointer(rebasing: buffer[..<count])
            hash.update(part)
            try file.write(part, at: offset)
            offset += Int64(count)
        }
        let digest = FlistDigest(hash.finish())
        if let expected, expected != digest { throw ChunkStoreError.wrongDigest(expected: expected, found: digest) }
        return Entry(digest: digest, bytes: offset, path: try file.publish(as: name(of: digest)))
    }

    func name(of digest: FlistDigest) -> String { directory + "/" + digest.hex + Self.suffix }

    func temporaryName() -> String { directory + "/tmp/\(counter.wrappingAdd(1, ordering: .relaxed).newValue)" }
}

/// A file below `flists/tmp` that goes away unless it is published.
final class TemporaryFlist: Sendable {
    let path: String
    let handle: FileHandle

    init(in files: FlistFiles) throws {
        path = files.temporaryName()
        handle = try Posix.handle(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644, action: "create")
    }

    // After publishing, no file has this name any more.
    deinit { unlink(path) }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64) throws {
        let code = FileBytes.write(bytes, to: handle.fd, at: offset)
        guard code == 0 else { throw ChunkStoreError.failed(action: "write flist", path: path, code: code) }
    }

    func publish(as name: String) throws -> String {
        guard fsync(handle.fd) == 0, rename(path, name) == 0 else {
            throw ChunkStoreError.failed(action: "write flist", path: name, code: errno)
        }
        return name
    }
}
