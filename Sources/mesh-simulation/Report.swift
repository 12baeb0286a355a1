internal import Foundation
internal import MeshSimulation

/// Prints a scenario's result, and what it took to compute it.
enum Report {
    private struct Measured<Result: Encodable>: Encodable {
        let result: Result
        /// Of this process, to compute it.
        let cpuSeconds: Double
    }

    static func measure<Result: Encodable>(_ json: Bool, _ run: () -> Result) throws {
        let start = cpuSeconds
        let result = run()
        let measured = Measured(result: result, cpuSeconds: cpuSeconds - start)
        guard json else {
            show(Mirror(reflecting: result), indent: "")
            print("CPU seconds to simulate it: \(figure(measured.cpuSeconds))")
            return
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(measured), as: UTF8.self))
    }

    private static var cpuSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    private static func show(_ mirror: Mirror, indent: String) {
        for child in mirror.children {
            guard let label = child.label else { continue }
            var value = child.value
            let optional = Mirror(reflecting: value)
            if optional.displayStyle == .optional {
                guard let inner = optional.children.first else {
                    print("\(indent)\(label): -")
                    continue
                }
                value = inner.value
            }
            switch value {
            case let spread as Spread:
                print(
                    "\(indent)\(label): p50 \(figure(spread.p50)), p95 \(figure(spread.p95)), most \(figure(spread.most)) (least \(figure(spread.least)))"
                )
            case let number as Double: print("\(indent)\(label): \(figure(number))")
            default:
                let inner = Mirror(reflecting: value)
                if inner.displayStyle == .struct, !inner.children.isEmpty {
                    print("\(indent)\(label):")
                    show(inner, indent: indent + "  ")
                } else {
                    print("\(indent)\(label): \(value)")
                }
            }
        }
    }

    private static func figure(_ value: Double) -> String {
        String(format: abs(value) >= 1_000 ? "%.0f" : abs(value) >= 10 ? "%.1f" : "%.3f", value)
    }
}
