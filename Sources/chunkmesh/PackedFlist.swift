/// What packing or coding anew says at its end.
struct PackedFlist: Encodable {
    let flist: String
    let entries: Int
    let files: Int
    let bytes: UInt64
    let blocks: Int
    let newChunks: Int
    let newBytes: UInt64
    /// Files that an interrupted run had stored already; absent where runs do not go on.
    var resumedFiles: Int?
    let problems: Int

    func show(json: Bool) throws {
        if json { return try Terminal.json(self) }
        Terminal.out(
            "\(flist): \(entries) entries, \(files) files, \(Terminal.size(bytes)) in \(blocks) blocks; \(newChunks) new chunks, \(Terminal.size(newBytes)) stored"
        )
    }
}
