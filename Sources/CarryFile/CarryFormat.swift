public import ChunkModel

/// The file that carries flists and chunks from one cache to another (docs/carry.md): a head, records one behind the other, an end. It is
/// written and read in one pass, and everything in it can be checked without trusting who wrote it.
public enum CarryFormat {
    public static let magic = Array("chunkmesh cache\n".utf8)
    public static let version: UInt32 = 1
    /// Bytes of the head: magic, version, and three numbers of what is to be expected.
    public static let headBytes = 16 + 4 + 4 + 3 * 8
    /// Bytes before the body of each record: kind, length of the id, two zeros, length of the body, id.
    public static let recordHeadBytes = 1 + 1 + 2 + 8 + 32
    /// Bytes of the end's body: four numbers.
    static let endBytes = 4 * 8

    enum Kind {
        static let end: UInt8 = 0
        static let note: UInt8 = 1
        static let flist: UInt8 = 2
        static let chunk: UInt8 = 3
        /// From here on, kinds that a reader of this version passes over.
        static let firstOptional: UInt8 = 64
    }
}

/// What a reader takes at most; a file beyond it is refused at that place.
public enum CarryLimits {
    /// Bytes of a note.
    public static let noteBytes = 16 << 10
    /// Bytes of an flist's URL, inside the note.
    public static let urlBytes = 8 << 10
    /// Bytes of an flist: what a cache takes in.
    public static let flistBytes: UInt64 = 4 << 30
    /// Flists, and notes, in one file: as many as a node can know, many times over.
    public static let flists = 1024
    /// Bytes of a record of a kind that is passed over.
    public static let optionalBytes: UInt64 = 64 << 20
    /// Records in all.
    public static let records: UInt64 = 1 << 32
}

/// What the file says of itself at its start: for progress only, nothing relies on it.
public struct CarryHead: Equatable, Sendable {
    public var flists: UInt64
    public var chunks: UInt64
    /// Bytes of the whole file, about; 0: not known.
    public var bytes: UInt64

    public init(flists: UInt64, chunks: UInt64, bytes: UInt64) { (self.flists, self.chunks, self.bytes) = (flists, chunks, bytes) }
}

/// What people call an flist, where it came from, and who signed it; stands before the flist itself.
public struct CarryNote: Equatable, Sendable {
    public var digest: FlistDigest
    public var name: String
    /// The URL that it was asked for by, if any.
    public var url: String?
    /// The minisign signature, as its file holds it; empty when there is none.
    public var signature: [UInt8]

    public init(digest: FlistDigest, name: String, url: String?, signature: [UInt8]) {
        (self.digest, self.name, self.url, self.signature) = (digest, name, url, signature)
    }
}

/// What the end counts.
public struct CarryCounts: Equatable, Sendable {
    public var flists: UInt64 = 0
    public var chunks: UInt64 = 0
    /// Bytes of the chunks.
    public var chunkBytes: UInt64 = 0
    /// Chunks of the flists that the writer could not have.
    public var absent: UInt64 = 0

    public init(flists: UInt64 = 0, chunks: UInt64 = 0, chunkBytes: UInt64 = 0, absent: UInt64 = 0) {
        (self.flists, self.chunks, self.chunkBytes, self.absent) = (flists, chunks, chunkBytes, absent)
    }
}

/// Why the bytes are not such a file, or are one no longer; one line for people.
public struct CarryError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
