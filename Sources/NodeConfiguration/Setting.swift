internal import MeshKeys
internal import UpstreamStores

/// What would have been right in place of a value.
struct ValueError: Error { let reason: String }

/// The value of a key as it was written: one text, or a list of them.
enum Setting: Sendable, Equatable {
    case text(String)
    case list([String])

    var isEmpty: Bool { self == .text("") || self == .list([]) }

    func text() throws(ValueError) -> String {
        guard case .text(let text) = self else { throw ValueError(reason: "takes one value, not a list") }
        return text
    }

    /// A list, or one text with commas between (as environment variables have it).
    func list<T>(_ element: (Setting) throws -> T) throws -> [T] {
        switch self {
        case .list(let items): return try items.map { try element(.text($0)) }
        case .text(let text):
            return try text.split(separator: ",").map { item in
                try element(.text(String(item.trimmed)))
            }
        }
    }

    func label() throws(ValueError) -> String {
        let text = try text()
        guard (1...64).contains(text.utf8.count), text.unicodeScalars.allSatisfy({ $0.value >= 32 && $0.value != 127 }) else {
            throw ValueError(reason: "takes 1 to 64 bytes of printable text")
        }
        return text
    }

    func path() throws(ValueError) -> String {
        let text = try text()
        guard !text.isEmpty, !text.utf8.contains(0) else { throw ValueError(reason: "takes a path") }
        return text
    }

    func bool() throws(ValueError) -> Bool {
        switch try text().lowercased() {
        case "true", "yes", "on", "1": return true
        case "false", "no", "off", "0": return false
        default: throw ValueError(reason: "takes true or false")
        }
    }

    func integer(_ range: ClosedRange<Int>) throws(ValueError) -> Int {
        guard let value = Int(try text()), range.contains(value) else {
            throw ValueError(reason: "takes a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func hostPort(defaultPort: UInt16) throws(ValueError) -> HostPort {
        guard let value = HostPort(try text(), defaultPort: defaultPort) else { throw ValueError(reason: "takes host:port") }
        return value
    }

    /// An address of this machine to listen at.
    func numericHostPort(defaultPort: UInt16) throws(ValueError) -> HostPort {
        let value = try hostPort(defaultPort: defaultPort)
        guard NodeAddress(value.description) != nil else { throw ValueError(reason: "takes a numeric address:port, not \(value.host)") }
        return value
    }

    func address(defaultPort: UInt16) throws(ValueError) -> NodeAddress {
        let value = try hostPort(defaultPort: defaultPort)
        guard let address = NodeAddress(value.description), !address.isUnspecified else {
            throw ValueError(reason: "takes a numeric address:port that peers can reach")
        }
        return address
    }

    func url() throws(ValueError) -> String {
        let text = try text()
        guard let end = text.firstRange(of: "://"), end.lowerBound > text.startIndex, end.upperBound < text.endIndex else {
            throw ValueError(reason: "takes URLs such as https://hub.example.org")
        }
        do throws(UpstreamError) {
            try StoreOpener.check(text)
        } catch {
            throw ValueError(reason: "takes URLs of stores; \(error)")
        }
        return text
    }

    /// `20GiB`, `500MB`, `1048576`.
    func bytes(atLeast minimum: UInt64) throws(ValueError) -> UInt64 {
        let units: [(String, Double)] = [
            ("KIB", 0x1p10), ("MIB", 0x1p20), ("GIB", 0x1p30), ("TIB", 0x1p40), ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12),
            ("K", 0x1p10), ("M", 0x1p20), ("G", 0x1p30), ("T", 0x1p40), ("B", 1), ("", 1),
        ]
        guard let value = try quantity(units), value >= Double(minimum), value < 0x1p62 else {
            throw ValueError(reason: "takes a size such as 20GiB, at least \(minimum) bytes")
        }
        return UInt64(value)
    }

    /// `8mbit`, `500kbit`: bits a second.
    func rate() throws(ValueError) -> UInt64 {
        guard let value = try quantity([("KBIT", 1e3), ("MBIT", 1e6), ("GBIT", 1e9), ("BIT", 1)]), value >= 8000, value <= 1e12 else {
            throw ValueError(reason: "takes a rate such as 8mbit, at least 8kbit")
        }
        return UInt64(value)
    }

    func freeSpace() throws(ValueError) -> Configuration.FreeSpace {
        let text = try text()
        guard text.hasSuffix("%") else { return .bytes(try bytes(atLeast: 0)) }
        guard let value = Double(text.dropLast().trimmed), (0...90).contains(value) else {
            throw ValueError(reason: "takes 0% to 90%, or a size such as 2GiB")
        }
        return .percent(value)
    }

    private func quantity(_ units: [(String, Double)]) throws(ValueError) -> Double? {
        let text = try text().uppercased().trimmed
        for (unit, factor) in units where text.hasSuffix(unit) {
            guard let number = Double(text.dropLast(unit.count).trimmed), number.isFinite, number >= 0 else { return nil }
            return number * factor
        }
        return nil
    }
}

extension StringProtocol {
    /// Without white space at both ends.
    var trimmed: String {
        guard let first = firstIndex(where: { !$0.isWhitespace }), let last = lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return String(self[first...last])
    }
}
