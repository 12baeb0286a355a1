internal import ChunkModel
internal import SQLiteFile

/// Tables of our own that stand beside rfs's in an `.fl` made from another format; other readers pass over them.
///
/// Like everything else in an flist they are foreign when they are read: an `.fl` may hold anything under these names.
package enum FlistIndexTables {
    /// Entries of which the other format's records could not be used, and those that are there, but not whole.
    package static let problems = "chunkmesh_problem"
    /// The routes as they are, with tiers, ranges of several bytes and caches; `route` holds what `.fl` can say of them.
    package static let routes = "chunkmesh_route"
    /// What was ignored, a line each.
    package static let notes = "chunkmesh_note"

    package static let schema = """
        CREATE TABLE chunkmesh_problem (parent INTEGER, name BLOB, reason TEXT, kept INTEGER);
        CREATE TABLE chunkmesh_route (tier INTEGER, lower BLOB, upper BLOB, url TEXT, cache INTEGER);
        CREATE TABLE chunkmesh_note (text TEXT);
        """
    /// After the rows.
    package static let indexes = "CREATE INDEX chunkmesh_problem_parent ON chunkmesh_problem (parent);"

    /// Problems of one directory that a listing shows; of the further ones it says that there are some.
    static let shownProblems = 4096
    static let maxNotes = 64
    /// Bytes of a note or a reason.
    static let maxText = 1000

    /// What foreign text becomes when it is shown: cut, and quoted where it must be.
    static func shown(_ text: [UInt8]) -> String { FlistPath.quoted(text.prefix(maxText)) }
}

extension FlistFile {
    /// `nil` when there is no such table, or when anything in it is not as it should be (then noted).
    static func readExactRoutes(_ database: SQLiteDatabase, notes: inout [String]) throws -> [Route]? {
        guard try hasTable(FlistIndexTables.routes, ["tier", "lower", "upper", "url", "cache"], in: database) else { return nil }
        var routes: [Route] = []
        var isSound = true
        var rowNotes: [String] = []
        try forEachRow(
            of: FlistIndexTables.routes, columns: "tier, lower, upper, url, cache", limit: maxRouteRows, database, notes: &rowNotes
        ) {
            _, row, _ in
            guard let tier = row.integer(0).flatMap({ Int(exactly: $0) }), (0...maxRouteRows).contains(tier), let lower = row.bytes(1),
                let upper = row.bytes(2), let range = ChunkRange(from: lower, through: upper), let url = routeURL(row.bytes(3)),
                let cache = row.integer(4), (0...1).contains(cache)
            else {
                isSound = false
                return
            }
            routes.append(Route(range: range, url: url, tier: tier, isCache: cache == 1))
        }
        guard isSound, rowNotes.isEmpty else {
            notes.append("table \(FlistIndexTables.routes) is ignored: not what this program writes")
            return nil
        }
        return routes
    }

    /// rfs declares 2,048 bytes.
    static func routeURL(_ bytes: [UInt8]?) -> String? {
        guard let bytes, (1...8192).contains(bytes.count), !bytes.contains(0) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    static func readNotes(_ database: SQLiteDatabase, notes: inout [String]) throws {
        guard try hasTable(FlistIndexTables.notes, ["text"], in: database) else { return }
        try forEachRow(of: FlistIndexTables.notes, columns: "text", limit: FlistIndexTables.maxNotes, database, notes: &notes) {
            _, row, notes in
            if let text = row.bytes(0) { notes.append(FlistIndexTables.shown(text)) }
        }
    }

    private static func hasTable(_ table: String, _ columns: [String], in database: SQLiteDatabase) throws -> Bool {
        guard try database.kind(of: table) == .table else { return false }
        let have = try database.columns(of: table)
        return columns.allSatisfy { name in have.contains { $0.name == name && !$0.hidden } }
    }
}

extension FlistConnection {
    /// Compiled when the table and its index are there.
    static func problemStatement(_ database: SQLiteDatabase) throws -> SQLiteStatement? {
        guard try database.kind(of: FlistIndexTables.problems) == .table,
            let index = try database.index(on: "parent", of: FlistIndexTables.problems)
        else { return nil }
        // Without one of the columns it does not compile, and the table is not ours.
        return try? database.prepare(
            "select case when typeof(name) = 'blob' and length(name) <= 4096 then name end, reason, kept from \(FlistIndexTables.problems)"
                + " indexed by \(index) where parent = ? collate binary limit ?")
    }

    /// Entries of `directory` that the flist this one was made from has, and that could not be used, or not wholly.
    func problems(of directory: Int64) throws -> [EntryProblem] {
        guard let problemRows else { return [] }
        problemRows.bind(directory, at: 1)
        problemRows.bind(FlistIndexTables.shownProblems + 1, at: 2)
        defer { problemRows.reset() }
        var out: [EntryProblem] = []
        while try problemRows.step() {
            guard out.count < FlistIndexTables.shownProblems else {
                out.append(EntryProblem(ino: nil, path: [], reason: "further entries are refused in this directory"))
                break
            }
            out.append(
                EntryProblem(
                    ino: nil, path: problemRows.bytes(0) ?? [],
                    reason: FlistIndexTables.shown(problemRows.bytes(1) ?? Array("refused".utf8)),
                    isKept: problemRows.integer(2) == 1))
        }
        return out
    }
}
