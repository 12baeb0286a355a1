internal import ControlModel
internal import Hummingbird
internal import NIOCore

/// A directory of an flist as a page of links: for people, and for programs that walk such pages (`wget -r`, rclone's `http` backend).
enum DirectoryIndex {
    /// Nothing on the page runs or is loaded.
    private static let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

    /// The page is written while the directory is read: memory for one page of entries, however many there are.
    static func make(_ directory: any ServedDirectory, at place: FilesPath, request: Request) -> Response {
        var headers: HTTPFields = [.contentType: "text/html; charset=utf-8", .vary: "Accept"]
        headers[.contentSecurityPolicy] = policy
        headers[.lastModified] = HTTPDate.format(directory.mtime)
        guard request.method != .head else { return FileAnswer.bare(.ok, headers) }
        let listing = directory.listing()
        return Response(
            status: .ok, headers: headers,
            body: ResponseBody { writer in
                try await writer.write(ByteBuffer(string: head(place)))
                while let children = try await listing.next() {
                    var buffer = ByteBufferAllocator().buffer(capacity: children.count * 160)
                    for child in children { buffer.writeString(line(child)) }
                    try await writer.write(buffer)
                }
                try await writer.write(ByteBuffer(string: "</pre></body></html>\n"))
                try await writer.finish(nil)
            })
    }

    private static func head(_ place: FilesPath) -> String {
        let title = "\(Markup.escaped(place.flist.utf8)):\(Markup.escaped(place.path))"
        let up = place.path.contains { $0 != UInt8(ascii: "/") } ? "<a href=\"../\">../</a>\n" : ""
        return """
            <!DOCTYPE html>
            <html><head><meta charset="utf-8"><title>\(title)</title>
            <style>body { font-family: system-ui, sans-serif } a { unicode-bidi: isolate }</style></head>
            <body><h1>\(title)</h1><pre>
            \(up)
            """
    }

    private static func line(_ child: ServedChild) -> String {
        let name = Markup.escaped(child.name)
        let href = RequestPath.escaped(child.name)
        let padding = String(repeating: " ", count: max(1, 50 - child.name.count))
        let date = HTTPDate.short(child.mtime)
        switch child.kind {
        case .file: return "<a href=\"\(href)\">\(name)</a>\(padding) \(date)  \(child.size)\n"
        case .directory: return "<a href=\"\(href)/\">\(name)/</a>\(padding)\(date)  -\n"
        // Without a reference: nobody shall try to read it.
        case .other(let kind): return "\(name)\(padding) \(date)  \(kind)\n"
        }
    }
}

/// Foreign text in HTML and XML.
enum Markup {
    /// What is no UTF-8, and characters that neither format may hold, become U+FFFD.
    static func escaped(_ bytes: some Sequence<UInt8>) -> String {
        var out = ""
        for scalar in String(decoding: Array(bytes), as: UTF8.self).unicodeScalars {
            switch scalar {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\"": out += "&quot;"
            case "'": out += "&#39;"
            default:
                let isAllowed =
                    (0x20..<0x7f).contains(scalar.value) || (0xa0..<0xfffe).contains(scalar.value) || scalar.value >= 0x10000
                out.unicodeScalars.append(isAllowed ? scalar : "\u{FFFD}")
            }
        }
        return out
    }
}
