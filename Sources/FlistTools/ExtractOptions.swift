public import BlockCodec
public import ChunkModel

/// Gives the plain bytes of a block; `BlockReader.plainBlock` is one.
public typealias PlainBlockSource = @Sendable (BlockRef) async throws -> ChunkBuffer

/// What to extract, and how.
public struct ExtractOptions: Sendable {
    /// A directory (its content goes into `destination`) or a file (which becomes `destination`, or goes into it when that is a
    /// directory); links are followed inside the flist.
    public var path: [UInt8] = [UInt8(ascii: "/")]
    /// Created when missing. What is there already is never overwritten: an entry that is as recorded is kept as done, all else is a
    /// problem.
    public var destination: String
    /// Sets uid and gid as recorded; usually only root may.
    public var owners = false
    /// Makes device nodes; otherwise they are noted and left out.
    public var devices = false
    /// Keeps set-uid and set-gid bits; otherwise they are cleared.
    public var setIDs = false

    /// A file that is there is compared by content; otherwise size and time decide.
    public var comparesContent = false

    public init(destination: String) { self.destination = destination }
}

/// How far extracting is.
public struct ExtractProgress: Sendable {
    public var files = 0
    public var bytes: UInt64 = 0
}

/// What extracting did. It went wholly well when `problemCount` is 0.
public struct ExtractReport: Sendable {
    public var files = 0
    public var bytes: UInt64 = 0
    public var directories = 0
    public var links = 0
    public var specials = 0
    /// Entries that were there already, as recorded; directories not counted.
    public var kept = 0
    /// One line for each entry that was left out or is not as recorded; at most `FlistExtractor.maxLines`.
    public var problems: [String] = []
    public var problemCount = 0
    /// Entries that were left out on purpose: devices without `ExtractOptions.devices`.
    public var notes: [String] = []
}
