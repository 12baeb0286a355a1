import ArgumentParser

/// The sub-commands stand in a file each, `FlistNAME.swift`.
struct FlistCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flist", abstract: "Makes and looks into flists.",
        subcommands: [
            Pack.self, Unpack.self, Inspect.self, Verify.self, Diff.self, Merge.self, Tags.self, Routes.self, Convert.self,
        ])
}
