/// `%XX` in URLs (RFC 3986 §2.1).
public enum PercentText {
    /// `text` with its escapes decoded.
    ///
    /// - Returns: `nil` when an escape is none, stands for NUL, or the bytes are not UTF-8.
    public static func decoded(_ text: some StringProtocol) -> String? {
        var out: [UInt8] = []
        var bytes = Array(text.utf8)[...]
        while let byte = bytes.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                out.append(byte)
                continue
            }
            guard let value = Hex.decode(String(decoding: bytes.prefix(2), as: UTF8.self)), value.count == 1, value[0] != 0 else {
                return nil
            }
            out.append(value[0])
            bytes = bytes.dropFirst(2)
        }
        return String(validating: out, as: UTF8.self)
    }
}
