import Flist
import Foundation
import SQLiteFile
import Testing

/// An flist made statement by statement, for what no writer would make.
final class MadeFlist {
    static let schema = """
        CREATE TABLE inode (ino INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER, name VARCHAR(255), size INTEGER, uid INTEGER, gid INTEGER,
            mode INTEGER, rdev INTEGER, ctime INTEGER, mtime INTEGER);
        CREATE TABLE extra (ino INTEGER PRIMARY KEY, data VARCHAR(4096));
        CREATE TABLE block (ino INTEGER, id VARCHAR(32), key VARCHAR(32));
        CREATE TABLE tag (key VARCHAR(10) PRIMARY KEY, value VARCHAR(255));
        CREATE TABLE route (start integer, end integer, url VARCHAR(2048));
        INSERT INTO inode VALUES (1, 0, '/', 0, 0, 0, 16877, 0, 0, 0);
        """
    static let indexes =
        "CREATE INDEX parents ON inode (parent); CREATE INDEX names ON inode (name); CREATE INDEX block_ino ON block (ino);"

    let path: String
    init(_ statements: String..., schema: String = MadeFlist.schema, indexes: String = MadeFlist.indexes) throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("made-\(UUID().uuidString).fl").path
        let database = try SQLiteDatabase(path: path, mode: .readWrite)
        try database.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN")
        try database.execute(schema)
        for statement in statements { try database.execute(statement) }
        try database.execute(indexes)
        try database.execute("COMMIT")
    }
    deinit { unlink(path) }

    func open() throws -> FlistFile { try FlistFile(path: path) }

    static func row(_ ino: Int64, _ parent: Int64, _ name: String, mode: Int = 0o100644, size: Int64 = 0) -> String {
        "INSERT INTO inode VALUES (\(ino), \(parent), '\(name)', \(size), 0, 0, \(mode), 0, 0, 0);"
    }
    static func directory(_ ino: Int64, _ parent: Int64, _ name: String) -> String { row(ino, parent, name, mode: 0o40755) }
    static func link(_ ino: Int64, _ parent: Int64, _ name: String, _ target: String) -> String {
        row(ino, parent, name, mode: 0o120777) + "INSERT INTO extra VALUES (\(ino), CAST('\(target)' AS BLOB));"
    }
    static func block(_ ino: Int64, _ byte: UInt8) -> String {
        let hex = String(repeating: String(format: "%02x", byte), count: 32)
        return "INSERT INTO block VALUES (\(ino), x'\(hex)', x'\(hex)');"
    }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
