internal import ControlModel

/// What is said of one entry.
struct DAVEntry {
    let href: String
    let name: [UInt8]
    let isDirectory: Bool
    let size: UInt64
    let modified: Int64
    /// Only where the file is open anyway: of a whole directory it would cost the blocks of every file.
    let tag: String?

    init(href: String, name: [UInt8], modified: Int64) {
        (self.href, self.name, self.modified) = (href, name, modified)
        (isDirectory, size, tag) = (true, 0, nil)
    }

    init(href: String, name: [UInt8], file: any ServedFile) {
        (self.href, self.name, modified, isDirectory) = (href, name, file.mtime, false)
        (size, tag) = (file.size, "\"\(file.entityTag)\"")
    }

    /// `nil` for what has no content.
    init?(_ child: ServedChild, below base: String) {
        switch child.kind {
        case .file: (isDirectory, href) = (false, base + RequestPath.escaped(child.name))
        case .directory: (isDirectory, href) = (true, base + RequestPath.escaped(child.name) + "/")
        case .other: return nil
        }
        (name, size, modified, tag) = (child.name, child.size, child.mtime, nil)
    }
}

/// Which properties a PROPFIND asks for (RFC 4918 §14.20), and the answer for an entry.
enum DAVProperties: Equatable {
    /// Properties that one request may name.
    static let maxNames = 64

    struct Name: Hashable {
        let space: String
        let local: String
    }

    case all
    case names
    case some([Name])

    /// An empty body asks for all.
    init(_ body: [UInt8]) throws(XMLError) {
        self = .all
        guard !body.isEmpty else { return }
        var reader = XMLReader(body)
        var path: [Name] = []
        var names: [Name] = []
        var isAsked = false
        while let event = try reader.next() {
            switch event {
            case .end: path.removeLast()
            case .start(let name):
                path.append(Name(space: name.space, local: name.local))
                guard path[0] == Name(space: "DAV:", local: "propfind") else { throw XMLError("it is no propfind") }
                if path.count == 2 {
                    switch path[1] {
                    case Name(space: "DAV:", local: "allprop"): (self, isAsked) = (.all, true)
                    case Name(space: "DAV:", local: "propname"): (self, isAsked) = (.names, true)
                    case Name(space: "DAV:", local: "prop"): (self, isAsked) = (.some([]), true)
                    // Such as what allprop shall include beside: all there is, is in it.
                    default: break
                    }
                } else if path.count == 3, path[1] == Name(space: "DAV:", local: "prop") {
                    guard names.count < Self.maxNames else { throw XMLError("it names more than \(Self.maxNames) properties") }
                    if !names.contains(path[2]) { names.append(path[2]) }
                }
            }
        }
        guard isAsked else { throw XMLError("it asks for nothing") }
        if case .some = self { self = .some(names) }
    }

    /// One `response` element.
    func answer(for entry: DAVEntry) -> String {
        let known = Self.properties(of: entry)
        var out = "<D:response><D:href>\(entry.href)</D:href>"
        switch self {
        case .all: out += Self.group(known.map { "<D:\($0.name)>\($0.value)</D:\($0.name)>" }, "200 OK")
        case .names: out += Self.group(known.map { "<D:\($0.name)/>" }, "200 OK")
        case .some(let names):
            var (found, absent): ([String], [String]) = ([], [])
            for name in names {
                if name.space == "DAV:", let property = known.first(where: { $0.name == name.local }) {
                    found.append("<D:\(property.name)>\(property.value)</D:\(property.name)>")
                } else {
                    // No prefix can stand for no namespace.
                    let space = Markup.escaped(name.space.utf8)
                    absent.append(space.isEmpty ? "<\(name.local) xmlns=\"\"/>" : "<x:\(name.local) xmlns:x=\"\(space)\"/>")
                }
            }
            if !found.isEmpty || absent.isEmpty { out += Self.group(found, "200 OK") }
            if !absent.isEmpty { out += Self.group(absent, "404 Not Found") }
        }
        return out + "</D:response>\n"
    }

    private static func group(_ properties: [String], _ status: String) -> String {
        "<D:propstat><D:prop>\(properties.joined())</D:prop><D:status>HTTP/1.1 \(status)</D:status></D:propstat>"
    }

    private static func properties(of entry: DAVEntry) -> [(name: String, value: String)] {
        var out = [
            ("displayname", Markup.escaped(entry.name)), ("getlastmodified", HTTPDate.format(entry.modified)),
            ("resourcetype", entry.isDirectory ? "<D:collection/>" : ""), ("supportedlock", ""),
        ]
        if !entry.isDirectory {
            out.append(("getcontentlength", "\(entry.size)"))
            out.append(("getcontenttype", ContentType.of(entry.name)))
            if let tag = entry.tag { out.append(("getetag", Markup.escaped(tag.utf8))) }
        }
        return out
    }
}
