/// What to pack, and where to.
public struct PackOptions: Sendable {
    /// The tree; itself becomes the root of the flist.
    public var directory: String
    /// Output, stores, routes, tags, codec.
    public var session: PackSession.Options
    /// Adds up the sizes of all files first, for `PackProgress.bytesTotal`.
    public var measuresFirst = true

    public init(directory: String, output: String, stores: [PackStore]) {
        self.directory = directory
        session = PackSession.Options(output: output, stores: stores)
        session.isResumable = true
    }
}

/// How far packing is.
public struct PackProgress: Sendable {
    public var bytesDone: UInt64 = 0
    /// Of regular files, as they were when packing began; 0 unless `PackOptions.measuresFirst`.
    public var bytesTotal: UInt64 = 0
    public var entries = 0

    public init() {}
}

/// What packing did. It went wholly well when `problems` is empty.
public struct PackReport: Sendable {
    public var entries = 0
    public var files = 0
    public var bytes: UInt64 = 0
    public var blocks = 0
    /// Files whose blocks an interrupted run had stored already.
    public var resumedFiles = 0
    /// Chunks that a store did not have before, and their stored bytes.
    public var newChunks = 0
    public var newBytes: UInt64 = 0
    /// One line for each entry that was left out or changed while it was read; at most `FlistPacker.maxLines`.
    public var problems: [String] = []
    /// All of them, those beyond `maxLines` too.
    public var problemCount = 0
    /// What a reader may want to know, but is no failure.
    public var notes: [String] = []
}
