public import BlockCodec
public import ChunkModel
internal import SQLiteFile
internal import Synchronization

/// An rfs `.fl` file, opened for reading (FORMATS.md §1, §4): never written, never locked, nothing in it is run.
///
/// Opening reads the schema and the root, not the tables; all else is looked up when asked for. **Calls block** on the disk
/// and on a lock: make them on a thread pool, not on an event loop or the cooperative pool. The file must not be changed in
/// place while it is open; replacing it by rename is fine.
public final class FlistFile: Sendable {
    /// The root's inode number.
    static let rootIno: Int64 = 1
    /// Symbolic links that `resolve` follows in all; one more is `FlistError.Code.linkLoop`.
    public static let maxLinks = 40
    /// Directories inside each other that are walked into; deeper ones are reported and left out.
    public static let maxDepth = 4096
    /// Blocks of one file that `blocks(of:)` returns (2 TiB of content); files with more are refused.
    public static let maxBlocksPerFile = 4 << 20
    /// Route and tag rows that are read; further ones are noted and left out.
    public static let maxRouteRows = 4096
    public static let maxTagRows = 1024
    /// Threads that look things up at once; further ones wait for one of them.
    private static let connectionCount = 3

    /// The flist itself; what is read may be an index made from it.
    public let path: String
    public let routes: [Route]
    public let tags: [FlistTag]
    /// How blocks with ids of 32 bytes are coded: rfs's way unless a tag says otherwise; `nil` when the tag names a way that this
    /// version does not know.
    public let blockCoding: BlockCoding?
    /// What was ignored while opening, one line each, nothing of it quoted any more.
    public let notes: [String]
    private let rootEntry: FlistEntry
    private let slots: [Slot]
    private let nextSlot = Atomic<Int>(0)
    /// Directories whose pages are being asked for, by what the next call will pass; bounded to `keptReaders`.
    let readers = Mutex<[DirectoryPosition: FlistDirectoryReader]>([:])
    static let keptReaders = 4

    private final class Slot: Sendable {
        let connection: Mutex<FlistConnection>
        init(_ connection: FlistConnection) { self.connection = Mutex(connection) }
    }

    /// Opens the file and checks that it is an flist with a usable root.
    ///
    /// - Parameter index: an `.fl` that was made from a file of another format, to be read in its place.
    public init(path: String, index: String? = nil) throws(FlistError) {
        self.path = path
        let tables = index ?? path
        try FlistSchema.recognise(path: tables)
        let shown = FlistPath.quoted(Array(path.utf8))
        do {
            let first = try FlistConnection(path: tables)
            rootEntry = try Self.checkedRoot(first)
            var notes = first.schema.notes
            try Self.readNotes(first.database, notes: &notes)
            if let exact = try Self.readExactRoutes(first.database, notes: &notes) {
                routes = exact
            } else {
                routes = first.schema.hasRoutes ? try Self.readRoutes(first.database, notes: &notes) : []
            }
            tags = first.schema.hasTags ? try Self.readTags(first.database, notes: &notes) : []
            self.notes = notes
            blockCoding = tags.first { $0.key == FlistTag.codec }.map { BlockCoding(name: $0.value) } ?? .rfs
            var slots = [Slot(first)]
            while slots.count < Self.connectionCount { slots.append(Slot(try FlistConnection(path: tables))) }
            self.slots = slots
        } catch let error as FlistError {
            throw FlistError(error.code, "\(shown): \(error.message)")
        } catch {
            throw Self.translated(error, shown)
        }
    }

    private static func checkedRoot(_ connection: FlistConnection) throws -> FlistEntry {
        switch try connection.inode(rootIno) {
        case nil: throw FlistError(.damaged, "no root inode (ino 1)")
        case .refused(let problem)?: throw FlistError(.damaged, "unusable root inode: \(problem.reason)")
        case .good(let root)?:
            guard root.parent == 0 else { throw FlistError(.damaged, "the root inode has a parent (inode \(root.parent))") }
            guard root.isDirectory else { throw FlistError(.damaged, "the root inode is no directory") }
            return FlistEntry(
                ino: root.ino, parent: 0, name: [UInt8(ascii: "/")], kind: .directory, permissions: root.permissions, uid: root.uid,
                gid: root.gid, size: 0, mtime: root.mtime, ctime: root.ctime)
        }
    }

    /// Calls `body` with each row of a small table; `limit` of them at most. A row with a value over SQLite's limit is noted and
    /// passed over.
    static func forEachRow(
        of table: String, columns: String, limit: Int, _ database: SQLiteDatabase, notes: inout [String],
        _ body: (Int, SQLiteStatement, inout [String]) -> Void
    ) throws {
        guard let numbers = try? database.prepare("select rowid from \(table) order by rowid limit \(limit + 1)"),
            let one = try? database.prepare("select \(columns) from \(table) where rowid = ?")
        else {
            notes.append("table \(table) has no row numbers; ignored")
            return
        }
        var row = 0
        while try numbers.step() {
            row += 1
            guard row <= limit else {
                notes.append("more than \(limit) rows in table \(table); the rest is ignored")
                return
            }
            guard let number = numbers.integer(0) else { continue }
            one.bind(number, at: 1)
            defer { one.reset() }
            do {
                if try one.step() { body(row, one, &notes) }
            } catch let error as SQLiteError where error.isTooBig {
                notes.append("\(table) \(row) is ignored: over a megabyte")
            }
        }
    }

    private static func readRoutes(_ database: SQLiteDatabase, notes: inout [String]) throws -> [Route] {
        var routes: [Route] = []
        try forEachRow(of: "route", columns: "start, end, url", limit: maxRouteRows, database, notes: &notes) { row, statement, notes in
            guard let start = statement.integer(0).flatMap({ UInt8(exactly: $0) }),
                let end = statement.integer(1).flatMap({ UInt8(exactly: $0) }), start <= end,
                let url = routeURL(statement.bytes(2))
            else {
                notes.append("route \(row) is ignored: not a range within 0 to 255 with a URL")
                return
            }
            routes.append(Route(range: ChunkRange(firstBytes: start...end), url: url))
        }
        return routes
    }

    private static func readTags(_ database: SQLiteDatabase, notes: inout [String]) throws -> [FlistTag] {
        var tags: [FlistTag] = []
        try forEachRow(of: "tag", columns: "key, value", limit: maxTagRows, database, notes: &notes) { row, statement, notes in
            guard let key = statement.text(0), let value = statement.text(1), key.utf8.count <= 1024, value.utf8.count <= 65536 else {
                notes.append("tag \(row) is ignored: no text, or too long")
                return
            }
            tags.append(FlistTag(key: key, value: value))
        }
        return tags
    }

    /// Runs `body` on a free connection, waiting for one when all are busy.
    func withConnection<R: Sendable>(_ body: (FlistConnection) throws -> R) throws(FlistError) -> R {
        let start = nextSlot.wrappingAdd(1, ordering: .relaxed).oldValue & 0xffff
        do {
            for n in 0..<slots.count {
                let result = try slots[(start + n) % slots.count].connection.withLockIfAvailable { try body($0) }
                if let result { return result }
            }
            return try slots[start % slots.count].connection.withLock { try body($0) }
        } catch {
            throw Self.translated(error, FlistPath.quoted(Array(path.utf8)))
        }
    }

    private static func translated(_ error: any Error, _ shown: String) -> FlistError {
        switch error {
        case let error as FlistError: error
        case let error as SQLiteError where error.isDamage: FlistError(.damaged, "\(shown): damaged flist (\(error.message))")
        case let error as SQLiteError where error.isTooBig: FlistError(.damaged, "\(shown): damaged flist (a value over a megabyte)")
        case let error as SQLiteError: FlistError(.unreadable, "\(shown): \(error.message)")
        default: FlistError(.unreadable, "\(shown): \(error)")
        }
    }

    /// The directory `/`.
    public func root() -> FlistEntry { rootEntry }

    /// Reads every page and compares tables with their indexes: seconds for a large flist. For operations on the whole flist,
    /// which must not take a part for the whole.
    public func checkIntegrity() throws(FlistError) {
        let damage = try withConnection { connection -> String? in
            // With one line allowed it ends with the first fault of the pages themselves: what follows counts the entries of indexes, which
            // takes for ever when pages lead in circles.
            for limit in [1, 100] {
                let statement = try connection.database.prepare("pragma integrity_check(\(limit))")
                while try statement.step() {
                    guard let line = statement.text(0) else { continue }
                    if line == "ok" { return nil }
                    // A number where the declaration says text and the like is judged entry by entry, not here.
                    if !line.contains(" value in "), !line.contains("non-unique") { return line }
                }
            }
            return nil
        }
        if let damage {
            throw FlistError(.damaged, "\(FlistPath.quoted(Array(path.utf8))): damaged flist (\(FlistPath.quoted(Array(damage.utf8))))")
        }
    }
}
