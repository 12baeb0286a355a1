/// What a store means by a reply that is not what was asked for, said so that one knows what to do about it.
struct ZDBRefusal {
    let failure: ZDBFailure

    /// - Parameters:
    ///   - reply: to `command`.
    ///   - isAtFault: whether every other command would meet the same.
    init(_ reply: RESPReply, to command: String, at address: ZDBAddress) {
        if case .error(let text) = reply {
            failure = Self.meaning(of: text, at: address)
        } else {
            failure = ZDBFailure(kind: .broken, retryable: false, line: "the server answered \(command) with \(reply.kind)")
        }
    }

    /// - Parameter reply: to the SELECT or AUTH that a connection begins with.
    init(entrance reply: RESPReply, at address: ZDBAddress) {
        self.init(reply, to: address.entranceName, at: address)
    }

    /// The server's words (FORMATS.md §3, and redis' own), without what is a password.
    private static func meaning(of text: [UInt8], at address: ZDBAddress) -> ZDBFailure {
        let said = address.withoutPassword(ZDBAddress.printable(String(decoding: text, as: UTF8.self)))
        let words = said.lowercased()
        func has(_ some: String...) -> Bool { some.contains { words.contains($0) } }
        let place = address.namespace.map { "namespace \(ZDBAddress.printable($0))" } ?? "the store"
        var isRetryable = false
        let meaning: String?
        if has("namespace not found") {
            meaning = "the server has no \(place)"
        } else if has("access denied") {
            meaning = "wrong password for \(place)"
        } else if has("protected and private") {
            meaning = "\(place) is private: it needs its password, zdb://:PASSWORD@HOST/NAMESPACE"
        } else if has("wrongpass", "invalid password", "invalid username-password") {
            meaning = "wrong password"
        } else if has("authentication disabled", "without any password configured", "no password is set") {
            meaning = "the server wants no password, and was given one"
        } else if has("noauth", "operation not permitted", "authentication required") {
            meaning = "the server wants a password"
        } else if has("frozen") {
            (meaning, isRetryable) = ("\(place) is frozen", true)
        } else if has("read-only", "readonly", "locked") {
            meaning = "\(place) is read-only" + (address.namespace == nil ? "" : ": its owner's password may be missing")
        } else if has("no space left", "oom command not allowed", "misconf") {
            meaning = "\(place) is full"
        } else if has("payload too big", "key too large", "invalid key") {
            meaning = "the server does not take it"
        } else if has("noperm", "wrongtype") {
            meaning = nil
        } else {
            isRetryable = ["loading", "busy", "tryagain", "masterdown", "clusterdown", "max number of clients"].contains {
                words.contains($0)
            }
            meaning = nil
        }
        let line = meaning.map { "\($0) (the server says: \(said))" } ?? "the server says: \(said)"
        // A key of another type, or a value that is too big, says nothing about other chunks.
        let isAtFault = !has("wrongtype", "payload too big", "key too large", "invalid key")
        return ZDBFailure(kind: .status, retryable: isRetryable, line: line, isAtFault: isAtFault)
    }
}

extension ZDBAddress {
    var namespace: String? {
        if case .select(let namespace, _) = entrance { return namespace }
        return nil
    }

    fileprivate var entranceName: String { namespace == nil ? "AUTH" : "SELECT" }

    /// A server may repeat what it was sent.
    fileprivate func withoutPassword(_ text: String) -> String {
        let secret: String?
        switch entrance {
        case .none: secret = nil
        case .select(_, let password): secret = password
        case .authenticate(_, let password): secret = password
        }
        guard let secret, !secret.isEmpty else { return text }
        var result = ""
        var rest = text[...]
        while !rest.isEmpty {
            if rest.hasPrefix(secret) {
                result += "…"
                rest = rest.dropFirst(secret.count)
            } else {
                result.append(rest.removeFirst())
            }
        }
        return result
    }
}
