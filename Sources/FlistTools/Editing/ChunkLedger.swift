internal import ChunkModel
internal import SQLiteFile

/// Which chunks a set of files needs, and how many plain bytes each holds; in a scratch database, so that memory does not grow with them.
final class ChunkLedger {
    private let scratch: ScratchDatabase
    private let insert: SQLiteStatement
    private let have: SQLiteStatement
    /// Plain bytes of all blocks, each counted as often as files name it; blocks of unknown length left out.
    private(set) var plainBytes: UInt64 = 0

    init() throws {
        scratch = try ScratchDatabase(
            schema: "CREATE TABLE chunk (id BLOB PRIMARY KEY, plain INTEGER, have INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;")
        insert = try scratch.prepare(
            "INSERT INTO chunk (id, plain) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET plain = coalesce(plain, ?2) WHERE plain IS NULL")
        have = try scratch.prepare("UPDATE chunk SET have = 1 WHERE id = ?")
    }

    /// A block of a file; `plain` is `nil` when its length is not known.
    func add(_ id: ChunkID, plain: Int?) throws {
        insert.bind(blob: id.bytes, at: 1)
        if let plain { insert.bind(plain, at: 2) } else { insert.bindNull(at: 2) }
        try insert.run()
        if let plain { plainBytes &+= UInt64(plain) }
    }

    /// Blocks of a file in their order. Lengths are known where the file is cut as writers cut it.
    func add(_ ids: some Collection<ChunkID>, size: UInt64) throws {
        let block = UInt64(ChunkLimits.blockBytes)
        let even = UInt64(ids.count) == size / block + (size % block == 0 ? 0 : 1)
        for (index, id) in ids.enumerated() {
            try add(id, plain: even ? Int(min(block, size - UInt64(index) * block)) : nil)
        }
    }

    /// Takes note that the chunk is there already.
    func strike(_ id: ChunkID) throws {
        have.bind(blob: id.bytes, at: 1)
        try have.run()
    }

    struct Sums {
        var chunks = 0
        /// Of the chunks whose plain length is known.
        var plainBytes: UInt64 = 0
        /// Chunks whose plain length is not known.
        var unknown = 0
    }

    /// Over the chunks that are not struck.
    func sums() throws -> Sums {
        let row = try scratch.prepare("SELECT count(*), coalesce(sum(plain), 0), count(*) - count(plain) FROM chunk WHERE have = 0")
        _ = try row.step()
        return Sums(
            chunks: Int(row.integer(0) ?? 0), plainBytes: UInt64(clamping: row.integer(1) ?? 0), unknown: Int(row.integer(2) ?? 0))
    }

    /// The chunks that are not struck, in order of their ids.
    func forEach(_ body: (ChunkID, _ plain: Int?) throws -> Void) throws {
        let rows = try scratch.prepare("SELECT id, plain FROM chunk WHERE have = 0 ORDER BY id")
        while try rows.step() {
            if let id = rows.bytes(0).flatMap({ ChunkID($0) }) { try body(id, rows.integer(1).map { Int($0) }) }
        }
    }
}
