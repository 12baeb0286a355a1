/// The little that is needed of URLs.
enum URLText {
    /// Host and port in lower case, without user and password; `nil` when there is none (as in `dir:///path`).
    static func host(_ url: String) -> String? {
        guard let scheme = url.firstRange(of: "://") else { return nil }
        var authority = url[scheme.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        if let at = authority.lastIndex(of: "@") { authority = authority[authority.index(after: at)...] }
        return authority.isEmpty ? nil : url[..<scheme.lowerBound].lowercased() + "://" + authority.lowercased()
    }
}
