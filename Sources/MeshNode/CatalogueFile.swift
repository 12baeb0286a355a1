internal import ChunkModel
internal import SQLiteFile
internal import Synchronization

/// `catalogue.db`: the flists that the node knows and the jobs that it has not finished. Calls block.
final class CatalogueFile: Sendable {
    private struct State: @unchecked Sendable { let database: SQLiteDatabase }
    private let state: Mutex<State>

    /// - Throws: `SQLiteError`. A file that is damaged is set aside by the caller; what it held can be asked for again.
    init(path: String) throws {
        let database = try SQLiteDatabase(path: path, mode: .readWrite)
        try database.execute(
            """
            PRAGMA journal_mode=WAL;
            PRAGMA synchronous=NORMAL;
            CREATE TABLE IF NOT EXISTS flist (digest BLOB PRIMARY KEY, name TEXT NOT NULL, url TEXT, etag TEXT, last_modified TEXT,
                vouched INTEGER NOT NULL, pinned INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, digest BLOB NOT NULL, scope TEXT NOT NULL, copies INTEGER NOT NULL,
                pin INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS goal (digest BLOB PRIMARY KEY, version INTEGER NOT NULL, copies INTEGER NOT NULL);
            """)
        state = Mutex(State(database: database))
    }

    func flists() throws -> [FlistRecord] {
        try state.withLock { state in
            let rows = try state.database.prepare(
                "SELECT digest, name, url, etag, last_modified, vouched, pinned FROM flist ORDER BY rowid")
            var out: [FlistRecord] = []
            while try rows.step() {
                guard let digest = rows.bytes(0).flatMap({ Bytes32($0) }), let name = rows.text(1) else { continue }
                out.append(
                    FlistRecord(
                        digest: FlistDigest(digest), name: name, url: rows.text(2), etag: rows.text(3), lastModified: rows.text(4),
                        isVouched: rows.integer(5) == 1, isPinned: rows.integer(6) == 1))
            }
            return out
        }
    }

    func save(_ record: FlistRecord) throws {
        try state.withLock { state in
            let insert = try state.database.prepare("INSERT OR REPLACE INTO flist VALUES (?, ?, ?, ?, ?, ?, ?)")
            insert.bind(blob: record.digest.value.bytes, at: 1)
            insert.bind(text: record.name, at: 2)
            for (index, text) in [record.url, record.etag, record.lastModified].enumerated() {
                if let text { insert.bind(text: text, at: 3 + index) }
            }
            insert.bind(record.isVouched ? 1 : 0, at: 6)
            insert.bind(record.isPinned ? 1 : 0, at: 7)
            try insert.run()
        }
    }

    func remove(_ digest: FlistDigest) throws {
        try state.withLock { state in
            for table in ["flist", "job"] {
                let delete = try state.database.prepare("DELETE FROM \(table) WHERE digest = ?")
                delete.bind(blob: digest.value.bytes, at: 1)
                try delete.run()
            }
        }
    }

    func jobs() throws -> [JobRecord] {
        try state.withLock { state in
            let rows = try state.database.prepare("SELECT id, digest, scope, copies, pin FROM job ORDER BY rowid")
            var out: [JobRecord] = []
            while try rows.step() {
                guard let id = rows.text(0), let digest = rows.bytes(1).flatMap({ Bytes32($0) }), let scope = rows.text(2) else { continue }
                out.append(
                    JobRecord(
                        id: id, digest: FlistDigest(digest), scope: scope, copies: Int(clamping: rows.integer(3) ?? 1),
                        pin: rows.integer(4) == 1))
            }
            return out
        }
    }

    func save(_ job: JobRecord) throws {
        try state.withLock { state in
            let insert = try state.database.prepare("INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?)")
            insert.bind(text: job.id, at: 1)
            insert.bind(blob: job.digest.value.bytes, at: 2)
            insert.bind(text: job.scope, at: 3)
            insert.bind(job.copies, at: 4)
            insert.bind(job.pin ? 1 : 0, at: 5)
            try insert.run()
        }
    }

    func removeJob(_ id: String) throws {
        try state.withLock { state in
            let delete = try state.database.prepare("DELETE FROM job WHERE id = ?")
            delete.bind(text: id, at: 1)
            try delete.run()
        }
    }

    /// Standing goals, ended ones included.
    func goals() throws -> [FlistDigest: KeepGoal] {
        try state.withLock { state in
            let rows = try state.database.prepare("SELECT digest, version, copies FROM goal")
            var out: [FlistDigest: KeepGoal] = [:]
            while try rows.step() {
                guard let digest = rows.bytes(0).flatMap({ Bytes32($0) }), let version = rows.integer(1), let copies = rows.integer(2)
                else {
                    continue
                }
                out[FlistDigest(digest)] = KeepGoal(version: UInt64(clamping: version), copies: UInt8(clamping: copies))
            }
            return out
        }
    }

    /// Replaces all of them.
    func save(_ goals: [FlistDigest: KeepGoal]) throws {
        try state.withLock { state in
            try state.database.execute("BEGIN IMMEDIATE")
            do {
                try state.database.execute("DELETE FROM goal")
                for (digest, goal) in goals {
                    let insert = try state.database.prepare("INSERT INTO goal VALUES (?, ?, ?)")
                    insert.bind(blob: digest.value.bytes, at: 1)
                    insert.bind(Int(clamping: goal.version), at: 2)
                    insert.bind(Int(goal.copies), at: 3)
                    try insert.run()
                }
                try state.database.execute("COMMIT")
            } catch {
                try? state.database.execute("ROLLBACK")
                throw error
            }
        }
    }
}
