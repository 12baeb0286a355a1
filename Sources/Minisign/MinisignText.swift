internal import CSodium
internal import ChunkModel

/// The lines of minisign's files, and the base64 in them.
enum MinisignText {
    static let untrustedPrefix = Array("untrusted comment: ".utf8)
    static let trustedPrefix = Array("trusted comment: ".utf8)

    /// The lines without their ends (`\n` or `\r\n`); empty ones at the end are left out.
    static func lines(of bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
            line.last == UInt8(ascii: "\r") ? line.dropLast() : line
        }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
    }

    /// The text of a comment line; `nil` when it is none, or holds control characters other than tabs.
    static func comment(_ line: ArraySlice<UInt8>, prefix: [UInt8]) -> [UInt8]? {
        guard line.starts(with: prefix) else { return nil }
        let text = Array(line.dropFirst(prefix.count))
        return isPlain(text) ? text : nil
    }

    static func isPlain(_ text: [UInt8]) -> Bool { text.allSatisfy { $0 == 9 || ($0 >= 0x20 && $0 != 0x7f) } }

    /// Exactly `count` bytes of plain base64 with padding; `nil` otherwise.
    static func decode(_ text: some Collection<UInt8>, count: Int) -> [UInt8]? {
        Sodium.ready
        guard text.count == (count + 2) / 3 * 4 else { return nil }
        let characters = text.map { CChar(bitPattern: $0) }
        var out = [UInt8](repeating: 0, count: count)
        var length = 0
        let code = sodium_base642bin(
            &out, count, characters, characters.count, nil, &length, nil, Int32(sodium_base64_VARIANT_ORIGINAL))
        return code == 0 && length == count ? out : nil
    }

    static func encode(_ bytes: [UInt8]) -> String {
        Sodium.ready
        var out = [CChar](repeating: 0, count: sodium_base64_encoded_len(bytes.count, Int32(sodium_base64_VARIANT_ORIGINAL)))
        sodium_bin2base64(&out, out.count, bytes, bytes.count, Int32(sodium_base64_VARIANT_ORIGINAL))
        return String(decoding: out.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
