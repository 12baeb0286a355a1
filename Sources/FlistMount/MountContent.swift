internal import Glibc
public import Flist

/// Where a mount's file content comes from: the daemon, or stores that are read directly.
public protocol MountContent: Sendable {
    /// Content that is at hand without waiting for anybody; `nil` when `read` has to be asked. Must not block for longer than a disk does.
    func ready(_ ino: Int64, offset: UInt64, length: Int) -> ContentPiece?

    /// Up to `length` bytes of the file `ino` from `offset`; fewer only at its end.
    ///
    /// - Throws: when they cannot be had; `CancellationError` soon after the task was cancelled. Never wrong bytes.
    func read(_ ino: Int64, offset: UInt64, length: Int) async throws -> ContentPiece

    /// The whole file, decoded, when it lies on this machine's disk now, so that the kernel can read it itself. Does not wait for content.
    func wholeFile(_ ino: Int64) async -> (any DecodedContent)?

    /// Whether `wholeFile` may ever give one.
    var hasWholeFiles: Bool { get }

    /// Asks for all content of the flist ahead.
    func prefetch() async throws
}

/// A piece of a file's content. Where it is used it is copied once, into the kernel.
public enum ContentPiece: Sendable {
    case slices([BlockSlice])
    /// A range of a file of decoded content.
    case file(any DecodedContent, offset: UInt64, length: Int)
    case bytes([UInt8])

    /// Bytes.
    public var count: Int {
        switch self {
        case .slices(let slices): slices.reduce(0) { $0 + $1.range.count }
        case .file(_, _, let length): length
        case .bytes(let bytes): bytes.count
        }
    }
}

/// A file of decoded content on this machine's disk.
public protocol DecodedContent: AnyObject, Sendable {
    /// For reading; valid while this lives.
    var descriptor: Int32 { get }
}

/// A descriptor that is closed with its last reference.
public final class SharedDescriptor: DecodedContent {
    public let descriptor: Int32
    /// - Parameter number: an open descriptor, which the new object owns.
    public init(owning number: Int32) { descriptor = number }
    deinit { close(descriptor) }
}
