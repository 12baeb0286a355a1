/// Why a text is no XML that is read here.
struct XMLError: Error, Equatable {
    let reason: String
    init(_ reason: String) { self.reason = reason }
}

/// Reads the elements of a small XML document, with their namespaces, and nothing else: text is passed over, and so are attributes but
/// those that declare namespaces. Document types are refused, so there are no entities to be expanded or fetched.
///
/// The caller bounds the bytes; each is looked at a constant number of times for each level of nesting.
struct XMLReader {
    /// Elements within each other.
    static let maxDepth = 16
    /// Namespaces declared on open elements.
    static let maxSpaces = 64

    struct Name: Equatable {
        let space: String
        /// ASCII letters, digits, `-`, `_` and `.`; begins with a letter or `_`.
        let local: String
    }
    enum Event: Equatable {
        case start(Name)
        case end
    }

    private let bytes: [UInt8]
    private var position = 0
    /// Written names of the open elements, with the number of namespaces that were known before each.
    private var open: [(name: String, spaces: Int)] = []
    private var spaces: [(prefix: String, uri: String)] = [("xml", "http://www.w3.org/XML/1998/namespace"), ("", "")]
    /// `<a/>`: its end comes next.
    private var isEmptyElement = false
    private var hasRoot = false

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        // The mark that some put before UTF-8.
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { position = 3 }
    }

    /// The next element's start or end; `nil` after the document's end.
    mutating func next() throws(XMLError) -> Event? {
        if isEmptyElement {
            isEmptyElement = false
            close()
            return .end
        }
        while true {
            guard let start = bytes[position...].firstIndex(of: UInt8(ascii: "<")) else {
                try requireBlank(to: bytes.count)
                guard hasRoot, open.isEmpty else { throw XMLError("it ends too early") }
                return nil
            }
            try requireBlank(to: start)
            position = start + 1
            guard position < bytes.count else { throw XMLError("it ends too early") }
            switch bytes[position] {
            case UInt8(ascii: "?"): try skip("?>")
            case UInt8(ascii: "!"):
                if has("!--") {
                    try skip("-->")
                } else if has("![CDATA["), !open.isEmpty {
                    try skip("]]>")
                } else {
                    throw XMLError("it has a document type, or something else that is not read here")
                }
            case UInt8(ascii: "/"):
                position += 1
                let name = try qualifiedName()
                skipBlank()
                guard take(">"), let last = open.last, last.name == name else { throw XMLError("its tags do not match") }
                close()
                return .end
            default: return .start(try startTag())
            }
        }
    }

    private mutating func startTag() throws(XMLError) -> Name {
        guard !(hasRoot && open.isEmpty) else { throw XMLError("it has more than one root") }
        guard open.count < Self.maxDepth else { throw XMLError("its elements are too deep in each other") }
        hasRoot = true
        let name = try qualifiedName()
        open.append((name, spaces.count))
        while true {
            let before = position
            skipBlank()
            if take("/") {
                guard take(">") else { throw XMLError("a tag is not closed") }
                isEmptyElement = true
                return try resolve(name)
            }
            if take(">") { return try resolve(name) }
            guard position > before else { throw XMLError("a tag is malformed") }
            let attribute = try qualifiedName()
            skipBlank()
            guard take("=") else { throw XMLError("an attribute has no value") }
            skipBlank()
            let value = try quoted()
            if attribute == "xmlns" || attribute.hasPrefix("xmlns:") {
                guard spaces.count < Self.maxSpaces else { throw XMLError("it declares too many namespaces") }
                spaces.append((String(attribute.dropFirst(6)), value))
            }
        }
    }

    private mutating func close() {
        guard let last = open.popLast() else { return }
        spaces.removeLast(spaces.count - last.spaces)
    }

    private func resolve(_ name: String) throws(XMLError) -> Name {
        let parts = name.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let (prefix, local) = parts.count == 2 ? (parts[0], parts[1]) : ("", parts[0])
        guard let space = spaces.last(where: { $0.prefix == prefix }), Self.isLocal(local), parts.count == 1 || !prefix.isEmpty else {
            throw XMLError("it has a name whose namespace is not declared, or that is not read here")
        }
        return Name(space: space.uri, local: String(local))
    }

    private static func isLocal(_ name: Substring) -> Bool {
        guard let first = name.utf8.first, first > UInt8(ascii: "9") else { return false }
        return !name.contains(":")
    }

    /// ASCII letters, digits, `-`, `_`, `.` and `:`.
    private mutating func qualifiedName() throws(XMLError) -> String {
        let rest = bytes[position...]
        let end =
            rest.firstIndex { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: ":"),
                    UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                    false
                default: true
                }
            } ?? bytes.count
        guard end > position, end - position <= 128 else { throw XMLError("it has a name that is not read here") }
        defer { position = end }
        return String(decoding: bytes[position..<end], as: UTF8.self)
    }

    /// An attribute's value; of references only those that XML itself has, and only where they stand for ASCII.
    private mutating func quoted() throws(XMLError) -> String {
        guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") || bytes[position] == UInt8(ascii: "'"),
            let end = bytes[(position + 1)...].firstIndex(of: bytes[position])
        else { throw XMLError("an attribute has no value") }
        let text = bytes[(position + 1)..<end]
        guard !text.contains(UInt8(ascii: "<")) else { throw XMLError("an attribute has a < in it") }
        position = end + 1
        var out = String(decoding: text, as: UTF8.self)
        guard out.contains("&") else { return out }
        var plain = ""
        while let at = out.firstIndex(of: "&") {
            plain += out[..<at]
            guard let end = out[at...].firstIndex(of: ";"), let character = Self.character(out[out.index(after: at)..<end]) else {
                throw XMLError("it has a reference that is not read here")
            }
            plain.append(character)
            out = String(out[out.index(after: end)...])
        }
        return plain + out
    }

    /// What stands between `&` and `;`.
    private static func character(_ reference: Substring) -> Character? {
        switch reference {
        case "lt": return "<"
        case "gt": return ">"
        case "quot": return "\""
        case "apos": return "'"
        case "amp": return "&"
        default:
            let number = reference.hasPrefix("#x") ? UInt8(reference.dropFirst(2), radix: 16) : UInt8(reference.dropFirst(1))
            guard reference.hasPrefix("#"), let number, (0x20..<0x7f).contains(number) else { return nil }
            return Character(Unicode.Scalar(number))
        }
    }

    private mutating func skip(_ end: String) throws(XMLError) {
        let mark = Array(end.utf8)
        while position + mark.count <= bytes.count {
            if bytes[position...].starts(with: mark) {
                position += mark.count
                return
            }
            position += 1
        }
        throw XMLError("it ends too early")
    }

    private func has(_ text: String) -> Bool { bytes[position...].starts(with: text.utf8) }

    private mutating func take(_ text: String) -> Bool {
        guard has(text) else { return false }
        position += text.utf8.count
        return true
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d }

    private mutating func skipBlank() { while position < bytes.count, Self.isBlank(bytes[position]) { position += 1 } }

    /// Outside of the root there is no text.
    private func requireBlank(to end: Int) throws(XMLError) {
        guard open.isEmpty else { return }
        guard bytes[position..<end].allSatisfy(Self.isBlank) else { throw XMLError("it is no XML") }
    }
}
