internal import ChunkModel
public import Flist
internal import Glibc
internal import SQLiteFile

/// Which of the two formats a file is in, and how either becomes an `FlistFile`.
public enum FlistFormat: Sendable {
    /// An `.fl`, read as it is.
    case fl
    /// A legacy `.flist` (FORMATS.md §2): an archive, read through an index that is made from it.
    case legacy

    /// Judged by the first bytes. What is neither is taken for an `.fl`, which says what is wrong with it.
    ///
    /// - Throws: `FlistError.Code.unreadable`.
    public init(path: String) throws(FlistError) {
        let shown = FlistPath.quoted(Array(path.utf8))
        // Not blocking: a pipe of that name must not hold us up.
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { throw FlistError(.unreadable, "\(shown): \(String(cString: strerror(errno)))") }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw FlistError(.unreadable, "\(shown): not a regular file")
        }
        var head = [UInt8](repeating: 0, count: 512)
        let count = pread(file, &head, 512, 0)
        guard count >= 0 else { throw FlistError(.unreadable, "\(shown): \(String(cString: strerror(errno)))") }
        self = Self.isArchive(Array(head.prefix(count))) ? .legacy : .fl
    }

    /// Gzip data, or a tar header: whose checksum is right, since old ones have no mark.
    static func isArchive(_ head: [UInt8]) -> Bool {
        if head.starts(with: [0x1f, 0x8b]) { return true }
        guard head.count == 512, !head.starts(with: "SQLite format 3".utf8) else { return false }
        let field = head[148..<156].filter { $0 != 0 && $0 != UInt8(ascii: " ") }
        guard !field.isEmpty, let stated = Int(String(decoding: field, as: UTF8.self), radix: 8) else { return false }
        let sum = head.indices.reduce(0) { $0 + ((148..<156).contains($1) ? 32 : Int(head[$1])) }
        return sum == stated
    }

    /// Opens the flist at `path`, whichever of the two it is. **Blocks**, for seconds when the index of a large legacy flist has to be made.
    ///
    /// - Parameters:
    ///   - index: where the index of a legacy flist is kept: used when it is there and of this version, else made. `nil`: it is made, and
    ///     has no name any more when this returns.
    ///   - scratch: a directory for temporary files as large as the flist's database, on the device of `index`.
    ///   - check: called again and again while the index is made; what it throws ends that.
    /// - Throws: `FlistError`, with the path in front.
    public static func open(
        path: String, index: String? = nil, scratch: String, check: () throws -> Void = {}
    ) throws(FlistError) -> FlistFile {
        guard case .legacy = try FlistFormat(path: path) else { return try FlistFile(path: path) }
        if let index, IndexWriter.isCurrent(index), let file = try? FlistFile(path: path, index: index) { return file }
        let made = try ScratchFile(in: scratch)
        try makeIndex(of: path, at: made.path, scratch: scratch, check: check)
        guard let index else { return try FlistFile(path: path, index: made.path) }
        try made.publish(as: index, mode: 0o600)
        return try FlistFile(path: path, index: index)
    }

    /// Writes what the legacy flist at `path` says as an `.fl` to `target`, an empty file.
    static func makeIndex(
        of path: String, at target: String, scratch: String, routes: ([Route]) throws -> [Route] = { $0 }, check: () throws -> Void
    ) throws(FlistError) {
        let shown = FlistPath.quoted(Array(path.utf8))
        let database = try ScratchFile(in: scratch)
        let router = try LegacyArchive.read(path, databaseTo: database.path, check: check)
        do {
            try IndexBuilder.build(LegacyDatabase(path: database.path), router: router, to: target, routes: routes, check: check)
        } catch let error as FlistError {
            throw FlistError(error.code, "\(shown): \(error.message)")
        } catch let error as SQLiteError where error.isDamage {
            throw FlistError(.damaged, "\(shown): damaged legacy .flist (\(error.message))")
        } catch let error as CapnpError {
            throw FlistError(.damaged, "\(shown): damaged legacy .flist (\(error.reason))")
        } catch {
            throw FlistError(.unreadable, "\(shown): \(error)")
        }
    }
}
