/// What a request path asks for. Nothing else than these forms is ever looked up, so that no path leaves the directory.
enum HubPath: Equatable {
    /// `/XX/HEX` or `/HEX`, HEX being 32 or 64 lower-case hex digits that begin with XX.
    case chunk(hex: String)
    /// A file directly in the directory that does not begin with a dot.
    case file(name: String)

    /// The longest name that a Linux file has.
    static let maxNameBytes = 255

    /// - Parameter path: as in the request line, without the query.
    init?(_ path: some StringProtocol) {
        let parts = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { Array($0) }
        guard parts.first?.isEmpty == true else { return nil }
        switch parts.count {
        case 2 where Self.isID(parts[1]):
            self = .chunk(hex: String(decoding: parts[1], as: UTF8.self))
        case 2:
            guard let name = Self.unescaped(parts[1]), !name.isEmpty, name.count <= Self.maxNameBytes, name[0] != UInt8(ascii: "."),
                !name.contains(0), !name.contains(UInt8(ascii: "/")), let text = String(validating: name, as: UTF8.self)
            else { return nil }
            self = .file(name: text)
        case 3 where parts[1].count == 2 && Self.isID(parts[2]) && parts[2].starts(with: parts[1]):
            self = .chunk(hex: String(decoding: parts[2], as: UTF8.self))
        default:
            return nil
        }
    }

    /// Where the file may be below the directory, in the order to look. A store of either layout answers either form, which spares
    /// the reader a second request.
    var places: [String] {
        switch self {
        case .chunk(let hex): ["\(hex.prefix(2))/\(hex)", hex]
        case .file(let name): [name]
        }
    }

    private static func isID(_ text: [UInt8]) -> Bool {
        (text.count == 64 || text.count == 32)
            && text.allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            }
    }

    /// `nil` when a %-escape is none.
    private static func unescaped(_ text: [UInt8]) -> [UInt8]? {
        var out: [UInt8] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                out.append(byte)
                continue
            }
            let digits = rest.prefix(2)
            guard digits.count == 2, digits.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
            else { return nil }
            out.append(value)
            rest = rest.dropFirst(2)
        }
        return out
    }
}
