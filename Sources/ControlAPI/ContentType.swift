/// What a file of an flist is said to be: by the end of its name, since its bytes may be anywhere.
///
/// Pages and scripts among them get no rights: everything from an flist is sent with `nosniff` and a sandbox (`LocalOnly`).
enum ContentType {
    static let unknown = "application/octet-stream"

    /// - Parameter name: bytes of the name or of the whole path.
    static func of(_ name: some BidirectionalCollection<UInt8>) -> String {
        guard let dot = name.lastIndex(of: UInt8(ascii: ".")) else { return unknown }
        let end = name[name.index(after: dot)...]
        guard (1...8).contains(end.count), end.allSatisfy({ (0x21..<0x7f).contains($0) }) else { return unknown }
        return types[String(decoding: end, as: UTF8.self).lowercased()] ?? unknown
    }

    private static let types: [String: String] = [
        // Text is nearly always UTF-8 today.
        "txt": "text/plain; charset=utf-8", "log": "text/plain; charset=utf-8", "md": "text/markdown; charset=utf-8",
        "html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
        "csv": "text/csv; charset=utf-8", "tsv": "text/tab-separated-values; charset=utf-8", "js": "text/javascript; charset=utf-8",
        "mjs": "text/javascript; charset=utf-8", "py": "text/x-python; charset=utf-8", "sh": "text/x-shellscript; charset=utf-8",
        "c": "text/x-c; charset=utf-8", "h": "text/x-c; charset=utf-8", "conf": "text/plain; charset=utf-8",
        "yaml": "application/yaml", "yml": "application/yaml", "toml": "application/toml", "json": "application/json",
        "jsonl": "application/jsonl", "xml": "application/xml", "wasm": "application/wasm", "pdf": "application/pdf",
        "parquet": "application/vnd.apache.parquet", "arrow": "application/vnd.apache.arrow.file", "sqlite": "application/vnd.sqlite3",
        "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "avif": "image/avif",
        "bmp": "image/bmp", "ico": "image/vnd.microsoft.icon", "svg": "image/svg+xml", "tif": "image/tiff", "tiff": "image/tiff",
        "mp3": "audio/mpeg", "flac": "audio/flac", "ogg": "audio/ogg", "opus": "audio/ogg", "wav": "audio/wav", "m4a": "audio/mp4",
        "mp4": "video/mp4", "webm": "video/webm", "mkv": "video/matroska", "mov": "video/quicktime",
        "woff": "font/woff", "woff2": "font/woff2", "ttf": "font/ttf", "otf": "font/otf",
        "gz": "application/gzip", "tgz": "application/gzip", "bz2": "application/x-bzip2", "xz": "application/x-xz",
        "zst": "application/zstd", "zip": "application/zip", "tar": "application/x-tar", "7z": "application/x-7z-compressed",
        "deb": "application/vnd.debian.binary-package", "rpm": "application/x-rpm", "iso": "application/vnd.efi.iso",
        "jar": "application/java-archive", "epub": "application/epub+zip",
    ]
}
