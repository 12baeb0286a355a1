public import ChunkModel
public import Flist
internal import Glibc

/// Writes an flist anew with other tags or routes.
///
/// Inodes, link targets and blocks are copied row by row, those that readers refuse too, in their order: the new file reads exactly as the
/// original does, and its chunks have the same numbers in the mesh. The original is only read, and nothing of its schema gets into the
/// copy: tables, columns, indexes and triggers that neither `.fl` nor this program knows stay behind.
public enum FlistEditor {
    /// Bytes of a tag's key and value, and of a route's URL: what readers take note of (rfs declares less, and keeps no limit).
    public static let maxKeyBytes = 1024
    public static let maxValueBytes = 65_536
    public static let maxURLBytes = 8192

    /// How many rows were copied between two looks at `check`.
    private static let rowsBetweenChecks = 8192

    /// - Parameters:
    ///   - output: the file to write; may be the original itself, which is replaced when all went well.
    ///   - check: called now and then; when it throws, nothing is changed.
    /// - Throws: `FlistError` when the original is damaged: a part is never copied for the whole.
    public static func rewrite(
        _ flist: FlistFile, to output: String, tags: [FlistTag], routes: [Route], check: () throws -> Void = {}
    ) throws {
        for tag in tags { try validate(tag) }
        for route in routes { try validate(route) }
        guard tags.count <= FlistFile.maxTagRows else { throw ToolError("more than \(FlistFile.maxTagRows) tags") }
        guard routes.count <= FlistFile.maxRouteRows else { throw ToolError("more than \(FlistFile.maxRouteRows) routes") }
        try flist.checkIntegrity()
        try NewFlist.write(output, like: flist.path) { writer in
            // What was converted from a legacy flist keeps what it says beyond an .fl.
            var isConverted = routes.contains { !$0.isPlain }
            try flist.forEachRow(of: .problem) { _ in isConverted = true }
            if isConverted { try writer.addIndexTables(routes) }
            for route in routes where !route.isCache { try writer.add(route: route) }
            for tag in tags { try writer.add(tag: tag) }
            var rows = 0
            for table in [FlistFile.Table.inode, .extra, .block, .problem] {
                try flist.forEachRow(of: table) { values in
                    rows += 1
                    if rows % rowsBetweenChecks == 0 { try check() }
                    try writer.copy(values, to: table)
                }
            }
        }
    }

    /// Whether a signature lies beside `path`, which does not fit any other bytes: minisign's `.minisig`.
    public static func hasSignature(_ path: String) -> Bool { access(path + ".minisig", F_OK) == 0 }

    private static func validate(_ tag: FlistTag) throws {
        let shown = FlistPath.quoted(Array(tag.key.utf8.prefix(100)))
        guard !tag.key.isEmpty else { throw ToolError("a tag needs a key") }
        guard tag.key.utf8.count <= maxKeyBytes else { throw ToolError("tag \(shown): a key of over \(maxKeyBytes) bytes") }
        guard tag.value.utf8.count <= maxValueBytes else { throw ToolError("tag \(shown): a value of over \(maxValueBytes) bytes") }
    }

    private static func validate(_ route: Route) throws {
        let shown = FlistPath.quoted(Array(route.url.utf8.prefix(200)))
        guard route.url.contains("://"), (1...maxURLBytes).contains(route.url.utf8.count), !route.url.utf8.contains(0) else {
            throw ToolError("route \(shown): not the URL of a store (such as https://hub.example.org or dir:///srv/hub)")
        }
    }
}

/// Changes to a list of tags.
public struct TagChanges: Sendable {
    /// Tags to set; a value that is there is replaced, in its place.
    public var set: [FlistTag]
    /// Keys to take out.
    public var remove: [String]

    public init(set: [FlistTag] = [], remove: [String] = []) { (self.set, self.remove) = (set, remove) }

    /// - Throws: when a key to be removed is not there.
    public func applied(to tags: [FlistTag]) throws -> [FlistTag] {
        // The key is unique in what is written; readers take the first one.
        var out: [FlistTag] = []
        for tag in tags where !out.contains(where: { $0.key == tag.key }) { out.append(tag) }
        for key in remove {
            guard let index = out.firstIndex(where: { $0.key == key }) else {
                throw ToolError("no tag \(FlistPath.quoted(Array(key.utf8)))")
            }
            out.remove(at: index)
        }
        for tag in set {
            if let index = out.firstIndex(where: { $0.key == tag.key }) { out[index] = tag } else { out.append(tag) }
        }
        return out
    }
}

/// Changes to a list of routes.
public struct RouteChanges: Sendable {
    public var clear: Bool
    /// URLs to take out, with the range if one is given, else whatever their range; a URL matches without its password too.
    public var remove: [(range: ClosedRange<UInt8>?, url: String)]
    /// Routes to add at the end; those that are there already are not added again.
    public var add: [Route]

    public init(clear: Bool = false, remove: [(range: ClosedRange<UInt8>?, url: String)] = [], add: [Route] = []) {
        (self.clear, self.remove, self.add) = (clear, remove, add)
    }

    /// - Throws: when a route to be removed is not there.
    public func applied(to routes: [Route]) throws -> [Route] {
        var out = clear ? [] : routes
        for (range, url) in remove {
            let before = out.count
            out.removeAll { route in
                (route.url == url || PackStore.withoutPassword(route.url) == url) && (range == nil || route.range.firstBytes == range)
            }
            guard out.count < before else { throw ToolError("no route \(FlistPath.quoted(Array(url.utf8)))") }
        }
        for route in add where !out.contains(where: { $0.range == route.range && $0.url == route.url }) { out.append(route) }
        return out
    }
}
