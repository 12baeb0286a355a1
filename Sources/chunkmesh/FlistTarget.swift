import ArgumentParser
import Glibc

/// `FLIST:PATH` as people write it: the path begins behind the last `:/`, or behind the last colon that is not part of a URL.
struct FlistTarget: ExpressibleByArgument {
    let flist: String
    /// Bytes, from `/`.
    let path: [UInt8]

    init?(argument: String) {
        let bytes = Array(argument.utf8)
        var start = 0
        if argument.hasPrefix("http://") || argument.hasPrefix("https://") {
            // Behind scheme and authority, whose colons do not count.
            let authority = argument.hasPrefix("http://") ? 7 : 8
            start = bytes[authority...].firstIndex(of: UInt8(ascii: "/")) ?? bytes.count
        }
        let colons = bytes.indices.filter { $0 >= start && bytes[$0] == UInt8(ascii: ":") }
        let split = colons.last { $0 + 1 < bytes.count && bytes[$0 + 1] == UInt8(ascii: "/") } ?? colons.last
        guard let split else {
            flist = argument
            path = [UInt8(ascii: "/")]
            return
        }
        guard split > 0 else { return nil }
        flist = String(decoding: bytes[..<split], as: UTF8.self)
        let rest = Array(bytes[(split + 1)...])
        path = rest.first == UInt8(ascii: "/") ? rest : [UInt8(ascii: "/")] + rest
    }
}

/// Local files as the daemon is told of them: by their whole path.
enum FlistName {
    static func forDaemon(_ text: String) -> String { localFile(text) ?? text }

    /// Known names hold no slash at their start: such a text can only be a file.
    static func isPath(_ text: String) -> Bool { text.hasPrefix("/") || text.hasPrefix("./") || text.hasPrefix("../") }

    /// The absolute path of `text` when it is a file on this machine.
    static func localFile(_ text: String) -> String? {
        guard !text.contains("://"), let resolved = realpath(text, nil) else { return nil }
        defer { free(resolved) }
        var status = stat()
        guard stat(resolved, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return String(cString: resolved)
    }
}
