import Glibc
import SQLiteFile
import Synchronization

/// A file in memory for parsers that take a path.
enum ScratchFile {
    private static let number = Atomic<Int>(0)
    private static let directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"

    /// Runs `body` with the path of a file that holds `bytes`, which others may not read; it is gone afterwards.
    static func with(_ bytes: [UInt8], suffix: String, _ body: (String) -> Void) {
        let path = "\(directory)/chunkmesh-fuzz-\(getpid())-\(number.wrappingAdd(1, ordering: .relaxed).newValue)\(suffix)"
        write(bytes, to: path)
        defer { unlink(path) }
        body(path)
    }

    static func write(_ bytes: [UInt8], to path: String) {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        precondition(file >= 0, "\(path) cannot be written: \(String(cString: strerror(errno)))")
        defer { close(file) }
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress! + start, bytes.count - start) }
            precondition(count > 0, "\(path) cannot be written: \(String(cString: strerror(errno)))")
            start += count
        }
    }

    /// `nil` when there is no such file.
    static func read(_ path: String) -> [UInt8]? {
        guard let file = fopen(path, "re") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = fread(&piece, 1, piece.count, file)
            if count == 0 { return bytes }
            bytes += piece.prefix(count)
        }
    }

    /// Paths of the files in a directory, in order; none when there is no such directory.
    static func list(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var out: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if !name.hasPrefix(".") { out.append("\(path)/\(name)") }
        }
        return out.sorted()
    }

    /// The bytes of an SQLite file of small pages that `sql` makes.
    static func database(_ sql: String) -> [UInt8] {
        var bytes: [UInt8] = []
        with([], suffix: ".db") { path in
            do {
                let database = try SQLiteDatabase(path: path, mode: .readWrite)
                try database.execute("PRAGMA page_size=512; PRAGMA journal_mode=OFF; " + sql)
            } catch {
                fatalError("\(error)")
            }
            bytes = read(path) ?? []
        }
        return bytes
    }

    /// The package's folder.
    static let package = String(#filePath.split(separator: "/").dropLast(4).reduce("") { $0 + "/" + $1 })
    /// Flists that the reference tools made; absent in a clone that stands alone.
    static func fixtures(_ folder: String, suffix: String, upTo limit: Int) -> [[UInt8]] {
        list("\(package)/../shared/fixtures/\(folder)").filter { $0.hasSuffix(suffix) }.compactMap(read).filter { $0.count <= limit }
    }
}
