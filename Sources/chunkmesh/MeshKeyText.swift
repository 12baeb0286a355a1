import MeshKeys
import NodeConfiguration

/// A mesh key as it stands in a key file.
enum MeshKeyText {
    static func generate() -> String { Base64.encode(MeshKeyRing.randomKey()) }
}
