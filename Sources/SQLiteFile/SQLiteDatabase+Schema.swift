/// What a foreign file's schema really holds, looked up rather than believed.
extension SQLiteDatabase {
    package enum ObjectKind: Sendable { case table, view }

    package struct Column: Sendable {
        /// In lower case.
        package let name: String
        /// As declared, in upper case.
        package let type: String
        package let primary: Bool
        package let hidden: Bool
    }

    /// A real table has pages of its own: views, virtual tables and shadows of them don't count.
    ///
    /// - Parameter table: a name of ours, without quotes in it.
    package func kind(of table: String) throws -> ObjectKind? {
        let statement = try prepare("select type, rootpage from sqlite_master where name = '\(table)' collate nocase")
        var found: ObjectKind?
        while try statement.step() {
            switch statement.text(0) {
            case "table": found = (statement.integer(1) ?? 0) > 0 ? .table : .view
            case "view": found = found ?? .view
            default: break
            }
        }
        return found
    }

    package func columns(of table: String) throws -> [Column] {
        let statement = try prepare("pragma table_xinfo(\(table))")
        var out: [Column] = []
        while try statement.step() {
            out.append(
                Column(
                    name: statement.text(1)?.lowercased() ?? "", type: statement.text(2)?.uppercased() ?? "",
                    primary: statement.integer(5) == 1, hidden: statement.integer(6) != 0))
        }
        return out
    }

    /// The quoted name of a whole index on exactly `column` and the row number, ascending and compared as bytes: then rows come in order of
    /// row number.
    package func index(on column: String, of table: String) throws -> String? {
        let indexes = try prepare("pragma index_list(\(table))")
        var names: [String] = []
        while try indexes.step() {
            if indexes.integer(4) == 0, let name = indexes.text(1) { names.append(name) }
        }
        for name in names.sorted() {
            let quoted = "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
            let info = try prepare("pragma index_xinfo(\(quoted))")
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
