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

    public let path: String
    public let routes: [Route]
    public let tags: [FlistTag]
    /// What was ignored while opening, one line each, nothing of it quoted any more.
    public let notes: [String]
    private let rootEntry: FlistEntry
    private let slots: [Slot]
    private let nextSlot = Atomic<Int>(0)
    /// Directories whose pages are being asked for, by what the next call will pass; bounded to `keptReaders`.
    let readers = Mutex<[DirectoryPosition: FlistDirectoryReader]>([:])
    static let keptReaders = 16

    private final class Slot: Sendable {
        let connection: Mutex<FlistConnection>
        init(_ connection: FlistConnection) { self.connection = Mutex(connection) }
    }

    /// Opens the file and checks that it is an flist with a usable root.
    public init(path: String) throws(FlistError) {
        self.path = path
        try FlistSchema.recognise(path: path)
        let shown = FlistPath.quoted(Array(path.utf8))
        do {
            let first = try FlistConnection(path: path)
            rootEntry = try Self.checkedRoot(first)
            var notes = first.schema.notes
            routes = first.schema.hasRoutes ? try Self.readRoutes(first.database, notes: &notes) : []
            tags = first.schema.hasTags ? try Self.readTags(first.database, notes: &notes) : []
            self.notes = notes
            var slots = [Slot(first)]
            while slots.count < Self.connectionCount { slots.append(Slot(try FlistConnection(path: path))) }
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

    private static func readRoutes(_ database: SQLiteDatabase, notes: inout [String]) throws -> [Route] {
        // Long URLs are not loaded: rfs declares 2,048 bytes.
        let statement = try database.prepare(
            "select start, end, case when typeof(url) = 'text' and length(cast(url as blob)) <= 8192 then url end from route"
                + " limit \(maxRouteRows + 1)")
        var routes: [Route] = []
        var row = 0
        while try statement.step() {
            row += 1
            guard row <= maxRouteRows else {
                notes.append("more than \(maxRouteRows) routes; the rest is ignored")
                break
            }
            guard let start = statement.integer(0).flatMap({ UInt8(exactly: $0) }),
                let end = statement.integer(1).flatMap({ UInt8(exactly: $0) }), start <= end,
                let url = statement.bytes(2).flatMap({ String(validating: $0, as: UTF8.self) }), !url.isEmpty, !url.utf8.contains(0)
            else {
                notes.append("route \(row) is ignored: not a range within 0 to 255 with a URL")
                continue
            }
            routes.append(Route(range: start...end, url: url))
        }
        return routes
    }

    private static func readTags(_ database: SQLiteDatabase, notes: inout [String]) throws -> [FlistTag] {
        let statement = try database.prepare(
            "select case when length(cast(key as blob)) <= 1024 then key end, case when length(cast(value as blob)) <= 65536 then value end"
                + " from tag limit \(maxTagRows + 1)")
        var tags: [FlistTag] = []
        var row = 0
        while try statement.step() {
            row += 1
            guard row <= maxTagRows else {
                notes.append("more than \(maxTagRows) tags; the rest is ignored")
                break
            }
            guard let key = statement.text(0), let value = statement.text(1) else {
                notes.append("tag \(row) is ignored: no text")
                continue
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
            let statement = try connection.database.prepare("pragma integrity_check(100)")
            while try statement.step() {
                // A number where the declaration says text and the like is judged entry by entry, not here.
                guard let line = statement.text(0), line != "ok", !line.contains(" value in "), !line.contains("non-unique") else {
                    continue
                }
                return line
            }
            return nil
        }
        if let damage {
            throw FlistError(.damaged, "\(FlistPath.quoted(Array(path.utf8))): damaged flist (\(FlistPath.quoted(Array(damage.utf8))))")
        }
    }
}
