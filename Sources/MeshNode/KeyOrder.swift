internal import ControlModel
internal import MeshKeys
internal import Minisign

/// One step of a rotation, as one node asks it of another.
struct KeyOrder: Sendable, Equatable {
    enum Step: UInt8, Sendable {
        /// Only to say which keys are there.
        case list = 0
        case install = 1
        case use = 2
        case remove = 3

        var shown: KeyRotation.Step? {
            switch self {
            case .list: nil
            case .install: .install
            case .use: .use
            case .remove: .remove
            }
        }

        init(_ step: KeyRotation.Step) {
            switch step {
            case .install: self = .install
            case .use: self = .use
            case .remove: self = .remove
            }
        }
    }

    var step: Step
    var key: MeshKeyFingerprint?
    /// The key itself, to install.
    var newKey: [UInt8]?
    /// Bytes of a minisign signature of the mesh's admin over `AdminText.step`, where there is one.
    var proof: [UInt8] = []

    static let list = KeyOrder(step: .list)

    /// Step, fingerprint, key (to install), signature.
    var encoded: [UInt8] {
        [step.rawValue] + (key?.bytes ?? [UInt8](repeating: 0, count: MeshKeyFingerprint.byteCount))
            + (step == .install ? newKey ?? [] : [])
            + proof
    }

    init(step: Step, key: MeshKeyFingerprint? = nil, newKey: [UInt8]? = nil, proof: [UInt8] = []) {
        (self.step, self.key, self.newKey, self.proof) = (step, key, newKey, proof)
    }

    /// - Returns: `nil` for bytes that `encoded` would not give.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 9, bytes.count <= 9 + MeshKeyRing.keyBytes + MinisignSignature.maxBytes, let step = Step(rawValue: bytes[0])
        else { return nil }
        self.step = step
        var rest = bytes[9...]
        if step == .install {
            guard rest.count >= MeshKeyRing.keyBytes else { return nil }
            newKey = Array(rest.prefix(MeshKeyRing.keyBytes))
            rest = rest.dropFirst(MeshKeyRing.keyBytes)
        }
        key = MeshKeyFingerprint(bytes: bytes[1..<9])
        proof = Array(rest)
    }

    /// Whether the mesh's admin signed it.
    func isProven(by admin: MinisignPublicKey) -> Bool {
        guard let step = step.shown, let key, let signature = try? MinisignSignature(proof) else { return false }
        return signature.isGenuine(for: AdminText.step(step, key: "\(key)"), by: admin)
    }
}

/// What a node answers: its keys, and why it did not do what was asked.
struct KeyAnswer: Sendable, Equatable {
    /// Bytes of a reason; the rest is cut.
    static let maxReasonBytes = 500

    var keys: [MeshKeyFingerprint]
    var problem: String?

    var encoded: [UInt8] {
        [problem == nil ? 1 : 0, UInt8(clamping: keys.count)] + keys.flatMap(\.bytes)
            + Array((problem ?? "").utf8.prefix(Self.maxReasonBytes))
    }

    init(keys: [MeshKeyFingerprint], problem: String? = nil) { (self.keys, self.problem) = (keys, problem) }

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 2, bytes[1] <= MeshKeyRing.maxKeys, bytes.count >= 2 + 8 * Int(bytes[1]) else { return nil }
        keys = (0..<Int(bytes[1])).compactMap { MeshKeyFingerprint(bytes: bytes[(2 + 8 * $0)..<(10 + 8 * $0)]) }
        let reason = bytes.dropFirst(2 + 8 * keys.count).prefix(Self.maxReasonBytes)
        problem = bytes[0] == 1 ? nil : String(decoding: reason, as: UTF8.self)
    }
}
