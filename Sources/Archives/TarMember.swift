/// What stands in a tar archive about one of its members; all of it is foreign, nothing but the lengths is checked.
public struct TarMember: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        case file
        /// Another name of a member that came before: its path, as bytes.
        case hardLink(target: [UInt8])
        case directory
        case symlink(target: [UInt8])
        case fifo
        case socket
        case charDevice(major: UInt32, minor: UInt32)
        case blockDevice(major: UInt32, minor: UInt32)
        /// A type that tar readers do not know.
        case other
    }

    /// The path's bytes as stored: may be absolute, hold `..`, or end with a slash.
    public let path: [UInt8]
    public let kind: Kind
    /// Bytes of its body as the header says; 0 for all but files.
    public let size: Int64
    /// The mode's lower twelve bits.
    public let permissions: UInt16
    public let uid: UInt32
    public let gid: UInt32
    /// Seconds since 1970.
    public let mtime: Int64

    /// The path without `./` at its start, slashes repeated or at its end, and `.` between slashes.
    public var plainPath: [UInt8] {
        let slash = UInt8(ascii: "/")
        let parts = path.split(separator: slash, omittingEmptySubsequences: true).filter { !$0.elementsEqual(".".utf8) }
        return Array((path.first == slash ? "/" : "").utf8) + Array(parts.joined(separator: [slash]))
    }
}
