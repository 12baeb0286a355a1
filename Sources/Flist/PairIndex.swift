internal import SQLiteFile

/// Stands in for an SQLite index that a foreign file lacks: (key, rowid) pairs in order, 16 bytes each.
struct PairIndex {
    /// Rows up to which it is built (512 MB); larger flists without their indexes are refused.
    static let maxRows = 32 << 20

    private var pairs: [(key: Int64, row: Int64)] = []

    /// - Parameter sql: yields (key, rowid); rows whose key is no integer are left out.
    init(_ database: SQLiteDatabase, sql: String, missing: String) throws {
        let statement = try database.prepare(sql)
        while try statement.step() {
            guard let key = statement.integer(0), let row = statement.integer(1) else { continue }
            guard pairs.count < Self.maxRows else {
                throw FlistError(.damaged, "the flist lacks its index on \(missing) and has too many rows to do without it")
            }
            pairs.append((key, row))
        }
        pairs.sort { ($0.key, $0.row) < ($1.key, $1.row) }
    }

    /// Up to `limit` rows of `key` in order, after row `after` (from the first one when `nil`).
    func rows(of key: Int64, after: Int64?, limit: Int) -> [Int64] {
        var low = 0
        var high = pairs.count
        while low < high {
            let middle = low + (high - low) / 2
            let pair = pairs[middle]
            let before = pair.key < key || (pair.key == key && after.map { pair.row <= $0 } ?? false)
            if before { low = middle + 1 } else { high = middle }
        }
        var out: [Int64] = []
        while low < pairs.count, pairs[low].key == key, out.count < limit {
            out.append(pairs[low].row)
            low += 1
        }
        return out
    }
}
