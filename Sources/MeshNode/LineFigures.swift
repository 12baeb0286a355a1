internal import ControlModel

/// Figures of the line.
extension MeshNode {
    func lineMetrics(_ line: Line?, _ text: inout MetricsText) {
        guard let line else { return }
        text.counter("line_bytes_total", "Bytes that the line to upstream carried for this node, with all headers.", line.nodeBytes)
        text.gauge("line_site_day_bytes", "Bytes that the line carried for the site on this day.", Double(line.dayBytes))
        text.gauge("line_site_month_bytes", "Bytes that the line carried for the site in this accounting month.", Double(line.monthBytes))
        if let cap = line.monthlyCap {
            text.gauge("line_site_month_cap_bytes", "What it may carry in an accounting month.", Double(cap))
        }
        if let rate = line.bitsPerSecond {
            text.gauge("line_site_bits_per_second", "What the site may pull at this hour.", Double(rate))
        }
        if let share = line.shareBitsPerSecond {
            text.gauge("line_share_bits_per_second", "This node's share of it.", Double(share))
        }
        text.family("line_state", "gauge", "1 for the state that the line is in.")
        for state in [LineKeeper.Site.Shown.open, .paused, .stopped, .off, .capReached] {
            text.value("line_state", state.rawValue == line.state ? 1 : 0, labels: ["state": state.rawValue])
        }
    }
}
