internal import HTTPTypes

/// What the conditions of a request come to (RFC 9110 §13.2.2).
enum Precondition: Equatable {
    case proceed
    /// 304.
    case notModified
    /// 412.
    case failed

    /// - Parameters:
    ///   - tag: strong, with its quotes.
    ///   - modified: seconds since 1970, as far as HTTP's dates show them.
    init(_ headers: HTTPFields, method: HTTPRequest.Method, tag: String, modified: Int64) {
        self = .proceed
        if let tags = headers[.ifMatch] {
            guard EntityTags.list(tags, names: tag, weakly: false) else {
                self = .failed
                return
            }
        } else if let date = headers[.ifUnmodifiedSince].flatMap(HTTPDate.parse), modified > date {
            self = .failed
            return
        }
        if let tags = headers[.ifNoneMatch] {
            guard EntityTags.list(tags, names: tag, weakly: true) else { return }
            self = method == .get || method == .head ? .notModified : .failed
        } else if method == .get || method == .head, let date = headers[.ifModifiedSince].flatMap(HTTPDate.parse), modified <= date {
            self = .notModified
        }
    }

    /// Whether a range may be sent of what the client has a part of (§13.1.5): the very tag, strong, or the very date.
    static func holds(ifRange text: String, tag: String, modified: Int64) -> Bool {
        if text.utf8.contains(UInt8(ascii: "\"")) { return text == tag }
        return HTTPDate.parse(text) == modified
    }
}
