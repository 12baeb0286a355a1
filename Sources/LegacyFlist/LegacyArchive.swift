internal import Archives
internal import Flist
internal import Glibc

/// The two members of a legacy flist that count (FORMATS.md §2.1); all others are passed over and never written anywhere.
enum LegacyArchive {
    /// Bytes of the database.
    static let maxDatabaseBytes: Int64 = 4 << 30
    /// Bytes of the archive without its compression: the database, and what else lay in the directory that was packed.
    static let maxUnpackedBytes: Int64 = 8 << 30
    static let maxMembers = 100_000
    private static let copyBytes = 1 << 20

    /// Writes the database to `path`, an empty file.
    ///
    /// Where a name occurs again, the later member counts, as it does for programs that extract one over the other. A link of that name, or
    /// anything else that is no regular file, is refused.
    ///
    /// - Returns: router.yaml's bytes, or why they cannot be used; `nil` where there is none.
    static func read(_ archive: String, databaseTo path: String, check: () throws -> Void) throws(FlistError) -> Result<
        [UInt8], RoutingError
    >? {
        let label = FlistPath.quoted(Array(archive.utf8))
        do {
            let tar = try TarReader(
                path: archive, label: label, limits: ArchiveLimits(unpackedBytes: maxUnpackedBytes, members: maxMembers))
            var hasDatabase = false
            var router: Result<[UInt8], RoutingError>?
            while let member = try tar.next() {
                try check()
                switch String(decoding: member.plainPath, as: UTF8.self) {
                case "flistdb.sqlite3":
                    guard member.kind == .file else {
                        throw FlistError(.damaged, "\(label): damaged legacy .flist (flistdb.sqlite3 is no regular file)")
                    }
                    guard member.size <= maxDatabaseBytes else {
                        throw FlistError(.damaged, "\(label): its database is larger than \(maxDatabaseBytes >> 30) GiB")
                    }
                    try copy(tar, to: path, check: check)
                    hasDatabase = true
                case "router.yaml":
                    guard member.kind == .file else {
                        router = .failure(RoutingError("it is no regular file"))
                        break
                    }
                    guard member.size <= RouterFile.maxBytes else {
                        router = .failure(RoutingError("it is larger than \(RouterFile.maxBytes) bytes"))
                        break
                    }
                    router = .success(try tar.body(limit: RouterFile.maxBytes))
                default: break
                }
            }
            guard hasDatabase else { throw FlistError(.notFlist, "\(label): not a legacy .flist (the archive has no flistdb.sqlite3)") }
            return router
        } catch let error as FlistError {
            throw error
        } catch let error as ArchiveError {
            throw FlistError(error.code == .unreadable ? .unreadable : error.code == .notArchive ? .notFlist : .damaged, error.message)
        } catch {
            throw FlistError(.unreadable, "\(label): \(error)")
        }
    }

    private static func copy(_ tar: TarReader, to path: String, check: () throws -> Void) throws {
        let file = open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC)
        guard file >= 0 else { throw failure(path) }
        defer { close(file) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: copyBytes, alignment: 4096)
        defer { buffer.deallocate() }
        while true {
            try check()
            let count = try tar.read(into: buffer)
            if count == 0 { return }
            var written = 0
            while written < count {
                let result = write(file, buffer.baseAddress! + written, count - written)
                if result < 0, errno != EINTR { throw failure(path) }
                written += max(0, result)
            }
        }
    }

    private static func failure(_ path: String) -> FlistError {
        FlistError(.unreadable, "\(FlistPath.quoted(Array(path.utf8))): \(String(cString: strerror(errno)))")
    }
}
