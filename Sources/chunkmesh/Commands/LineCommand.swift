import ArgumentParser
import ControlClient
import ControlModel
import Glibc

struct LineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "line", abstract: "Shows what the site's line to upstream carries, pauses it, and lets it go on.",
        discussion: "A pause holds for all nodes of the site, also for those that start later, until it ends or somebody resumes.")

    enum Action: String, ExpressibleByArgument, CaseIterable { case status, pause, resume }

    @Argument(help: "status, pause or resume.") var action: Action = .status
    @Flag(help: "Pause readers too: what is not at the site cannot be read then.") var all = false
    @Option(name: .customLong("for"), help: ArgumentHelp("End the pause by itself after 90s, 30m, 2h or 1d.", valueName: "TIME"))
    var time: String?
    @OptionGroup var options: APIOptions

    func validate() throws {
        if all || time != nil, action != .pause { throw ValidationError("--all and --for go with pause") }
        if time != nil { _ = try seconds() }
    }

    func run() throws {
        let client = try options.client()
        let line: Line
        switch action {
        case .status: line = try client.get("/v1/line")
        case .pause: line = try client.post("/v1/line", LineRequest(action: .pause, all: all ? true : nil, seconds: try seconds()))
        case .resume: line = try client.post("/v1/line", LineRequest(action: .resume))
        }
        if options.json { return try Terminal.json(line) }
        Self.show(line)
        Terminal.table(
            ["NODE", "WANTS", "SHARE", "THIS MONTH"],
            line.nodes.map { node in
                [
                    Terminal.quoted(node.name), Terminal.quoted(node.wants), node.bitsPerSecond.map(Self.rate) ?? "no limit",
                    Terminal.size(node.monthBytes),
                ]
            }, rightAligned: [2, 3])
    }

    static func show(_ line: Line) {
        let rate = line.bitsPerSecond.map { ", \(Self.rate($0)) for the site" } ?? ", no limit"
        let cap = line.monthlyCap.map { " of \(Terminal.size($0))" } ?? ""
        Terminal.out(
            "line       \(Terminal.quoted(line.state))\(line.state == "off" ? "" : rate); \(Terminal.size(line.dayBytes)) today, \(Terminal.size(line.monthBytes))\(cap) this month"
        )
        if let reason = line.reason { Terminal.out("           \(Terminal.quoted(reason))") }
    }

    private static func rate(_ bits: UInt64) -> String {
        for (unit, factor) in [("gbit", 1_000_000_000.0), ("mbit", 1_000_000), ("kbit", 1_000)] where Double(bits) >= factor {
            let tenths = (Double(bits) / factor * 10).rounded() / 10
            return (tenths == tenths.rounded() ? "\(Int(tenths))" : "\(tenths)") + " " + unit + "/s"
        }
        return "\(bits) bit/s"
    }

    private func seconds() throws -> Int64? {
        guard let time else { return nil }
        let factors: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        guard let unit = time.last, let factor = factors[unit], let number = Int64(time.dropLast()), (1...1_000_000).contains(number),
            number * factor <= 366 * 86_400
        else { throw ValidationError("--for takes a time such as 90s, 30m, 2h or 1d, at most 366d") }
        return number * factor
    }
}
