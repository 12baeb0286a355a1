/// One value from another thread, for a thread that may block.
package final class Latch<Value: Sendable>: @unchecked Sendable {
    private let monitor = Monitor()
    private var value: Value?

    package init() {}

    package func set(_ new: Value) {
        monitor.withLock {
            value = new
            monitor.signal()
        }
    }

    package func wait() -> Value {
        monitor.withLock {
            while true {
                if let value { return value }
                monitor.wait()
            }
        }
    }
}
