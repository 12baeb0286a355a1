/// Lists of entity tags in `If-Match`, `If-None-Match` and `If-Range` (RFC 9110 §8.8.3).
enum EntityTags {
    /// Whether the list names `tag` (strong, with its quotes), or is `*`. What follows something that is no tag does not count.
    ///
    /// - Parameter weakly: weak tags match too (§8.8.3.2).
    static func list(_ text: String, names tag: String, weakly: Bool) -> Bool {
        var rest = Substring(text).utf8
        let isBetween = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: ",") }
        while true {
            rest = rest.drop(while: isBetween)
            guard let first = rest.first else { return false }
            if first == UInt8(ascii: "*") { return rest.dropFirst().allSatisfy(isBetween) }
            let isWeak = rest.starts(with: "W/".utf8)
            if isWeak { rest = rest.dropFirst(2) }
            guard rest.first == UInt8(ascii: "\""), let end = rest.dropFirst().firstIndex(of: UInt8(ascii: "\"")) else { return false }
            if !isWeak || weakly, rest[...end].elementsEqual(tag.utf8) { return true }
            rest = rest[rest.index(after: end)...]
        }
    }
}
