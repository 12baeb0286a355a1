internal import SQLiteFile

/// Judges a row of `inode` by FORMATS.md §4.
package enum InodeRow {
    /// Longest symlink target, as the kernel has it (PATH_MAX without the NUL).
    package static let maxTarget = 4095

    enum Verdict {
        case good(FlistEntry)
        case refused(EntryProblem)
    }

    /// - Parameters:
    ///   - row: on a row of `FlistConnection.inodeColumns`.
    ///   - target: reads the symlink's target; called for symlinks only.
    static func judge(ino: Int64, row: SQLiteStatement, target: () throws -> [UInt8]?) throws -> Verdict {
        let name = row.bytes(1)
        func refused(_ reason: String) -> Verdict { .refused(EntryProblem(ino: ino, path: name ?? [], reason: reason)) }

        guard ino >= 1 else { return refused("inode number \(ino) is out of range") }
        guard let parent = row.integer(0) else { return refused("parent is no integer") }
        guard let name else { return refused("name is not text") }
        if ino != FlistFile.rootIno, let reason = FlistPath.refusal(ofName: name) { return refused(reason) }
        guard let mode = row.integer(5) else { return refused("mode is no integer") }
        guard let uid = row.integer(3), let gid = row.integer(4) else { return refused("uid or gid is no integer") }
        guard let uid = UInt32(exactly: uid), let gid = UInt32(exactly: gid) else { return refused("uid or gid is out of range") }
        guard let mtime = row.integer(8) else { return refused("mtime is no integer") }
        guard let mode = UInt16(exactly: mode) else { return refused("mode \(mode) is out of range") }

        var size: UInt64 = 0
        let kind: FlistKind
        switch mode & 0o170000 {
        case 0o100000:
            guard let declared = row.integer(2) else { return refused("size is no integer") }
            guard let bytes = UInt64(exactly: declared) else { return refused("size \(declared) is negative") }
            size = bytes
            kind = .file
        case 0o040000: kind = .directory
        case 0o120000:
            guard let target = try target(), !target.isEmpty else { return refused("symlink without target") }
            guard !target.contains(0) else { return refused("symlink target contains NUL") }
            guard target.count <= maxTarget else { return refused("symlink target of \(target.count) bytes") }
            size = UInt64(target.count)
            kind = .symlink(target: target)
        case 0o010000: kind = .fifo
        case 0o140000: kind = .socket
        case 0o020000, 0o060000:
            guard let number = row.integer(6), number >= 0 else { return refused("device without a usable rdev") }
            let (major, minor) = DeviceNumber.decoded(UInt64(number))
            kind = mode & 0o170000 == 0o020000 ? .charDevice(major: major, minor: minor) : .blockDevice(major: major, minor: minor)
        default: return refused("unknown file type (mode \(String(mode, radix: 8)))")
        }
        return .good(
            FlistEntry(
                ino: ino, parent: parent, name: name, kind: kind, permissions: mode & 0o7777, uid: uid, gid: gid, size: size,
                mtime: mtime, ctime: row.integer(7) ?? mtime))
    }
}
