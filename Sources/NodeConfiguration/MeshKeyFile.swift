internal import Glibc
public import MeshKeys

extension MeshKeyRing {
    /// Reads a key file: one base64 key of 32 bytes a line, `#` comments and empty lines allowed; the first key is used to send.
    ///
    /// - Throws: `ConfigurationError` with the line that is no key, or when others than the owner may read the file.
    public static func load(file path: String) throws -> MeshKeyRing {
        guard let file = fopen(path, "re") else {
            throw ConfigurationError(place: path, reason: "the mesh key cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var status = stat()
        if fstat(fileno(file), &status) == 0, status.st_mode & 0o007 != 0 {
            throw ConfigurationError(place: path, reason: "everybody on this machine may read the mesh key; run chmod o= on it")
        }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = fread(&bytes, 1, bytes.count, file)
        let text = String(decoding: bytes.prefix(count), as: UTF8.self)
        var keys: [[UInt8]] = []
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = line.trimmed
            if line.isEmpty || line.hasPrefix("#") { continue }
            guard let key = Base64.decode(line), key.count == keyBytes else {
                throw ConfigurationError(
                    place: "\(path):\(number + 1)", reason: "not a base64 key of 32 bytes; make one with: chunkmesh key generate")
            }
            keys.append(key)
        }
        guard let ring = MeshKeyRing(keys: keys) else {
            throw ConfigurationError(
                place: path,
                reason: keys.isEmpty ? "holds no key; make one with: chunkmesh key generate" : "holds more than \(maxKeys) keys")
        }
        return ring
    }
}

/// Base64 with the usual alphabet and padding (RFC 4648 §4).
public enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    public static func encode(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let word = group.reduce(0) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for i in 0..<4 { out.append(i <= group.count ? alphabet[Int(word >> UInt32(18 - 6 * i) & 63)] : UInt8(ascii: "=")) }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// `nil` for anything that `encode` would not have written.
    public static func decode(_ text: String) -> [UInt8]? {
        let characters = Array(text.utf8)
        guard characters.count.isMultiple(of: 4) else { return nil }
        var out: [UInt8] = []
        for start in stride(from: 0, to: characters.count, by: 4) {
            var word: UInt32 = 0
            var padding = 0
            for character in characters[start..<start + 4] {
                if character == UInt8(ascii: "=") {
                    padding += 1
                    word <<= 6
                } else if padding == 0, let value = alphabet.firstIndex(of: character) {
                    word = word << 6 | UInt32(value)
                } else {
                    return nil
                }
            }
            guard padding <= 2, padding == 0 || start + 4 == characters.count else { return nil }
            out += [UInt8(truncatingIfNeeded: word >> 16), UInt8(truncatingIfNeeded: word >> 8), UInt8(truncatingIfNeeded: word)].dropLast(
                padding)
        }
        return encode(out) == text ? out : nil
    }
}
