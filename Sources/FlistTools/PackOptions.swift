public import ChunkModel
public import Flist
internal import Glibc

/// A store that packing writes to, and the route that is recorded for it.
public struct PackStore: Sendable {
    /// Chunks whose id starts with one of these bytes go there.
    public let range: ClosedRange<UInt8>
    /// As recorded in the flist, where readers find it; passwords are taken out unless `PackOptions.keepPasswords`.
    public let url: String
    public let sink: any BlockingChunkSink

    public init(range: ClosedRange<UInt8> = 0...255, url: String, sink: any BlockingChunkSink) {
        (self.range, self.url, self.sink) = (range, url, sink)
    }

    /// A directory store from `URL` or `xx-yy=URL` (two hex digits each, both ends inclusive), the URL being `dir:///path` or a path.
    public init(argument: String) throws {
        let (range, place) = try Self.split(argument)
        let store = place.hasPrefix("dir://") ? try DirStore(url: place) : DirStore(path: place)
        if !place.hasPrefix("dir://"), place.contains("://") {
            throw ToolError("\(FlistPath.quoted(Array(place.utf8))): packing writes to directory stores only (dir:///path)")
        }
        self.init(range: range, url: try DirStore.url(path: store.path), sink: store)
    }

    /// The range (all when none is given) and the rest of `xx-yy=rest`.
    public static func split(_ argument: String) throws -> (range: ClosedRange<UInt8>, rest: String) {
        let text = Array(argument.utf8)
        guard text.count > 6, text[2] == UInt8(ascii: "-"), text[5] == UInt8(ascii: "="),
            let start = UInt8(String(decoding: text[0..<2], as: UTF8.self), radix: 16),
            let end = UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16)
        else { return (0...255, argument) }
        guard start <= end else { throw ToolError("\(FlistPath.quoted(text)): the range ends before it begins") }
        return (start...end, String(decoding: text[6...], as: UTF8.self))
    }

    /// `url` without the password in its user info; an empty user goes too.
    public static func withoutPassword(_ url: String) -> String {
        guard let scheme = url.range(of: "://") else { return url }
        let rest = url[scheme.upperBound...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard let at = authority.lastIndex(of: "@"), let colon = authority[..<at].firstIndex(of: ":") else { return url }
        let user = authority[..<colon]
        return String(url[..<scheme.upperBound] + user + (user.isEmpty ? rest[rest.index(after: at)...] : rest[at...]))
    }
}

/// What to pack, and where to.
public struct PackOptions: Sendable {
    /// The tree; itself becomes the root of the flist.
    public var directory: String
    /// The `.fl` to write; replaced when all went well enough to have one.
    public var output: String
    /// Every id must be covered by at least one.
    public var stores: [PackStore]
    /// Recorded in place of the stores' own URLs, when there are any: where readers find what was stored.
    public var routes: [Route] = []
    public var tags: [FlistTag] = []
    /// Records passwords of store URLs in the flist, for all to read.
    public var keepPasswords = false
    /// Threads that encode; as many as the machine has processors when `nil`.
    public var workers: Int?

    public init(directory: String, output: String, stores: [PackStore]) {
        (self.directory, self.output, self.stores) = (directory, output, stores)
    }
}

/// How far packing is.
public struct PackProgress: Sendable {
    public var bytesDone: UInt64 = 0
    /// Of regular files, as they were when packing began.
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

extension String {
    /// Where `text` first occurs.
    fileprivate func range(of text: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
