internal import ChunkModel

/// Numbers for owners of which an old flist has names only.
///
/// 0-fs asks the host that mounts. A node must not: all nodes of a mesh have to see the same tree, on whatever host they run. So the
/// names that Debian's base system gives fixed numbers (they mean the same nearly everywhere) are resolved, a decimal number
/// stands for itself, and all others become `fallback`, as 0-fs has it for names that its host does not know.
enum WellKnownOwners {
    static let fallback: UInt32 = 1000

    static func uid(_ name: [UInt8]) -> UInt32 { number(name) ?? users[String(decoding: name, as: UTF8.self)] ?? fallback }
    static func gid(_ name: [UInt8]) -> UInt32 { number(name) ?? groups[String(decoding: name, as: UTF8.self)] ?? fallback }

    /// zflist writes numbers beyond 2^31 as negative ones.
    private static func number(_ name: [UInt8]) -> UInt32? {
        guard (1...11).contains(name.count), let value = Int64(String(decoding: name, as: UTF8.self)) else { return nil }
        return UInt32(exactly: value) ?? Int32(exactly: value).map { UInt32(bitPattern: $0) }
    }

    private static let users: [String: UInt32] = [
        "root": 0, "daemon": 1, "bin": 2, "sys": 3, "sync": 4, "games": 5, "man": 6, "lp": 7, "mail": 8, "news": 9, "uucp": 10, "proxy": 13,
        "www-data": 33, "backup": 34, "list": 38, "irc": 39, "gnats": 41, "_apt": 42, "nobody": 65534,
    ]
    private static let groups: [String: UInt32] = [
        "root": 0, "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "lp": 7, "mail": 8, "news": 9, "uucp": 10, "man": 12,
        "proxy": 13, "kmem": 15, "dialout": 20, "fax": 21, "voice": 22, "cdrom": 24, "floppy": 25, "tape": 26, "sudo": 27, "audio": 29,
        "dip": 30, "www-data": 33, "backup": 34, "operator": 37, "list": 38, "irc": 39, "src": 40, "gnats": 41, "shadow": 42, "utmp": 43,
        "video": 44, "sasl": 45, "plugdev": 46, "staff": 50, "games": 60, "users": 100, "nogroup": 65534,
    ]
}
