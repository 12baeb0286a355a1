internal import ChunkModel
public import Flist

/// What `flist inspect` shows, ready to be encoded.
public struct FlistSummary: Codable, Sendable {
    public struct RouteLine: Codable, Sendable {
        /// First bytes of ids, both ends inclusive.
        public var start: UInt8
        public var end: UInt8
        public var url: String
    }

    public var path: String
    /// Reachable entries, the root too.
    public var entries = 0
    public var files = 0
    public var directories = 1
    public var symlinks = 0
    public var specials = 0
    /// Sum of the sizes of reachable files.
    public var bytes: UInt64 = 0
    public var uniqueChunks = 0
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
    /// - Throws: `FlistError` when the flist is damaged.
    public init(_ flist: FlistFile) throws {
        try flist.checkIntegrity()
        path = flist.path
        entries = 1
        var walker = FlistWalker(flist, below: flist.root())
        while let item = try walker.next() {
            switch item {
            case .problem(let problem):
                problemCount += 1
                if problems.count < Self.maxProblems { problems.append(problem.line) }
            case .entry(let visit):
                entries += 1
                switch visit.entry.kind {
                case .file:
                    files += 1
                    let (sum, overflow) = bytes.addingReportingOverflow(visit.entry.size)
                    bytes = overflow ? .max : sum
                case .directory: directories += 1
                case .symlink: symlinks += 1
                case .fifo, .socket, .charDevice, .blockDevice: specials += 1
                }
            }
        }
        uniqueChunks = try flist.uniqueChunks().count
        routes = flist.routes.map { RouteLine(start: $0.range.firstBytes.lowerBound, end: $0.range.firstBytes.upperBound, url: $0.url) }
        for tag in flist.tags where tags[tag.key] == nil { tags[tag.key] = tag.value }
        notes = flist.notes
    }
}
