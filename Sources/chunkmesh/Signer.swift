import ControlClient
import ControlModel
import FlistTools
import Minisign

/// Who signed an flist, as people are told.
enum Signer {
    static func line(_ signer: FlistSigner) -> String {
        Terminal.quoted(signer.key) + (signer.trusted ? "" : " (not checked: nobody here trusts that key)")
            + (signer.comment.map { ": " + Terminal.harmless($0) } ?? "")
    }

    /// By the signature beside a local file, which nobody has checked; by the daemon's word for all else.
    static func find(_ flist: String, client: ControlClient?) throws -> FlistSigner? {
        if FlistName.localFile(flist) != nil {
            return try MinisignFile.signature(flist + MinisignFile.suffix).map { FlistSigner(key: "\($0.keyID)", trusted: false) }
        }
        guard let client else { return nil }
        do throws(ControlError) {
            let known: KnownFlist = try client.post("/v1/flists", OpenRequest(flist: flist))
            return known.signature
        } catch {
            // The flist was read from its hub then.
            guard case .noDaemon = error else { throw error }
            return nil
        }
    }
}

/// What `flist inspect --json` prints: the summary, with the signer beside its fields.
struct InspectedFlist: Encodable {
    let summary: FlistSummary
    let signature: FlistSigner?

    private enum Key: CodingKey { case signature }

    func encode(to encoder: any Encoder) throws {
        try summary.encode(to: encoder)
        var container = encoder.container(keyedBy: Key.self)
        try container.encodeIfPresent(signature, forKey: .signature)
    }
}
