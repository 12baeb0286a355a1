internal import HTTPTypes
internal import Hummingbird

/// The page at `/`: what the node and its peers do, refreshed every second from the same JSON that scripts read. One file, no
/// outside resources.
enum Dashboard {
    /// Its own script and style, and requests to this API.
    private static let policy =
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'"

    static func answer() -> Response {
        var response = text(page, type: "text/html; charset=utf-8")
        response.headers[.contentSecurityPolicy] = policy
        return response
    }

    static let page = #"""
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
        <title>chunkmesh</title>
        <style>
        :root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --bar: #2c7be5; }
        body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
        h1 { font-size: 1.3rem; margin: 0 0 1rem } h1 small { font-weight: normal; opacity: .65; margin-left: .6rem }
        h2 { font-size: 1rem; margin: 2rem 0 .5rem }
        .figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem }
        .figures div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem }
        .figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums } .figures span { opacity: .7; font-size: .85rem }
        table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
        th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line) } th { font-weight: 600; opacity: .7; font-size: .85rem }
        td.n, th.n { text-align: right } .bar { background: var(--line); border-radius: 4px; height: .55rem; min-width: 8rem }
        .bar i { display: block; background: var(--bar); height: 100%; border-radius: 4px }
        .dead, .left { opacity: .5 } .suspect { color: #d9822b } #problem { color: #c23030 } .none { opacity: .6 }
        </style></head><body>
        <h1><span id="name">chunkmesh</span><small id="where"></small></h1><p id="problem" role="alert"></p>
        <div class="figures" id="figures"></div>
        <h2>Flists</h2><table><thead><tr><th>name<th class="n">chunks<th>on this node<th>at this site<th class="n">copies of the rarest</tr></thead><tbody id="flists"></tbody></table>
        <h2>Jobs</h2><table><thead><tr><th>flist<th>scope<th>state<th>progress<th class="n">seconds</tr></thead><tbody id="jobs"></tbody></table>
        <h2>Upstreams</h2><table><thead><tr><th>store<th>state<th class="n">requests<th class="n">bytes<th class="n">missing<th class="n">failed<th class="n">wrong</tr></thead><tbody id="upstreams"></tbody></table>
        <h2>Peers</h2><table><thead><tr><th>name<th>site<th>address<th>state<th class="n">rtt<th class="n">chunks<th class="n">from<th class="n">to<th class="n">wrong</tr></thead><tbody id="peers"></tbody></table>
        <script>
        const $ = id => document.getElementById(id)
        const size = n => { const u = ['B', 'KiB', 'MiB', 'GiB', 'TiB']; let i = 0; while (n >= 1024 && i < 4) { n /= 1024; i++ } return (i ? n.toFixed(1) : n) + ' ' + u[i] }
        const cell = (text, cls) => { const td = document.createElement('td'); td.textContent = text; if (cls) td.className = cls; return td }
        const bar = (done, all) => { const td = document.createElement('td'), p = all ? Math.floor(100 * done / all) : 100
          const b = document.createElement('div'), i = document.createElement('i'); b.className = 'bar'; b.title = p + ' %'; i.style.width = p + '%'; b.append(i); td.append(b); return td }
        const rows = (id, list, make, empty) => { $(id).replaceChildren(...(list.length ? list.map(x => { const tr = document.createElement('tr'); tr.append(...make(x)); if (x.state) tr.className = x.state; return tr })
          : [(() => { const tr = document.createElement('tr'), td = cell(empty, 'none'); td.colSpan = 9; tr.append(td); return tr })()])) }
        const load = async p => { const r = await fetch(p); if (!r.ok) throw new Error(p + ': ' + r.status); return r.json() }
        async function refresh() {
          try {
            const [s, st, p] = await Promise.all([load('/v1/stats'), load('/v1/status'), load('/v1/peers')])
            $('problem').textContent = ''; $('name').textContent = s.name; $('where').textContent = 'site ' + s.siteName; document.title = s.name + ' – chunkmesh'
            const alive = p.peers.filter(x => x.state === 'alive').length
            const f = [['egress ratio of the site', s.site.egressRatio.toFixed(2)], ['pulled from upstream', size(s.site.upstreamBytes)], ['cache', size(s.cache.bytes) + ' of ' + size(s.cache.maxBytes)],
              ['from peers', size(s.bytes.fromPeers)], ['to peers', size(s.bytes.toPeers)], ['from other sites', size(s.bytes.fromSites)], ['peers alive', alive], ['line to upstream, this month', s.line ? size(s.line.monthBytes) + (s.line.monthlyCap ? ' of ' + size(s.line.monthlyCap) : '') : ''], ['line' + (s.line && s.line.reason ? ': ' + s.line.reason : ''), s.line ? s.line.state + (s.line.bitsPerSecond != null ? ', ' + s.line.bitsPerSecond / 1e6 + ' Mbit/s' : '') : ''], ['wrong chunks', s.errors.verifyFailed], ['upstream errors', s.errors.upstreamErrors]]
            $('figures').replaceChildren(...f.map(([k, v]) => { const d = document.createElement('div'), b = document.createElement('b'), t = document.createElement('span'); b.textContent = v; t.textContent = k; d.append(b, t); return d }))
            rows('flists', st.flists, x => [cell(x.upstream.since ? x.name + ' (upstream does not answer)' : x.name), cell(x.chunks, 'n'), bar(x.node.chunks, x.chunks), bar(x.site.chunks, x.chunks), cell(x.site.minCopies, 'n')], 'none known yet')
            rows('jobs', st.jobs, x => [cell(x.flist), cell(x.scope), cell(x.error ? x.state + ': ' + x.error : x.state), bar(x.doneChunks, x.chunks), cell(x.seconds.toFixed(1), 'n')], 'none')
            rows('upstreams', s.upstreams.map(x => ({ ...x, state: '', now: x.state })), x => { const state = cell(x.now); if (x.lastError) state.title = x.lastError
              return [cell(x.url), state, cell(x.requests, 'n'), cell(size(x.bytes), 'n'), cell(x.missing, 'n'), cell(x.failures, 'n'), cell(x.verifyFailed, 'n')] }, 'none asked yet')
            rows('peers', p.peers, x => [cell(x.name), cell(x.site), cell(x.address), cell(x.shunned ? x.state + ', shunned' : x.state), cell(x.rttMs == null ? '' : x.rttMs.toFixed(1) + ' ms', 'n'), cell(x.chunks, 'n'), cell(size(x.bytesFrom), 'n'), cell(size(x.bytesTo), 'n'), cell(x.verifyFailed, 'n')], 'none: this node is alone')
          } catch (e) { $('problem').textContent = 'The daemon does not answer: ' + e.message }
          setTimeout(refresh, 1000)
        }
        refresh()
        </script></body></html>
        """#
}
