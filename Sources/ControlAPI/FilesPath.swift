internal import ControlModel
internal import Hummingbird

/// `/v1/flists/NAME/KIND/PATH` of a request.
struct FilesPath {
    /// The flist, as it was named.
    let flist: String
    /// `files` or `tree`.
    let kind: String
    /// What stands before the path, as the client wrote it.
    let base: String
    /// Bytes of the path inside the flist, from `/`.
    let path: [UInt8]
    /// Whether the client wrote a slash at the end, as of a directory.
    let endsWithSlash: Bool

    /// - Throws: `badRequest` for escapes that are broken, and for those that no path can mean: `%2F` would be a slash inside a name,
    ///   `%00` the end of one.
    init(_ request: Request) throws(NodeError) {
        let text = request.uri.path
        flist = try Self.name(in: text)
        guard let path = RequestPath.bytes(of: text, after: 4) else { throw .badRequest("the path has a broken percent escape") }
        var escapes = RequestPath.rest(of: text, after: 4).utf8
        while let percent = escapes.firstIndex(of: UInt8(ascii: "%")) {
            guard escapes[percent...].prefix(3).map({ $0 | 0x20 }) != Array("%2f".utf8) else {
                throw .badRequest("the path has an escaped slash (%2F): no name in an flist holds one")
            }
            escapes = escapes[escapes.index(after: percent)...]
        }
        guard !path.contains(0) else { throw .badRequest("the path has a NUL (%00): no name in an flist holds one") }
        self.path = path.isEmpty ? [UInt8(ascii: "/")] : path
        endsWithSlash = path.last == UInt8(ascii: "/")
        kind = text.split(separator: "/", omittingEmptySubsequences: false).dropFirst(4).first.map(String.init) ?? "files"
        base = "/v1/flists/\(RequestPath.escaped(flist.utf8))/\(kind)"
    }

    /// The name in `/v1/flists/NAME/…`.
    static func name(in path: String) throws(NodeError) -> String {
        let segments = path.split(separator: "/", maxSplits: 4, omittingEmptySubsequences: false)
        guard segments.count > 3, let bytes = RequestPath.decode(segments[3].utf8), !bytes.isEmpty else {
            throw .badRequest("the path names no flist")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The path of this directory as a URL's, with a slash at its end.
    var directoryURL: String {
        let inside = RequestPath.escaped(path, keepingSlashes: true)
        return base + (inside.hasSuffix("/") ? inside : inside + "/")
    }

    /// The path of this entry as a URL's.
    var url: String { base + RequestPath.escaped(path, keepingSlashes: true) }
}

extension RequestPath {
    /// The part of `path` behind the first `segments` segments, as it was sent.
    static func rest(of path: String, after segments: Int) -> Substring {
        var rest = Substring(path)
        for _ in 0..<segments {
            guard rest.first == "/" else { return "" }
            rest = rest.dropFirst()
            guard let slash = rest.firstIndex(of: "/") else { return "" }
            rest = rest[slash...]
        }
        return rest
    }

    /// Percent-encodes all but letters, digits and `-._~`: what comes out is the same in a URL, in HTML and in XML.
    static func escaped(_ bytes: some Sequence<UInt8>, keepingSlashes: Bool = false) -> String {
        var out: [UInt8] = []
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                out.append(byte)
            case UInt8(ascii: "/") where keepingSlashes: out.append(byte)
            default: out += [UInt8(ascii: "%"), hexDigits[Int(byte >> 4)], hexDigits[Int(byte & 15)]]
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    private static let hexDigits = Array("0123456789ABCDEF".utf8)
}
