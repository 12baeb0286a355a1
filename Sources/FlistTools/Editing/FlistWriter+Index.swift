internal import ChunkModel
internal import Flist
internal import SQLiteFile

/// Tables of our own beside those of rfs, for what an `.fl` cannot say: needed only where an flist was made from a legacy one.
extension FlistWriter {
    /// Makes the tables, and fills the one of routes, which counts in place of `route` where it is there.
    func addIndexTables(_ routes: [Route]) throws {
        try database.execute(FlistIndexTables.schema + FlistIndexTables.indexes)
        let row = try database.prepare("INSERT INTO \(FlistIndexTables.routes) (tier, lower, upper, url, cache) VALUES (?,?,?,?,?)")
        for route in routes {
            row.bind(route.tier, at: 1)
            row.bind(blob: route.range.lowerBytes, at: 2)
            row.bind(blob: route.range.upperBytes, at: 3)
            row.bind(text: route.url, at: 4)
            row.bind(route.isCache ? 1 : 0, at: 5)
            try row.run()
        }
    }

    /// For rows of `FlistFile.Table.problem`.
    func problemStatement() throws -> SQLiteStatement {
        try database.prepare("INSERT INTO \(FlistIndexTables.problems) (parent, name, reason, kept) VALUES (?,?,?,?)")
    }
}

extension Route {
    /// Whether the table `route` of an `.fl` can say all of it.
    var isPlain: Bool { tier == 0 && !isCache && range.byteCount == 1 }
}
