internal import Glibc
internal import LocalFiles

/// The file `clean`, which says that the last stop was orderly and what the index must add up to.
struct CleanMarker: Equatable {
    let count: Int
    let bytes: Int64

    private static let name = "clean"
    private var text: String { "\(count) chunks, \(bytes) bytes\n" }

    init(count: Int, bytes: Int64) { (self.count, self.bytes) = (count, bytes) }

    /// Whether `found` in the marker fits.
    func matches(_ found: [UInt8]) -> Bool { Array(text.utf8) == found }

    func write(in root: Int32) {
        let fd = Posix.open(Self.name, at: root, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
        guard fd >= 0 else { return }
        let file = FileHandle(fd)
        let written = Array(text.utf8).withUnsafeBytes { FileBytes.write($0, to: file.fd) } == 0
        if !written || fsync(file.fd) != 0 { unlinkat(root, Self.name, 0) }
        fsync(root)
    }

    /// Reads the marker and removes it for good, so that a power loss from now on counts as unclean.
    ///
    /// - Returns: its bytes; `nil` when there was none.
    static func take(in root: Int32) -> [UInt8]? {
        let fd = Posix.open(name, at: root, O_RDONLY | O_NOFOLLOW)
        guard fd >= 0 else { return nil }
        let file = FileHandle(fd)
        var bytes = [UInt8](repeating: 0, count: 128)
        let count = bytes.withUnsafeMutableBytes { FileBytes.read(into: $0, from: file.fd) }
        guard unlinkat(root, name, 0) == 0, fsync(root) == 0, count >= 0 else { return nil }
        return Array(bytes.prefix(count))
    }
}
