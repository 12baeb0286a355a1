public import ChunkModel
public import Flist

/// Makes an `.fl` of a legacy flist without touching its chunks: the block rows keep their ids and keys of 16 bytes. This program reads such
/// a file like any other; rfs does not.
public enum LegacyConverter {
    /// Blocks.
    ///
    /// - Parameters:
    ///   - path: of the legacy flist.
    ///   - target: an empty file, on the device where the `.fl` is to stay; to be thrown away after an error.
    ///   - scratch: a directory for a temporary file as large as the flist's database.
    ///   - routes: what is recorded in place of the flist's own routes.
    ///   - check: called again and again; what it throws ends the work.
    /// - Throws: `FlistError`, with the path in front.
    public static func convert(
        _ path: String, to target: String, scratch: String, routes: ([Route]) throws -> [Route] = { $0 }, check: () throws -> Void = {}
    ) throws(FlistError) {
        guard case .legacy = try FlistFormat(path: path) else {
            throw FlistError(.notFlist, "\(FlistPath.quoted(Array(path.utf8))): not a legacy .flist")
        }
        try FlistFormat.makeIndex(of: path, at: target, scratch: scratch, routes: routes, check: check)
    }
}
