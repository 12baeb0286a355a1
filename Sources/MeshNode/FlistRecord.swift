internal import ChunkModel

/// What the node remembers of an flist over restarts.
struct FlistRecord: Sendable, Equatable {
    var digest: FlistDigest
    /// What people call it: the last part of the path or URL that it came from.
    var name: String
    /// The URL that it was asked for by, if any.
    var url: String?
    var etag: String?
    var lastModified: String?
    /// Somebody at this node named the file or URL. What only came from a peer may not name places, unless it is signed.
    var isVouched: Bool
    var isPinned = false
    /// Who signed it, as far as is known; found out anew at each start.
    var signature: FlistSignature?

    /// Whether the places that it names may be opened: somebody at this node named the flist, or one of `trust.keys` signed it.
    var mayOpenRoutes: Bool { isVouched || signature?.isTrusted == true }

    /// Names of flists: shown to people and used in URLs of the API. Longer ones are cut.
    static let maxNameBytes = 96

    /// The last part of a path or URL, without its query.
    static func name(of source: String) -> String {
        let plain = source.split(separator: "?", maxSplits: 1).first ?? Substring(source)
        let last = plain.split(separator: "/").last ?? "flist"
        return clean(String(last))
    }

    /// Printable, without slashes, and not longer than `maxNameBytes`.
    static func clean(_ name: String) -> String {
        var out = ""
        for scalar in name.unicodeScalars {
            let shown: Unicode.Scalar = scalar.value < 32 || scalar.value == 127 || scalar == "/" ? "_" : scalar
            guard out.utf8.count + String(shown).utf8.count <= maxNameBytes else { break }
            out.unicodeScalars.append(shown)
        }
        return out.isEmpty ? "flist" : out
    }
}

/// A prefetch that goes on after a restart.
struct JobRecord: Sendable, Equatable {
    var id: String
    var digest: FlistDigest
    var scope: String
    var copies: Int
    var pin: Bool
}
