internal import Flist

/// How an image's configuration stands in an flist's tags (docs/images.md).
enum ImageTags {
    /// - Returns: the tags, in order of their names, and a line for each that is left out.
    static func of(_ image: ImageManifest) -> (tags: [FlistTag], dropped: [String]) {
        let config = image.config["config"]
        var values: [(String, String?)] = [
            ("image.architecture", image.platform.map { ([$0.architecture] + ($0.variant.map { [$0] } ?? [])).joined(separator: "/") }),
            ("image.cmd", list(config?["Cmd"])),
            ("image.created", text(image.config["created"])),
            ("image.digest", image.digest.description),
            ("image.entrypoint", list(config?["Entrypoint"])),
            ("image.env", list(config?["Env"])),
            ("image.labels", labels(config?["Labels"])),
            ("image.name", image.names.first),
            ("image.os", image.platform?.os),
            ("image.ports", keys(config?["ExposedPorts"])),
            ("image.stopsignal", text(config?["StopSignal"])),
            ("image.user", text(config?["User"])),
            ("image.volumes", keys(config?["Volumes"])),
            ("image.workdir", text(config?["WorkingDir"])),
        ]
        // What a reader would not take note of is not written.
        var dropped: [String] = []
        values.removeAll { key, value in
            guard let value, value.utf8.count > FlistEditor.maxValueBytes else { return false }
            dropped.append("the tag \(key) is left out: its value has over \(FlistEditor.maxValueBytes) bytes")
            return true
        }
        return (values.compactMap { key, value in value.map { FlistTag(key: key, value: $0) } }, dropped)
    }

    private static func text(_ json: JSONText?) -> String? { json?.string.flatMap { $0.isEmpty ? nil : $0 } }

    /// A list of texts as JSON; `nil` when there is none in it.
    private static func list(_ json: JSONText?) -> String? {
        guard let items = json?.strings, !items.isEmpty else { return nil }
        return JSONText.array(items.map { .string($0) }).text
    }

    /// Names of an object, which docker uses as a set, as a JSON list.
    private static func keys(_ json: JSONText?) -> String? {
        guard let names = json?.object?.keys, !names.isEmpty else { return nil }
        return JSONText.array(names.sorted().map { .string($0) }).text
    }

    private static func labels(_ json: JSONText?) -> String? {
        guard let members = json?.object?.filter({ $0.value.string != nil }), !members.isEmpty else { return nil }
        return JSONText.object(members).text
    }
}
