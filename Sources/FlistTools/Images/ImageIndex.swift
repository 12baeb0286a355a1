internal import Flist

/// Finds the one image in an archive or a layout that is asked for.
///
/// OCI's `index.json` is read where there is one (docker has written it beside its own manifest.json since version 25), else manifest.json
/// of `docker save`. Every document is checked against the digest that names it.
struct ImageIndex {
    /// Indexes inside each other.
    private static let maxDepth = 4
    /// Manifests that are looked at.
    private static let maxManifests = 4096

    private let blobs: ImageBlobs
    private let limits: ImageLimits
    private var seen = 0

    init(_ blobs: ImageBlobs, limits: ImageLimits) { (self.blobs, self.limits) = (blobs, limits) }

    /// A manifest that is there, not yet read.
    private struct Candidate {
        var digest: ImageDigest
        var names: Set<String>
        var platform: ImagePlatform?
    }

    /// - Parameters:
    ///   - name: NAME, NAME:TAG or TAG; needed where there are several images.
    ///   - platform: this machine's when `nil`, which counts only where there are images for several.
    static func find(_ blobs: ImageBlobs, name: String?, platform: ImagePlatform?, limits: ImageLimits) throws -> ImageManifest {
        var index = ImageIndex(blobs, limits: limits)
        if let document = try blobs.document("index.json") {
            return try index.fromOCI(document, name: name, platform: platform)
        }
        if let document = try blobs.document("manifest.json") {
            return try index.fromDocker(document, name: name, platform: platform)
        }
        throw ToolError("\(blobs.label): no image: neither OCI's index.json nor manifest.json of docker save")
    }

    // MARK: OCI

    private mutating func fromOCI(_ document: [UInt8], name: String?, platform: ImagePlatform?) throws -> ImageManifest {
        let index = try parse(document, "index.json")
        var candidates: [Candidate] = []
        for descriptor in index["manifests"]?.array ?? [] {
            try collect(descriptor, names: Self.names(descriptor), depth: 0, into: &candidates)
        }
        // The same manifest under several names is one image.
        var byDigest: [ImageDigest: Candidate] = [:]
        var order: [ImageDigest] = []
        for candidate in candidates {
            if byDigest[candidate.digest] == nil { order.append(candidate.digest) }
            byDigest[candidate.digest, default: candidate].names.formUnion(candidate.names)
        }
        candidates = order.compactMap { byDigest[$0] }
        guard !candidates.isEmpty else { throw ToolError("\(blobs.label): its index.json names no image") }
        if let name {
            let known = Set(candidates.flatMap(\.names))
            candidates.removeAll { !$0.names.contains { Self.matches($0, name) } }
            if candidates.isEmpty { throw unknown(name, known) }
        }
        let chosen = try choose(candidates, platform)
        return try manifest(chosen, platform: platform)
    }

    /// Follows indexes down to manifests; what only tells about an image (attestations) is passed over.
    private mutating func collect(_ descriptor: JSONText, names: Set<String>, depth: Int, into out: inout [Candidate]) throws {
        seen += 1
        guard seen <= Self.maxManifests else { throw ToolError("\(blobs.label): over \(Self.maxManifests) manifests in the index") }
        guard let digest = descriptor["digest"]?.string.flatMap({ ImageDigest($0) }) else {
            throw ToolError("\(blobs.label): a manifest without a usable digest in its index (sha256 and sha512 are read)")
        }
        if descriptor["annotations"]?["vnd.docker.reference.type"] != nil { return }
        let type = descriptor["mediaType"]?.string ?? ""
        if type.contains("image.index") || type.contains("manifest.list") {
            guard depth < Self.maxDepth else { throw ToolError("\(blobs.label): over \(Self.maxDepth) indexes inside each other") }
            let index = try parse(try checked(digest), digest.description)
            for below in index["manifests"]?.array ?? [] {
                try collect(below, names: names.union(Self.names(below)), depth: depth + 1, into: &out)
            }
            return
        }
        let platform = ImagePlatform(descriptor["platform"])
        if platform?.os == "unknown" { return }
        // Indexes of all platforms come with the manifests of some of them.
        guard blobs.has(digest.blobPath) || depth == 0 else { return }
        out.append(Candidate(digest: digest, names: names, platform: platform))
    }

    private static func names(_ descriptor: JSONText) -> Set<String> {
        let annotations = descriptor["annotations"]
        return Set(
            ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
                .compactMap { annotations?[$0]?.string })
    }

    /// `docker.io/library/thing:1.2` before `1.2`, its tag alone.
    private static func fullestFirst(_ names: Set<String>) -> [String] {
        names.sorted { ($1.utf8.count, $0) < ($0.utf8.count, $1) }
    }

    private func choose(_ candidates: [Candidate], _ platform: ImagePlatform?) throws -> Candidate {
        var left = candidates
        if platform != nil || left.count > 1 {
            let wanted = platform ?? .here
            let known = left.compactMap(\.platform)
            left.removeAll { $0.platform.map { !wanted.accepts($0) } ?? false }
            if left.isEmpty {
                let list = Set(known.map(\.description)).sorted().map { FlistPath.quoted(Array($0.utf8)) }.joined(separator: ", ")
                throw ToolError("\(blobs.label): no image for \(wanted), but for \(list): choose with --platform")
            }
        }
        // Of variants of one architecture the latest one.
        if left.count > 1, Set(left.map(\.names)).count == 1, Set(left.compactMap(\.platform)).count == left.count {
            left.sort { ($0.platform?.variant ?? "") < ($1.platform?.variant ?? "") }
            return left[left.count - 1]
        }
        guard left.count == 1 else {
            throw several(left.map { $0.names.min() ?? $0.digest.description })
        }
        return left[0]
    }

    private func manifest(_ candidate: Candidate, platform wanted: ImagePlatform?) throws -> ImageManifest {
        let document = try parse(try checked(candidate.digest), candidate.digest.description)
        guard let configDigest = document["config"]?["digest"]?.string.flatMap({ ImageDigest($0) }), let list = document["layers"]?.array
        else { throw ToolError("\(blobs.label): \(candidate.digest) is no manifest of an image (no config, or no layers)") }
        let config = try parse(try checked(configDigest), configDigest.description)
        let layers = try list.map { descriptor in
            guard let digest = descriptor["digest"]?.string.flatMap({ ImageDigest($0) }) else {
                throw ToolError("\(blobs.label): a layer without a usable digest (sha256 and sha512 are read)")
            }
            return ImageManifest.Layer(name: digest.blobPath, digest: digest, size: 0)
        }
        return try complete(
            ImageManifest(
                names: Self.fullestFirst(candidate.names), digest: candidate.digest, config: config,
                platform: ImagePlatform(config) ?? candidate.platform, layers: layers), wanted)
    }

    // MARK: docker save

    private func fromDocker(_ document: [UInt8], name: String?, platform: ImagePlatform?) throws -> ImageManifest {
        guard let images = try parse(document, "manifest.json").array, !images.isEmpty else {
            throw ToolError("\(blobs.label): its manifest.json names no image")
        }
        var found = images
        if let name {
            found.removeAll { image in !(image["RepoTags"]?.strings ?? []).contains { Self.matches($0, name) } }
            if found.isEmpty { throw unknown(name, Set(images.flatMap { $0["RepoTags"]?.strings ?? [] })) }
        }
        guard found.count == 1 else {
            throw several(found.map { $0["RepoTags"]?.strings?.first ?? $0["Config"]?.string ?? "?" })
        }
        guard let configName = found[0]["Config"]?.string, let layers = found[0]["Layers"]?.strings else {
            throw ToolError("\(blobs.label): an image without Config or Layers in its manifest.json")
        }
        guard let bytes = try blobs.document(configName) else {
            throw ToolError("\(blobs.label): no configuration \(FlistPath.quoted(Array(configName.utf8)))")
        }
        // HEX.json, or blobs/sha256/HEX: the name is the digest.
        let digest = ImageDigest.of(bytes, .sha256)
        let stem = configName.split(separator: "/").last.map { $0.hasSuffix(".json") ? $0.dropLast(5) : $0 } ?? ""
        if let named = ImageDigest("sha256:\(stem)"), named != digest { throw mismatch(named) }
        let config = try parse(bytes, configName)
        return try complete(
            ImageManifest(
                names: found[0]["RepoTags"]?.strings ?? [], digest: digest, config: config, platform: ImagePlatform(config),
                layers: layers.map { ImageManifest.Layer(name: $0, digest: Self.digest(ofPath: $0), size: 0) }), platform)
    }

    private static func digest(ofPath path: String) -> ImageDigest? {
        let parts = path.split(separator: "/")
        return parts.count == 3 && parts[0] == "blobs" ? ImageDigest("\(parts[1]):\(parts[2])") : nil
    }

    // MARK: Both

    /// Puts in what the configuration says of the layers, and sees that they are there.
    private func complete(_ manifest: ImageManifest, _ wanted: ImagePlatform?) throws -> ImageManifest {
        var out = manifest
        if let wanted, let platform = manifest.platform, !wanted.accepts(platform) {
            throw ToolError("\(blobs.label): no image for \(wanted), but for \(FlistPath.quoted(Array(platform.description.utf8)))")
        }
        guard out.layers.count <= limits.layers else {
            throw ToolError("\(blobs.label): \(out.layers.count) layers, and up to \(limits.layers) are read")
        }
        let diffIDs = (out.config["rootfs"]?["diff_ids"]?.array ?? []).map { $0.string.flatMap { ImageDigest($0) } }
        guard diffIDs.count == out.layers.count else {
            throw ToolError(
                "\(blobs.label): \(out.layers.count) layers, but \(diffIDs.count) in the image's configuration: no file system image")
        }
        for index in out.layers.indices {
            let name = out.layers[index].name
            guard let (_, size) = try blobs.open(name) else {
                throw ToolError("\(blobs.label): layer \(index + 1) is not in it (\(FlistPath.quoted(Array(name.utf8))))")
            }
            out.layers[index].size = size
            out.layers[index].diffID = diffIDs[index]
            guard diffIDs[index] != nil || out.layers[index].digest != nil else {
                throw ToolError("\(blobs.label): layer \(index + 1) has no usable digest (sha256 and sha512 are read)")
            }
        }
        return out
    }

    private func parse(_ bytes: [UInt8], _ name: String) throws -> JSONText {
        guard let json = JSONText(bytes) else { throw ToolError("\(blobs.label): \(FlistPath.quoted(Array(name.utf8))) is no valid JSON") }
        return json
    }

    /// The document that `digest` names.
    private func checked(_ digest: ImageDigest) throws -> [UInt8] {
        guard let bytes = try blobs.document(digest.blobPath) else { throw ToolError("\(blobs.label): \(digest) is not in it") }
        guard ImageDigest.of(bytes, digest.algorithm) == digest else { throw mismatch(digest) }
        return bytes
    }

    private func mismatch(_ digest: ImageDigest) -> ToolError {
        ToolError("\(blobs.label): damaged image: \(digest) has other bytes than its digest says")
    }

    /// Whether an image called `name` is meant by `wanted`: the whole name, its end from a slash on, or the tag alone; `:latest` may be
    /// left out.
    static func matches(_ name: String, _ wanted: String) -> Bool {
        for form in [wanted, wanted + ":latest"] {
            if name == form || name.hasSuffix("/" + form) || name.hasSuffix(":" + wanted) { return true }
        }
        return false
    }

    private func unknown(_ name: String, _ known: Set<String>) -> ToolError {
        ToolError("\(blobs.label): no image \(FlistPath.quoted(Array(name.utf8))); there is \(Self.list(Array(known)))")
    }

    private func several(_ names: [String]) -> ToolError {
        ToolError("\(blobs.label): several images: choose one of \(Self.list(names)) with --image")
    }

    private static func list(_ names: [String]) -> String {
        let shown = names.sorted().prefix(10).map { FlistPath.quoted(Array($0.utf8.prefix(300))) }.joined(separator: ", ")
        return names.isEmpty ? "none with a name" : shown + (names.count > 10 ? " and \(names.count - 10) more" : "")
    }
}
