import ArgumentParser
import BlockingThreads
import ControlClient
import ControlModel
import Flist
import LocalFiles
import Minisign
import UpstreamStores

/// How `flist verify` checks who signed an flist.
struct SignatureOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Check the signature too, by this public key of minisign (or its .pub file). May be repeated: one of them must have signed.",
            valueName: "PUBKEY|FILE"))
    var key: [String] = []
    @Option(help: ArgumentHelp("The signature. Default: FLIST.minisig beside the flist.", valueName: "FILE")) var signature: String?
    @Flag(help: "With --key: check nothing but the signature.") var signatureOnly = false

    func validate() throws {
        if key.isEmpty, signature != nil || signatureOnly { throw ValidationError("--signature and --signature-only go with --key") }
    }

    /// Who signed the flist; `nil` without `--key`.
    ///
    /// - Throws: when there is no signature, or it is wrong, or of none of the keys.
    func check(_ flist: String, _ options: APIOptions) async throws -> FlistSigner? {
        guard !key.isEmpty else { return nil }
        let keys = try key.map(Self.publicKey)
        var given: MinisignSignature?
        if let signature {
            given = try MinisignFile.signature(signature)
            if given == nil { throw ControlError.broken("\(signature): no such file") }
        }
        let (file, beside) = try await SignedFlist.find(flist, client: try options.client(), needsSignature: given == nil)
        guard let found = given ?? beside else { throw ControlError.broken("\(flist): no signature is beside it") }
        guard let key = keys.first(where: { $0.id == found.keyID }) else {
            throw ControlError.broken("\(flist): signed with the key \(found.keyID), which is none of those given with --key")
        }
        let path = file.path
        try await BlockingThreads(count: 1).run { try Self.verify(path, found, by: key, shownAs: flist) }
        return FlistSigner(key: "\(found.keyID)", trusted: true, comment: FlistPath.quoted(found.trustedComment))
    }

    private static func verify(
        _ path: String, _ signature: MinisignSignature, by key: MinisignPublicKey, shownAs flist: String
    ) throws(MinisignError) {
        do throws(MinisignError) { try MinisignFile.verify(path, signature, by: key) } catch { throw error.at(flist) }
    }

    private static func publicKey(_ text: String) throws -> MinisignPublicKey {
        if let key = try? MinisignPublicKey(base64: text) { return key }
        do throws(MinisignError) {
            return try MinisignFile.publicKey(text)
        } catch {
            throw ControlError.broken("--key takes a public key of minisign (RW…) or the path of its .pub file; \(error)")
        }
    }
}

/// The bytes of an flist on this machine, with the signature beside it.
struct SignedFlist {
    let path: String
    /// A copy made for this command, removed with it.
    private var temporary: TemporaryFile?

    /// - Returns: the signature that lies beside the flist, if it was asked for.
    static func find(_ flist: String, client: ControlClient, needsSignature: Bool) async throws -> (SignedFlist, MinisignSignature?) {
        if let path = FlistName.localFile(flist) {
            return (SignedFlist(path: path), needsSignature ? try MinisignFile.signature(flist + MinisignFile.suffix) : nil)
        }
        if FlistName.isPath(flist) { throw ControlError.broken("\(flist): no such file") }
        let isURL = flist.hasPrefix("http://") || flist.hasPrefix("https://")
        let file = try TemporaryFile()
        let copy = SignedFlist(path: file.path, temporary: file)
        do {
            let resource = try client.open(flist)
            try file.fill(from: client, resource + "/image")
            if needsSignature, let signature = try signature(resource, client) { return (copy, signature) }
        } catch ControlError.noDaemon where isURL {
            let opener = try StoreOpener.forCommand(named: [])
            _ = try await FlistDownload(curl: CurlMulti(), opener: opener).fetch(flist, to: file.path)
        }
        // A daemon without trusted keys has not looked there.
        guard needsSignature, isURL,
            let bytes = try await SignatureDownload(curl: CurlMulti(), opener: try .forCommand(named: [])).fetch(
                of: flist, maxBytes: MinisignSignature.maxBytes)
        else { return (copy, nil) }
        do throws(MinisignError) {
            return (copy, try MinisignSignature(bytes))
        } catch {
            throw error.at(flist + MinisignFile.suffix)
        }
    }

    /// The one that the daemon has, if any.
    private static func signature(_ resource: String, _ client: ControlClient) throws -> MinisignSignature? {
        do {
            return try MinisignSignature(try client.bytes(resource + "/signature", maxBytes: MinisignSignature.maxBytes))
        } catch ControlError.refused(404, _) {
            return nil
        }
    }

    private init(path: String, temporary: TemporaryFile? = nil) { (self.path, self.temporary) = (path, temporary) }
}
