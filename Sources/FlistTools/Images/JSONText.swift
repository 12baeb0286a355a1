/// A JSON document of foreign origin, as far as images need it: small, and bounded in depth.
enum JSONText: Hashable, Sendable {
    case null
    case bool(Bool)
    /// As it is written; nothing here computes with it.
    case number(String)
    case string(String)
    case array([JSONText])
    /// The last one of equal names counts.
    case object([String: JSONText])

    /// Arrays and objects inside each other; deeper ones are refused.
    static let maxDepth = 64

    /// `nil` when `bytes` is no JSON document (RFC 8259), holds text that is not UTF-8, or is nested too deeply.
    init?(_ bytes: [UInt8]) {
        var parser = Parser(bytes: bytes)
        guard let value = parser.value(depth: 0) else { return nil }
        parser.skipSpace()
        guard parser.position == bytes.count else { return nil }
        self = value
    }

    subscript(_ name: String) -> JSONText? {
        if case .object(let members) = self { members[name] } else { nil }
    }

    var string: String? { if case .string(let text) = self { text } else { nil } }
    var array: [JSONText]? { if case .array(let items) = self { items } else { nil } }
    var object: [String: JSONText]? { if case .object(let members) = self { members } else { nil } }
    /// Strings of an array; what is none is left out.
    var strings: [String]? { array?.compactMap(\.string) }
    var integer: Int64? { if case .number(let text) = self { Int64(text) } else { nil } }

    /// The document again, names in order, without spaces.
    var text: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .number(let text): text
        case .string(let text): Self.quoted(text)
        case .array(let items): "[" + items.map(\.text).joined(separator: ",") + "]"
        case .object(let members):
            "{" + members.sorted { $0.key < $1.key }.map { Self.quoted($0.key) + ":" + $0.value.text }.joined(separator: ",") + "}"
        }
    }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            default:
                if scalar.value < 0x20 || scalar.value == 0x7f {
                    let hex = String(scalar.value, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out + "\""
    }

    private struct Parser {
        let bytes: [UInt8]
        var position = 0

        var next: UInt8? { position < bytes.count ? bytes[position] : nil }

        mutating func skipSpace() {
            while let byte = next, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { position += 1 }
        }

        mutating func take(_ byte: Character) -> Bool {
            guard next == byte.asciiValue else { return false }
            position += 1
            return true
        }

        mutating func word(_ text: String) -> Bool {
            guard bytes[position...].starts(with: text.utf8) else { return false }
            position += text.utf8.count
            return true
        }

        mutating func value(depth: Int) -> JSONText? {
            guard depth <= JSONText.maxDepth else { return nil }
            skipSpace()
            switch next {
            case UInt8(ascii: "n"): return word("null") ? .null : nil
            case UInt8(ascii: "t"): return word("true") ? .bool(true) : nil
            case UInt8(ascii: "f"): return word("false") ? .bool(false) : nil
            case UInt8(ascii: "\""): return string().map { .string($0) }
            case UInt8(ascii: "["): return list(depth: depth)
            case UInt8(ascii: "{"): return members(depth: depth)
            default: return number()
            }
        }

        private mutating func list(depth: Int) -> JSONText? {
            position += 1
            var items: [JSONText] = []
            skipSpace()
            if take("]") { return .array(items) }
            repeat {
                guard let item = value(depth: depth + 1) else { return nil }
                items.append(item)
                skipSpace()
            } while take(",")
            return take("]") ? .array(items) : nil
        }

        private mutating func members(depth: Int) -> JSONText? {
            position += 1
            var out: [String: JSONText] = [:]
            skipSpace()
            if take("}") { return .object(out) }
            repeat {
                skipSpace()
                guard next == UInt8(ascii: "\""), let name = string() else { return nil }
                skipSpace()
                guard take(":"), let value = value(depth: depth + 1) else { return nil }
                out[name] = value
                skipSpace()
            } while take(",")
            return take("}") ? .object(out) : nil
        }

        private mutating func number() -> JSONText? {
            let start = position
            _ = take("-")
            guard digits() > 0 else { return nil }
            if take("."), digits() == 0 { return nil }
            if take("e") || take("E") {
                if !take("+") { _ = take("-") }
                if digits() == 0 { return nil }
            }
            return .number(String(decoding: bytes[start..<position], as: UTF8.self))
        }

        private mutating func digits() -> Int {
            let start = position
            while let byte = next, (0x30...0x39).contains(byte) { position += 1 }
            return position - start
        }

        private mutating func string() -> String? {
            position += 1
            var out: [UInt8] = []
            while let byte = next {
                position += 1
                switch byte {
                case UInt8(ascii: "\""): return String(validating: out, as: UTF8.self)
                case UInt8(ascii: "\\"):
                    guard let scalar = escape() else { return nil }
                    out += Array(String(Character(scalar)).utf8)
                case 0..<0x20: return nil
                default: out.append(byte)
                }
            }
            return nil
        }

        private mutating func escape() -> Unicode.Scalar? {
            guard let byte = next else { return nil }
            position += 1
            switch byte {
            case UInt8(ascii: "b"): return "\u{8}"
            case UInt8(ascii: "f"): return "\u{c}"
            case UInt8(ascii: "n"): return "\n"
            case UInt8(ascii: "r"): return "\r"
            case UInt8(ascii: "t"): return "\t"
            case UInt8(ascii: "u"):
                guard let unit = hex() else { return nil }
                guard (0xd800..<0xe000).contains(unit) else { return Unicode.Scalar(unit) }
                // Half of a pair alone stands for nothing.
                guard unit < 0xdc00, take("\\"), take("u"), let low = hex(), (0xdc00..<0xe000).contains(low) else { return "\u{fffd}" }
                return Unicode.Scalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00))
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
            default: return nil
            }
        }

        private mutating func hex() -> UInt32? {
            guard position + 4 <= bytes.count else { return nil }
            let text = String(decoding: bytes[position..<position + 4], as: UTF8.self)
            guard text.utf8.allSatisfy({ ($0 | 0x20) >= 0x30 && $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
                let value = UInt32(text, radix: 16)
            else { return nil }
            position += 4
            return value
        }
    }
}
