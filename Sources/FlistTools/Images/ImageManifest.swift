internal import Flist

/// The platform of an image, as `os/arch` or `os/arch/variant` (Go's names: linux/amd64, linux/arm64/v8, linux/arm/v7).
public struct ImagePlatform: Hashable, Sendable, CustomStringConvertible {
    public var os: String
    public var architecture: String
    /// Any when there is none.
    public var variant: String?

    public init(os: String, architecture: String, variant: String? = nil) {
        (self.os, self.architecture, self.variant) = (os, architecture, variant)
    }

    /// `nil` unless `text` is of one of the two forms.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (2...3).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        self.init(os: parts[0], architecture: parts[1], variant: parts.count == 3 ? parts[2] : nil)
    }

    init?(_ json: JSONText?) {
        guard let json, let os = json["os"]?.string, let architecture = json["architecture"]?.string else { return nil }
        self.init(os: os, architecture: architecture, variant: json["variant"]?.string.flatMap { $0.isEmpty ? nil : $0 })
    }

    /// Of the machine that this program was built for.
    public static var here: ImagePlatform {
        #if arch(x86_64)
            ImagePlatform(os: "linux", architecture: "amd64")
        #elseif arch(arm64)
            ImagePlatform(os: "linux", architecture: "arm64")
        #elseif arch(arm)
            ImagePlatform(os: "linux", architecture: "arm")
        #elseif arch(i386)
            ImagePlatform(os: "linux", architecture: "386")
        #elseif arch(powerpc64le)
            ImagePlatform(os: "linux", architecture: "ppc64le")
        #elseif arch(s390x)
            ImagePlatform(os: "linux", architecture: "s390x")
        #else
            ImagePlatform(os: "linux", architecture: "riscv64")
        #endif
    }

    /// Whether an image for `other` will do where this one is wanted.
    func accepts(_ other: ImagePlatform) -> Bool {
        os == other.os && architecture == other.architecture && (variant == nil || variant == other.variant)
    }

    public var description: String { ([os, architecture] + (variant.map { [$0] } ?? [])).joined(separator: "/") }
}

/// One image: its configuration, and where its layers are.
struct ImageManifest {
    struct Layer {
        /// The file's name among the blobs.
        var name: String
        /// Of the file as it lies there; `nil` where the archive does not tell (`docker save` of old).
        var digest: ImageDigest?
        /// Of the layer without compression.
        var diffID: ImageDigest?
        /// Bytes of the file.
        var size: Int64
    }

    /// What the image is called in the archive; may be none.
    var names: [String]
    /// Of its manifest, or of its configuration where there is no other.
    var digest: ImageDigest
    var config: JSONText
    var platform: ImagePlatform?
    /// From the bottom to the top.
    var layers: [Layer]
}
