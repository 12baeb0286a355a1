internal import CLinux
internal import ChunkModel
internal import Flist
internal import Glibc
internal import LocalFiles

/// A regular file that is being written, under a temporary name beside its own; removed when it goes without having been completed.
final class ExtractFile: @unchecked Sendable {
    /// Other temporary names that are tried when the flist itself has an entry of that name.
    private static let attempts = 16

    let entry: FlistEntry
    let descriptor: Int32
    private let name: [UInt8]
    private let directory: DirectoryHandle
    private let temporary: [UInt8]
    private var isComplete = false
    /// Bytes so far; only ever counted by one thread at a time, or known beforehand.
    private(set) var written: UInt64 = 0

    /// - Throws: when the file cannot be made.
    init(_ file: ExtractTree.File, flist: FlistFile) throws {
        (entry, name, directory) = (file.entry, file.name, file.directory)
        (descriptor, temporary) = try Self.make(file, flist)
    }

    /// The name is the same in the next run, which finds what a killed one left there and begins anew.
    private static func make(_ file: ExtractTree.File, _ flist: FlistFile) throws -> (Int32, [UInt8]) {
        for attempt in 0..<attempts {
            let name = Array(".chunkmesh-\(file.entry.ino)\(attempt == 0 ? "" : "-\(attempt)").part".utf8)
            var mayRemove = true
            while true {
                let descriptor = withName(name) {
                    openat(file.directory.descriptor, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
                }
                if descriptor >= 0 { return (descriptor, name) }
                guard errno == EEXIST else { throw ToolError.system("not written") }
                guard mayRemove, try flist.lookup(parent: file.entry.parent, name: name) == nil else { break }
                mayRemove = false
                withName(name) { _ = unlinkat(file.directory.descriptor, $0, 0) }
            }
        }
        throw ToolError("not written: no temporary name is free")
    }

    deinit {
        close(descriptor)
        if !isComplete { withName(temporary) { _ = unlinkat(directory.descriptor, $0, 0) } }
    }

    /// The next bytes.
    func append(_ plain: ChunkBuffer) throws {
        guard UInt64(plain.count) <= entry.size - written else {
            throw FlistError(.badBlocks, "its blocks hold more than its size of \(entry.size) bytes")
        }
        try plain.withBytes { try FileBytes.write($0, to: descriptor, at: Int(written), what: "not written") }
        written += UInt64(plain.count)
    }

    /// Block `index` of a file whose blocks are full but for the last; for several threads.
    ///
    /// - Returns: `false` when it has another length.
    func write(_ plain: ChunkBuffer, index: Int) throws -> Bool {
        let start = index * ChunkLimits.blockBytes
        guard let size = Int(exactly: entry.size), plain.count == min(ChunkLimits.blockBytes, size - start) else { return false }
        try plain.withBytes { try FileBytes.write($0, to: descriptor, at: start, what: "not written") }
        return true
    }

    /// All blocks were written with `write(_:index:)`.
    func markWhole() { written = entry.size }

    /// Forgets what was written.
    func restart() throws {
        guard ftruncate(descriptor, 0) == 0 else { throw ToolError.system("not written") }
        written = 0
    }

    /// Gives the file its name, unless something has it.
    func complete() throws {
        let at = directory.descriptor
        let result = withName(temporary) { from in
            withName(name) { to -> Int32 in
                // 1: RENAME_NOREPLACE.
                if renameat2(at, from, at, to, 1) == 0 { return 0 }
                guard errno == EINVAL || errno == ENOSYS else { return -1 }
                // A file system that doesn't know how.
                guard linkat(at, from, at, to, 0) == 0 else { return -1 }
                unlinkat(at, from, 0)
                return 0
            }
        }
        guard result == 0 else {
            throw errno == EEXIST ? ToolError("not written: something else is there already") : ToolError.system("not written")
        }
        isComplete = true
    }
}
