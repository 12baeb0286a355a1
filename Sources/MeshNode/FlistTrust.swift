internal import Minisign
internal import NodeConfiguration
internal import Synchronization

/// The signature that an flist came with.
struct FlistSignature: Sendable, Equatable {
    let signature: MinisignSignature
    /// Checked, and made with one of `trust.keys`. Otherwise nobody here can say whether it is genuine.
    let isTrusted: Bool
}

/// Whose signatures count on this node (`trust.keys`), and whether an flist needs one (`trust.requireSigned`). A reload may change both.
final class FlistTrust: Sendable {
    private let current: Mutex<Configuration.Trust>

    init(_ trust: Configuration.Trust) { current = Mutex(trust) }

    func set(_ trust: Configuration.Trust) { current.withLock { $0 = trust } }

    /// Without keys signatures are passed on unseen.
    var isActive: Bool { current.withLock { !$0.keys.isEmpty } }
    var requiresSigned: Bool { current.withLock { $0.requireSigned } }

    /// Whether the file at `path` is what the signature was made for. Reads all of it when the key is a trusted one: blocking.
    ///
    /// - Returns: not trusted when the key is unknown.
    /// - Throws: `.wrong` when a trusted key's signature does not fit; `.unreadable`.
    func judge(_ signature: MinisignSignature, of path: String) throws(MinisignError) -> FlistSignature {
        let keys = keys(for: signature)
        var failure: MinisignError?
        for key in keys {
            do throws(MinisignError) {
                try MinisignFile.verify(path, signature, by: key)
                return FlistSignature(signature: signature, isTrusted: true)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return FlistSignature(signature: signature, isTrusted: false)
    }

    /// Whether a trusted key has signed the trusted comment: all that can be said without the flist.
    func mayBeTrusted(_ signature: MinisignSignature) -> Bool {
        keys(for: signature).contains { (try? MinisignVerification(signature, by: $0)) != nil }
    }

    /// More than one only where keys were made to have the same id.
    private func keys(for signature: MinisignSignature) -> [MinisignPublicKey] {
        current.withLock { $0.keys.filter { $0.id == signature.keyID } }
    }
}
