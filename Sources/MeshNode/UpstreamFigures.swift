internal import ControlModel
internal import UpstreamStores

/// Figures of each upstream.
extension MeshNode {
    /// Upstreams that are told apart, so that flists with many routes do not make many series; the rest is summed up as `other`.
    static let maxShownUpstreams = 32
    static let otherUpstreams = "other"

    /// The busiest first, `other` last where there is one. URLs that differ in their credentials only are one.
    var upstreams: [Stats.Upstream] {
        var byURL: [String: Stats.Upstream] = [:]
        for report in stores.reports {
            var shown = Stats.Upstream(report)
            if let same = byURL[report.label] { shown.add(same) }
            byURL[report.label] = shown
        }
        let sorted = byURL.values.sorted { ($1.requests, $1.bytes, $0.url) < ($0.requests, $0.bytes, $1.url) }
        var other = Stats.Upstream(url: Self.otherUpstreams, state: "", statistics: stores.retired, lastError: nil)
        for upstream in sorted.dropFirst(Self.maxShownUpstreams) { other.add(upstream) }
        let isOther = sorted.count > Self.maxShownUpstreams || other.requests > 0 || other.bytes > 0
        return sorted.prefix(Self.maxShownUpstreams) + (isOther ? [other] : [])
    }

    func upstreamMetrics(_ upstreams: [Stats.Upstream], _ text: inout MetricsText) {
        let families: [(name: String, help: String, value: (Stats.Upstream) -> UInt64)] = [
            ("store_requests_total", "Requests to each upstream.", \.requests),
            ("store_bytes_total", "Body bytes received from each upstream.", \.bytes),
            ("store_failures_total", "Attempts at each upstream that failed.", \.failures),
            ("store_missing_total", "Answers of each upstream that it has no such chunk.", \.missing),
            ("store_wrong_bytes_total", "Chunks of each upstream whose bytes did not match their id.", \.verifyFailed),
            ("store_turned_away_total", "Fetches turned away while the upstream was left alone after failures.", \.turnedAway),
        ]
        for (name, help, value) in families {
            text.family(name, "counter", help)
            for upstream in upstreams { text.value(name, Double(value(upstream)), labels: ["upstream": upstream.url]) }
        }
        text.family("store_up", "gauge", "1 when the upstream is asked, 0 while it is left alone after failures.")
        for upstream in upstreams where !upstream.state.isEmpty {
            let isUp = upstream.state != UpstreamReport.State.resting.rawValue
            text.value("store_up", isUp ? 1 : 0, labels: ["upstream": upstream.url])
        }
    }
}

extension Stats.Upstream {
    fileprivate init(_ report: UpstreamReport) {
        self.init(url: report.label, state: report.state.rawValue, statistics: report.statistics, lastError: report.lastError)
    }

    fileprivate init(url: String, state: String, statistics: UpstreamStatistics, lastError: String?) {
        // Directories are not asked by requests, but by chunks.
        let asked = statistics.requests == 0 ? statistics.chunks + statistics.missing : statistics.requests
        self.init(
            url: url, state: state, requests: UInt64(clamping: asked), bytes: UInt64(clamping: statistics.receivedBytes),
            failures: UInt64(clamping: statistics.failureCount), missing: UInt64(clamping: statistics.missing),
            verifyFailed: UInt64(clamping: statistics.badContent), turnedAway: UInt64(clamping: statistics.resting), lastError: lastError)
    }

    fileprivate mutating func add(_ more: Self) {
        for field in [\.requests, \.bytes, \.failures, \.missing, \.verifyFailed, \.turnedAway] as [WritableKeyPath<Self, UInt64>] {
            self[keyPath: field] = self[keyPath: field].addingSaturated(more[keyPath: field])
        }
        // The worse one is told; "well" sorts behind the others.
        if !state.isEmpty, !more.state.isEmpty, state == UpstreamReport.State.well.rawValue { state = more.state }
        lastError = lastError ?? (state.isEmpty ? nil : more.lastError)
    }
}
