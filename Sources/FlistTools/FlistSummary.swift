internal import BlockCodec
public import ChunkModel
public import Flist
internal import SQLiteFile

/// What `flist inspect` shows, ready to be encoded.
public struct FlistSummary: Codable, Sendable {
    public struct RouteLine: Codable, Sendable {
        /// First bytes of ids, both ends inclusive.
        public var start: UInt8
        public var end: UInt8
        /// Without its password.
        public var url: String
        /// The whole range in hex, of which legacy flists may tell more than a byte.
        public var range: String
        /// Lower ones are asked first.
        public var tier: Int
        /// Chunks that were found elsewhere are written there.
        public var cache: Bool

        public init(_ route: Route) {
            (start, end) = (route.range.firstBytes.lowerBound, route.range.firstBytes.upperBound)
            (url, range, tier, cache) = (PackStore.withoutPassword(route.url), route.range.description, route.tier, route.isCache)
        }
    }

    public var path: String
    /// fl or legacy.
    public var format = "fl"
    /// How its blocks are coded, in order of their names: rfs, zstd, legacy, or what a tag calls a way that this version does not know.
    public var codecs: [String] = []
    /// Reachable entries, the root too.
    public var entries = 0
    public var files = 0
    public var directories = 1
    public var symlinks = 0
    public var specials = 0
    /// Sum of the sizes of reachable files.
    public var bytes: UInt64 = 0
    /// Blocks of reachable files.
    public var blocks = 0
    public var uniqueChunks = 0
    /// Plain bytes of the unique chunks whose length can be told from the sizes of files, and how many have one that cannot.
    public var uniqueBytes: UInt64 = 0
    public var chunksOfUnknownSize = 0
    /// Plain bytes that files have in common with other files, or twice themselves: what is saved by storing equal blocks once.
    public var sharedBytes: UInt64 = 0
    public var routes: [RouteLine] = []
    public var tags: [String: String] = [:]
    /// What was ignored while opening.
    public var notes: [String] = []
    /// Refused entries, quoted, at most `maxProblems`.
    public var problems: [String] = []
    public var problemCount = 0

    /// Lines of `problems`; further ones are counted only.
    public static let maxProblems = 1000

    /// Reads the whole flist (seconds for a million inodes); blocks. Tags are foreign text: quote them before showing them.
    ///
    /// - Parameters:
    ///   - entry: called for each reachable entry but the root, with its path.
    ///   - chunk: called at the end for each unique chunk in order of the ids, with its plain bytes where they can be told.
    /// - Throws: `FlistError` when the flist is damaged, and what the closures throw.
    public init(
        _ flist: FlistFile, entry: (FlistEntry, _ path: [UInt8]) throws -> Void = { _, _ in },
        chunk: ((ChunkID, _ plainBytes: Int?) throws -> Void)? = nil
    ) throws {
        try flist.checkIntegrity()
        path = flist.path
        entries = 1
        do {
            let ledger = try ChunkLedger()
            var walker = FlistWalker(flist, below: flist.root())
            while let item = try walker.next() {
                switch item {
                case .problem(let problem): add(problem.line)
                case .entry(let visit):
                    count(visit.entry)
                    if visit.entry.isFile { try add(visit, of: flist, to: ledger) }
                    try entry(visit.entry, visit.path)
                }
            }
            // Rows that no entry leads to belong to the flist's chunks too.
            for id in try flist.uniqueChunks() { try ledger.add(id, plain: nil) }
            let sums = try ledger.sums()
            (uniqueChunks, uniqueBytes, chunksOfUnknownSize) = (sums.chunks, sums.plainBytes, sums.unknown)
            sharedBytes = ledger.plainBytes > uniqueBytes ? ledger.plainBytes - uniqueBytes : 0
            var lengths: Set<ChunkID.Length> = []
            try ledger.forEach { id, plain in
                lengths.insert(id.length)
                try chunk?(id, plain)
            }
            let full = flist.blockCoding?.name ?? flist.tags.first { $0.key == FlistTag.codec }?.value ?? ""
            codecs = ((lengths.contains(.full) ? [full] : []) + (lengths.contains(.legacy) ? [BlockCoding.legacy.name] : [])).sorted()
        } catch let error as SQLiteError {
            throw ToolError.scratch(error)
        }
        routes = flist.routes.map { RouteLine($0) }
        for tag in flist.tags where tags[tag.key] == nil { tags[tag.key] = tag.value }
        notes = flist.notes
    }

    private mutating func count(_ entry: FlistEntry) {
        entries += 1
        switch entry.kind {
        case .file:
            files += 1
            let (sum, overflow) = bytes.addingReportingOverflow(entry.size)
            bytes = overflow ? .max : sum
        case .directory: directories += 1
        case .symlink: symlinks += 1
        case .fifo, .socket, .charDevice, .blockDevice: specials += 1
        }
    }

    private mutating func add(_ visit: FlistWalker.Visit, of flist: FlistFile, to ledger: ChunkLedger) throws {
        do {
            let ids = try flist.blocks(of: visit.entry).map(\.id)
            blocks += ids.count
            try ledger.add(ids, size: visit.entry.size)
        } catch let error as FlistError where error.code == .badBlocks {
            // Said of each file once; an unknown codec is told by `codecs`.
            if flist.blockCoding != nil { add("\(FlistPath.quoted(visit.path)): \(error.message)") }
        }
    }

    private mutating func add(_ problem: String) {
        problemCount += 1
        if problems.count < Self.maxProblems { problems.append(problem) }
    }
}
