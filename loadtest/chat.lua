-- A small chat call that is not streamed, and one line of JSON at the end of the run.
-- wrk … -s chat.lua URL -- PATH AUTHORIZATION BODY

function init(args)
    wrk.method = "POST"
    wrk.path = args[1]
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Authorization"] = args[2]
    wrk.body = args[3]
    request_bytes = wrk.format(nil, args[1])
end

function request()
    return request_bytes
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        'RESULT {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"bad_status":%d,"broken":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        e.status, e.connect + e.read + e.write + e.timeout))
end
