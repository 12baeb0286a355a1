import ChunkmeshRead
import Glibc

/// How a program reads flists with the library ChunkmeshRead: lists a tree, or prints a file.
///
///     read-example ls FLIST [PATH]         the tree, one line an entry
///     read-example cat FLIST PATH          the file's bytes
///     read-example time FLIST PATH         reads the file and says how fast that was
///
/// FLIST is a path or URL, or what the daemon knows it by. The daemon on this machine is asked; where none runs, the flist's own stores are, or
/// the one that CHUNKMESH_STORE names.
@main
enum Main {
    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        guard arguments.count >= 2 else { fail("usage: read-example ls|cat|time FLIST [PATH]", status: 2) }
        do {
            let store = getenv("CHUNKMESH_STORE").map { String(cString: $0) }
            let flist = try await ReadableFlist.open(arguments[1], through: store.map { .standAlone(stores: [$0]) } ?? .automatic)
            let path = arguments.count > 2 ? arguments[2] : "/"
            switch arguments[0] {
            case "ls":
                for try await item in flist.walk(Array(path.utf8)) {
                    print("\(item.entry.size)\t\(String(decoding: item.path, as: UTF8.self))")
                }
            case "cat":
                for try await piece in try await flist.file(path).stream() { write(piece) }
            case "time":
                let begun = ContinuousClock.now
                var bytes = 0
                for try await piece in try await flist.file(path).stream(piece: 1 << 20) { bytes += piece.count }
                let took = ContinuousClock.now - begun
                let seconds = Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18
                print("\(bytes) bytes in \(seconds) s: \(Int(Double(bytes) / 1e6 / max(seconds, 1e-9))) MB/s")
            default: fail("usage: read-example ls|cat|time FLIST [PATH]", status: 2)
            }
        } catch {
            fail("read-example: \(error)", status: 1)
        }
    }

    private static func write(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(1, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { fail("read-example: standard output: \(String(cString: strerror(errno)))", status: 1) }
            rest = rest.dropFirst(count)
        }
    }

    private static func fail(_ line: String, status: Int32) -> Never {
        let bytes = Array((line + "\n").utf8)
        _ = Glibc.write(2, bytes, bytes.count)
        exit(status)
    }
}
