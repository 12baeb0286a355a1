/// Names and paths are bytes; what is printed of them is quoted here.
public enum FlistPath {
    /// Bytes of a path that is shown whole; of longer ones the middle is left out.
    static let shownBytes = 4096

    /// `bytes` as people may see them: unchanged when harmless, else in double quotes with everything escaped that could move
    /// the cursor, start a line, reverse text, hide itself, or is not UTF-8.
    public static func quoted(_ bytes: some Collection<UInt8>) -> String {
        let all = Array(bytes)
        guard all.count > shownBytes else { return quotedWhole(all) }
        return quotedWhole(Array(all.prefix(shownBytes / 2))) + "[…\(all.count - shownBytes) bytes…]"
            + quotedWhole(Array(all.suffix(shownBytes / 2)))
    }

    private static func quotedWhole(_ bytes: [UInt8]) -> String {
        if !bytes.isEmpty, bytes.allSatisfy({ (0x20..<0x7f).contains($0) && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            return String(decoding: bytes, as: UTF8.self)
        }
        var out = ""
        var clean = !bytes.isEmpty
        var decoder = UTF8()
        var position = 0
        while position < bytes.count {
            var rest = bytes[position...].makeIterator()
            switch decoder.decode(&rest) {
            case .scalarValue(let scalar):
                position += UTF8.width(scalar)
                let (text, plain) = shown(scalar)
                out += text
                clean = clean && plain
            case .error, .emptyInput:
                // One byte at a time, so that nothing of a wrong sequence is swallowed.
                out += "\\x" + hex(bytes[position])
                position += 1
                clean = false
                decoder = UTF8()
            }
        }
        return clean ? out : "\"" + out + "\""
    }

    private static func shown(_ scalar: Unicode.Scalar) -> (String, plain: Bool) {
        switch scalar {
        case "\n": return ("\\n", false)
        case "\t": return ("\\t", false)
        case "\r": return ("\\r", false)
        case "\"": return ("\\\"", false)
        case "\\": return ("\\\\", false)
        default: break
        }
        if scalar.value < 0x20 || scalar.value == 0x7f { return ("\\x" + hex(UInt8(scalar.value)), false) }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned:
            return ("\\u{" + String(scalar.value, radix: 16) + "}", false)
        default: return (String(Character(scalar)), true)
        }
    }

    private static func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }

    /// The components between slashes; empty ones left out.
    static func components(_ path: some Collection<UInt8>) -> [[UInt8]] {
        path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: true).map { Array($0) }
    }

    /// `directory` and `name` with one slash between them.
    public static func joined(_ directory: [UInt8], _ name: [UInt8]) -> [UInt8] {
        directory.last == UInt8(ascii: "/") ? directory + name : directory + [UInt8(ascii: "/")] + name
    }

    /// Why `name` cannot be a directory entry, or `nil` (FORMATS.md §4).
    package static func refusal(ofName name: [UInt8]) -> String? {
        if name.isEmpty { return "empty name" }
        if name == [UInt8(ascii: ".")] || name == Array("..".utf8) { return "forbidden name" }
        if name.contains(UInt8(ascii: "/")) { return "name contains a slash" }
        if name.contains(0) { return "name contains NUL" }
        if name.count > 255 { return "name longer than 255 bytes" }
        return nil
    }
}
