"""The live page: what the pipeline sees, in a browser, with an API and metrics beside it.

    hub = Hub(segmenter)                        # .hub: what there is to look at
    sink = WebSink(hub.add(source, painter, tally))  # .sink: takes the pipeline's results, one sink a source
    with hub, WebServer(hub, "127.0.0.1", 8080) as server:  # .server: print server.greeting

Its modules need the extra `web`; this one imports none of them.
"""
