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
            throw FlistError(.notFlist, "\(shown): a legacy .flist (gzip data), not an .fl file")
        }
        guard head.prefix(count).starts(with: "SQLite format 3\0".utf8) else {
            throw FlistError(.notFlist, "\(shown): not an fl file (no SQLite header)")
        }
        if let reason = damage(head: Array(head.prefix(count)), size: Int64(status.st_size)) {
            throw FlistError(.damaged, "\(shown): damaged fl file (\(reason))")
        }
    }

    /// What is wrong with an SQLite file, as far as its header and its size tell.
    ///
    /// - Parameter head: its first 100 bytes, or all that there are.
    private static func damage(head: [UInt8], size: Int64) -> String? {
        guard head.count == 100, size >= 512 else { return "only \(size) bytes" }
        // SQLite itself would fill up the rest of a last page that is cut off.
        func number(_ offset: Int, _ bytes: Int) -> Int64 { head[offset..<offset + bytes].reduce(0) { $0 << 8 | Int64($1) } }
        let page = number(16, 2) == 1 ? 65536 : number(16, 2)
        let countIsValid = number(24, 4) == number(92, 4)
        guard page >= 512, size % page == 0, !countIsValid || size >= page * number(28, 4) else {
            return "its \(size) bytes are not the pages that its header names"
        }
        return nil
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
        if try database.kind(of: "extra") != nil {
            let extra = try Self.columns(of: "extra", in: database, needed: "ino", "data")
            guard try Self.isRowid("ino", of: "extra", extra, in: database) else {
                throw FlistError(.damaged, "not an fl file: extra.ino is no INTEGER PRIMARY KEY")
            }
            hasExtra = true
        } else {
            notes.append("no table extra: symbolic links have no targets")
        }
        for (table, columns) in [("route", ["start", "end", "url"]), ("tag", ["key", "value"])] {
            switch try database.kind(of: table) {
            case nil: notes.append("no table \(table)")
            case .view?: notes.append("\(table) is no table; ignored")
            case .table?:
                let have = try database.columns(of: table)
                guard columns.allSatisfy({ name in have.contains { $0.name == name && !$0.hidden } }) else {
                    notes.append("table \(table) lacks a column; ignored")
                    continue
                }
                if table == "route" { hasRoutes = true } else { hasTags = true }
            }
        }
        parentIndex = try database.index(on: "parent", of: "inode")
        nameIndex = try database.index(on: "name", of: "inode")
        blockIndex = try database.index(on: "ino", of: "block")
    }

    private static func columns(of table: String, in database: SQLiteDatabase, needed: String...) throws -> [SQLiteDatabase.Column] {
        switch try database.kind(of: table) {
        case .table?: break
        case .view?: throw FlistError(.notFlist, "not an fl file: \(table) is no real table")
        case nil: throw FlistError(.notFlist, "not an fl file: no table \(table)")
        }
        let have = try database.columns(of: table)
        let missing = needed.filter { name in !have.contains { $0.name == name && !$0.hidden } }
        guard missing.isEmpty else {
            throw FlistError(.notFlist, "not an fl file: table \(table) lacks column \(missing.joined(separator: ", "))")
        }
        return have
    }

    /// Whether `column` is another name of the row number, and so unique and quick to find.
    private static func isRowid(_ column: String, of table: String, _ columns: [SQLiteDatabase.Column], in database: SQLiteDatabase) throws
        -> Bool
    {
        guard let found = columns.first(where: \.primary), found.name == column, found.type == "INTEGER" else { return false }
        // DESC and WITHOUT ROWID make a separate index for the key.
        let indexes = try database.prepare("pragma index_list(\(table))")
        while try indexes.step() {
            if indexes.text(3) == "pk" { return false }
        }
        return true
    }
}
