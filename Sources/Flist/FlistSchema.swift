internal import Glibc
internal import SQLiteFile

/// What of a foreign database makes it an flist: the header, real tables, their columns, and the indexes it may lack.
struct FlistSchema {
    /// Quoted names of usable indexes; `nil` where there is none.
    var parentIndex: String?
    var nameIndex: String?
    var blockIndex: String?
    /// A name of the rowid of `block` that no column shadows.
    var blockRowid = "rowid"
    var hasExtra = false
    var hasRoutes = false
    var hasTags = false
    var notes: [String] = []

    /// Looks at the first bytes of the file, so that other formats get a name.
    static func recognise(path: String) throws(FlistError) {
        let shown = FlistPath.quoted(Array(path.utf8))
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { throw FlistError(.unreadable, "\(shown): \(String(cString: strerror(errno)))") }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw FlistError(.unreadable, "\(shown): not a regular file")
        }
        var head = [UInt8](repeating: 0, count: 100)
        let count = pread(file, &head, 100, 0)
        guard count >= 0 else { throw FlistError(.unreadable, "\(shown): \(String(cString: strerror(errno)))") }
        if count >= 2, head[0] == 0x1f, head[1] == 0x8b {
            throw FlistError(.notFlist, "\(shown): a legacy .flist (gzip data); this version reads .fl files only")
        }
        guard count >= 16, head.prefix(16).elementsEqual("SQLite format 3\0".utf8) else {
            throw FlistError(.notFlist, "\(shown): not an fl file (no SQLite header)")
        }
        guard count == 100, status.st_size >= 512 else {
            throw FlistError(.damaged, "\(shown): damaged fl file (only \(status.st_size) bytes)")
        }
        // SQLite itself would fill up the rest of a last page that is cut off.
        func number(_ offset: Int, _ bytes: Int) -> UInt64 { head[offset..<offset + bytes].reduce(0) { $0 << 8 | UInt64($1) } }
        let page = number(16, 2) == 1 ? 65536 : number(16, 2)
        let size = UInt64(status.st_size)
        let countIsValid = number(24, 4) == number(92, 4)
        guard page >= 512, size % page == 0, !countIsValid || size >= page * number(28, 4) else {
            throw FlistError(.damaged, "\(shown): damaged fl file (its \(size) bytes are not the pages that its header names)")
        }
    }

    init(_ database: SQLiteDatabase) throws {
        let inode = try Self.columns(
            of: "inode", in: database, needed: "ino", "parent", "name", "size", "uid", "gid", "mode", "rdev", "ctime", "mtime")
        guard try Self.isRowid("ino", of: "inode", inode, in: database) else {
            throw FlistError(.damaged, "not an fl file: inode.ino is no INTEGER PRIMARY KEY")
        }
        let block = try Self.columns(of: "block", in: database, needed: "ino", "id", "key")
        guard let rowid = ["rowid", "_rowid_", "oid"].first(where: { name in !block.contains { $0.name == name } }) else {
            throw FlistError(.damaged, "not an fl file: the columns of table block hide its row numbers")
        }
        blockRowid = rowid
        // Without row numbers there is no order of blocks: a table WITHOUT ROWID does not compile here.
        do { _ = try database.prepare("select \(rowid) from block limit 1") } catch let error as SQLiteError where !error.isDamage {
            throw FlistError(.damaged, "not an fl file: table block has no row numbers")
        }
        if try Self.kind(of: "extra", in: database) != nil {
            let extra = try Self.columns(of: "extra", in: database, needed: "ino", "data")
            guard try Self.isRowid("ino", of: "extra", extra, in: database) else {
                throw FlistError(.damaged, "not an fl file: extra.ino is no INTEGER PRIMARY KEY")
            }
            hasExtra = true
        } else {
            notes.append("no table extra: symbolic links have no targets")
        }
        for (table, columns) in [("route", ["start", "end", "url"]), ("tag", ["key", "value"])] {
            switch try Self.kind(of: table, in: database) {
            case nil: notes.append("no table \(table)")
            case .view?: notes.append("\(table) is no table; ignored")
            case .table?:
                let have = try Self.tableColumns(of: table, in: database)
                guard columns.allSatisfy({ name in have.contains { $0.name == name && !$0.hidden } }) else {
                    notes.append("table \(table) lacks a column; ignored")
                    continue
                }
                if table == "route" { hasRoutes = true } else { hasTags = true }
            }
        }
        parentIndex = try Self.index(on: "parent", of: "inode", in: database)
        nameIndex = try Self.index(on: "name", of: "inode", in: database)
        blockIndex = try Self.index(on: "ino", of: "block", in: database)
    }

    private enum Kind { case table, view }
    private struct Column {
        let name: String
        let type: String
        let primary: Bool
        let hidden: Bool
    }

    /// A real table has pages of its own: views, virtual tables and shadows of them don't count.
    private static func kind(of table: String, in database: SQLiteDatabase) throws -> Kind? {
        let statement = try database.prepare("select type, rootpage from sqlite_master where name = '\(table)' collate nocase")
        var found: Kind?
        while try statement.step() {
            switch statement.text(0) {
            case "table": found = (statement.integer(1) ?? 0) > 0 ? .table : .view
            case "view": found = found ?? .view
            default: break
            }
        }
        return found
    }

    private static func tableColumns(of table: String, in database: SQLiteDatabase) throws -> [Column] {
        let statement = try database.prepare("pragma table_xinfo(\(table))")
        var out: [Column] = []
        while try statement.step() {
            out.append(
                Column(
                    name: statement.text(1)?.lowercased() ?? "", type: statement.text(2)?.uppercased() ?? "",
                    primary: statement.integer(5) == 1, hidden: statement.integer(6) != 0))
        }
        return out
    }

    private static func columns(of table: String, in database: SQLiteDatabase, needed: String...) throws -> [Column] {
        switch try kind(of: table, in: database) {
        case .table?: break
        case .view?: throw FlistError(.notFlist, "not an fl file: \(table) is no real table")
        case nil: throw FlistError(.notFlist, "not an fl file: no table \(table)")
        }
        let have = try tableColumns(of: table, in: database)
        let missing = needed.filter { name in !have.contains { $0.name == name && !$0.hidden } }
        guard missing.isEmpty else {
            throw FlistError(.notFlist, "not an fl file: table \(table) lacks column \(missing.joined(separator: ", "))")
        }
        return have
    }

    /// Whether `column` is another name of the row number, and so unique and quick to find.
    private static func isRowid(_ column: String, of table: String, _ columns: [Column], in database: SQLiteDatabase) throws -> Bool {
        guard let found = columns.first(where: \.primary), found.name == column, found.type == "INTEGER" else { return false }
        // DESC and WITHOUT ROWID make a separate index for the key.
        let indexes = try database.prepare("pragma index_list(\(table))")
        while try indexes.step() {
            if indexes.text(3) == "pk" { return false }
        }
        return true
    }

    /// The quoted name of a whole index that starts with `column`.
    private static func index(on column: String, of table: String, in database: SQLiteDatabase) throws -> String? {
        let indexes = try database.prepare("pragma index_list(\(table))")
        var names: [String] = []
        while try indexes.step() {
            if indexes.integer(4) == 0, let name = indexes.text(1) { names.append(name) }
        }
        for name in names.sorted() {
            let quoted = "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
            let info = try database.prepare("pragma index_xinfo(\(quoted))")
            // Exactly the column and the row number, ascending and compared as bytes: then rows come in order of row number.
            var keys: [(name: String?, descending: Bool, collation: String?)] = []
            while try info.step() {
                guard info.integer(5) == 1 else { continue }
                keys.append((info.text(2)?.lowercased(), info.integer(3) == 1, info.text(4)))
            }
            if keys.count == 1, keys[0].name == column, !keys[0].descending, keys[0].collation == "BINARY" { return quoted }
        }
        return nil
    }
}
